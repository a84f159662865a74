"""Checkpoints: stored, loaded, and refused where they are something else."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from tests.models.small_models import MODELS, all_models, build, checkpoint, trained

from perturbench.errors import PerturbenchError
from perturbench.training.checkpoints import build_model, load_model
from perturbench.training.prediction import predict

IN_A_FRESH_PROCESS = """
import sys, pathlib, torch
from perturbench.training import load_model
folder = pathlib.Path(sys.argv[1])
batch = torch.load(folder / "batch.pt", weights_only=False)
for path in sorted(folder.glob("*.ckpt")):
    with torch.no_grad():
        torch.save(load_model(path).predict(batch), path.with_suffix(".out"))
"""


@all_models
def test_checkpoint_round_trips_through_a_file(module, tmp_path, name):
    torch.save(checkpoint(name), tmp_path / "model.ckpt")
    loaded = load_model(tmp_path / "model.ckpt")
    assert type(loaded) is MODELS[name][0]
    assert not loaded.training
    assert MODELS[name][1].items() <= dict(loaded.hparams).items()
    assert loaded.training_record["gene_names"] == list(module.adata.var_names)
    here, there = (predict(model, module, accelerator="cpu") for model in (trained(name), loaded))
    assert np.array_equal(here.X, there.X)
    assert here.obs.equals(there.obs)


@all_models
def test_checkpoint_has_the_trained_weights(module, name):
    new = build(name, module.context).state_dict()
    weights = trained(name).state_dict()
    if MODELS[name][0].closed_form:
        assert bool(weights) == (name != "control")
        assert not new
    else:
        assert weights.keys() == new.keys()
        assert all(not torch.equal(weights[key], new[key]) for key in new if "weight" in key)


class TestBuild:
    @pytest.mark.parametrize(
        "target", ["perturbench.models.Nothing", "perturbench.nowhere.Model", "Model", "", "perturbench.models.nn.."]
    )
    def test_unknown_target(self, module, target):
        with pytest.raises(PerturbenchError, match=f"model class '{target}' cannot be imported"):
            build_model(target, module.context, {})

    @pytest.mark.parametrize("target", ["perturbench.models.nn.MLP", "numpy.mean"])
    def test_target_that_is_no_model(self, module, target):
        with pytest.raises(PerturbenchError, match=f"'{target}' is not a subclass of perturbench.models.Perturbation"):
            build_model(target, module.context, {})

    def test_unknown_hyperparameter(self, module):
        with pytest.raises(PerturbenchError, match=r"does not take the hyperparameters \{'depth': 3\}: .*'depth'"):
            build_model("perturbench.models.LatentAdditive", module.context, {"depth": 3})

    @pytest.mark.parametrize("hparams", [{"n_layers": 0}, {"dropout": 1.5}])
    def test_hyperparameter_out_of_range(self, module, hparams):
        with pytest.raises(PerturbenchError, match=next(iter(hparams))):
            build_model("perturbench.models.LatentAdditive", module.context, hparams)

    def test_checkpoint_of_something_else(self):
        with pytest.raises(PerturbenchError, match="not a checkpoint of a PerturbationModel"):
            load_model({"state_dict": {}})

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
    def test_file_of_something_else(self, tmp_path, content):
        (tmp_path / "model.ckpt").write_bytes(content)
        with pytest.raises(PerturbenchError, match=r"model\.ckpt"):
            load_model(tmp_path / "model.ckpt")

    def test_missing_file(self, tmp_path):
        with pytest.raises((PerturbenchError, FileNotFoundError), match=r"absent\.ckpt"):
            load_model(tmp_path / "absent.ckpt")


CODE = """
from perturbench.models import LatentAdditive
class Mine(LatentAdditive): pass
open(__file__ + ".ran", "w").close()
"""


class TestCodeOfACheckpoint:
    """A checkpoint names a class; the code of a module that nobody allowed is not run."""

    @pytest.fixture
    def stored(self, tmp_path, monkeypatch):
        """Return a checkpoint of a class in a module that is not imported, and the file that its code would write."""
        for name in ("their_models", "facade"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "their_models.py").write_text(CODE)
        (tmp_path / "facade.py").write_text("from their_models import Mine")
        yield self.of("their_models.Mine"), tmp_path / "their_models.py.ran"
        for name in ("their_models", "facade", "their", "their_models_2"):
            sys.modules.pop(name, None)

    @staticmethod
    def of(target):
        trained = checkpoint("latent")
        return {**trained, "perturbench_model": {**trained["perturbench_model"], "target": target}}

    @pytest.mark.parametrize("allowed", [None, "", "json", "their", "their_models_2"])
    def test_code_that_is_not_allowed(self, stored, tmp_path, allowed):
        if allowed and allowed.startswith("their"):
            (tmp_path / f"{allowed}.py").write_text("")
        with pytest.raises(PerturbenchError, match=r"'their_models\.Mine'.*allow_code_from=\"their_models\""):
            load_model(stored[0], allow_code_from=allowed)
        assert "their_models" not in sys.modules
        assert not stored[1].exists()

    @pytest.mark.parametrize("allowed", ["their_models", "facade"])
    def test_module_that_is_allowed(self, stored, module, allowed):
        loaded = load_model(stored[0], allow_code_from=allowed)
        assert type(loaded).__qualname__ == "Mine"
        here, there = (predict(model, module, accelerator="cpu") for model in (trained("latent"), loaded))
        assert np.array_equal(here.X, there.X)

    def test_class_that_is_imported_already(self, stored):
        from their_models import Mine

        assert type(load_model(stored[0])) is Mine

    def test_file(self, stored, tmp_path):
        torch.save(stored[0], tmp_path / "model.ckpt")
        with pytest.raises(PerturbenchError, match="their_models"):
            load_model(tmp_path / "model.ckpt")
        assert not stored[1].exists()
        assert load_model(tmp_path / "model.ckpt", allow_code_from="their_models").training is False

    @pytest.mark.parametrize("target", [None, "Mine", "", "numpy.mean", "perturbench.models", "perturbench.modelsx.Y"])
    def test_target_that_names_no_class(self, target):
        with pytest.raises(PerturbenchError, match=r"model class|not a name"):
            load_model(self.of(target))

    def test_allowed_module_that_is_not_there(self, stored):
        with pytest.raises(PerturbenchError, match="'no_such_module' of allow_code_from cannot be imported"):
            load_model(stored[0], allow_code_from="no_such_module")


@pytest.mark.shared
def test_checkpoints_predict_the_same_in_a_fresh_process(real_checkpoints, real_module, tmp_path):
    batch = real_module.counterfactuals()[::7]
    torch.save(batch, tmp_path / "batch.pt")
    for name, stored in real_checkpoints.items():
        torch.save(stored, tmp_path / f"{name}.ckpt")
    subprocess.run([sys.executable, "-c", IN_A_FRESH_PROCESS, str(tmp_path)], check=True)
    for name, stored in real_checkpoints.items():
        with torch.no_grad():
            here = load_model(stored).predict(batch)
        there = torch.load(tmp_path / f"{name}.out", weights_only=True)
        assert torch.allclose(here, there, rtol=1e-5, atol=1e-6), name
