"""Stamps: what makes a file stale, and in which words."""

import shutil
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import perturbench
from perturbench.analysis.metrics.registry import profiles, resolve_metrics
from perturbench.config.sections import (
    DataConfig,
    EvaluationConfig,
    HpoConfig,
    PredictionConfig,
    TrainerConfig,
)
from perturbench.datasets import AnnDataDataset, CheckpointDataset, ParquetDataset
from perturbench.errors import PerturbenchError
from perturbench.pipelines.metrics import configured_metrics
from perturbench.pipelines.stage_code import data_code, prediction_code, score_code, training_code
from perturbench.pipelines.stamps import (
    current_inputs,
    require_current_checkpoint,
    score_stamp,
    search_stamp,
    training_stamp,
)
from perturbench.provenance import KEY, Stamp, modules_behind

MODELS = {
    "control": "Control",
    "additive": "Additive",
    "latent_additive": "LatentAdditive",
    "sams_vae": "SAMSVAE",
    "gears.model": "Gears",
}
METRICS = ("rmse_average", "cosine_logfc", "energy_pca")
DATA = DataConfig(dataset="x", source={"path": "x"})
STAMP = Stamp.make(
    "demo",
    "cpa",
    0,
    inputs={"cells": "a", "split": "b"},
    settings={
        "hyperparameters": {"lr": 0.003, "width": 64, "layers": [1, 2]},
        "trainer": {"max_epochs": 500},
        "prediction": {"part": "test", "max_control_cells": None},
        "metrics": ["rmse_average", "mse_average"],
    },
    code={"model": "c", "metrics": "d"},
    command="kedro run",
)


@pytest.fixture
def source(tmp_path) -> Path:
    """A copy of the source code that a test may edit."""
    folder = Path(perturbench.__file__).parent
    return shutil.copytree(folder, tmp_path / "perturbench", ignore=shutil.ignore_patterns("__pycache__"))


def edit(source, file):
    with (source / file).open("a") as text:
        text.write("\nEDITED = True\n")


def code(source):
    """Fingerprints of all code, by what it makes: each model's checkpoint, and the scores of each metric."""
    checkpoints = {name: training_code(f"perturbench.models.{name}.{cls}", source) for name, cls in MODELS.items()}
    return checkpoints | {name: score_code(resolve_metrics(name), source) for name in METRICS}


def stale(before, after):
    """Which of :func:`code` is stale, and why."""
    reasons = {name: Stamp.make(code=after[name]).differences(Stamp.make(code=before[name])) for name in before}
    return {name: changed for name, changed in reasons.items() if changed}


def each(names, reason):
    return {name: [f"code of the {reason}"] for name in names}


EVERY_MODEL, EVERY_SCORE = each(MODELS, "model"), each(METRICS, "scoring")


@pytest.mark.parametrize(
    ("file", "reasons"),
    [
        ("models/nn/mlp.py", each(["latent_additive", "sams_vae"], "model")),
        ("models/nn/mask.py", each(["latent_additive", "sams_vae"], "model")),
        ("models/nn/gaussian.py", {"sams_vae": ["code of the model"]}),
        ("models/latent_additive.py", {"latent_additive": ["code of the model"]}),
        ("models/closed_form.py", each(["control", "additive"], "model")),
        ("models/gears/network.py", {"gears.model": ["code of the model"]}),
        ("models/base.py", EVERY_MODEL),
        ("training/fitting.py", each(MODELS, "training")),
        ("training/callbacks.py", each(MODELS, "training")),
        ("data/loading/matching.py", each(MODELS, "data loading")),
        ("data/groups.py", each(MODELS, "data loading") | EVERY_SCORE),
        ("data/group_sums.py", each(["control", "additive", "gears.model"], "data loading") | EVERY_SCORE),
        ("analysis/evaluation.py", EVERY_SCORE),
        ("analysis/profiles/reference.py", EVERY_SCORE),
        ("analysis/metrics/registry.py", each(METRICS, "metrics")),
        ("analysis/metrics/distributions.py", {"energy_pca": ["code of the metrics"]}),
        ("analysis/metrics/collapse.py", {}),
        ("analysis/report/page.py", {}),
        ("analysis/leaderboard.py", {}),
        ("analysis/figures/scores.py", {}),
        ("analysis/inference/uncertainty.py", {}),
        ("training/prediction.py", {}),
        ("errors.py", {}),
    ],
)
def test_an_edited_file_makes_stale_what_uses_it_and_nothing_else(source, file, reasons):
    before = code(source)
    edit(source, file)
    assert stale(before, code(source)) == reasons


def test_the_code_of_predictions_is_apart_from_that_of_checkpoints(source):
    before = prediction_code(source)
    edit(source, "training/prediction.py")
    assert prediction_code(source) != before


def test_the_code_of_data_is_known_by_stage():
    assert set(data_code(None)) == {"curation", "splitter", "preprocessing"}
    assert set(data_code("scgpt")) == {"curation", "splitter", "preprocessing", "embedding"}
    assert data_code("scgpt")["embedding"] != data_code("pca")["embedding"]
    names = modules_behind(["perturbench.data.splits"], ["perturbench.data"])
    assert "perturbench.data.splits.methods" in names


def test_a_users_model_is_known_by_its_file_and_its_neighbours(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    model, layers, other = (tmp_path / f"my_{name}.py" for name in ("model", "layers", "other"))
    model.write_text("import torch\nfrom my_layers import Layer\nfrom perturbench.models import LinearAdditive\n")
    layers.write_text("from perturbench.models.nn import MLP\n")
    other.write_text("")
    first = training_code("my_model.Mine")
    followed = modules_behind(["my_model"], ["perturbench.models"])
    assert {"my_model", "my_layers", "perturbench.models.linear_additive", "perturbench.models.nn.mlp"} < set(followed)
    assert not {"torch", "my_other", "perturbench.models.cpa"} & set(followed)
    other.write_text("a = 1")
    assert training_code("my_model.Mine") == first
    layers.write_text("from perturbench.models.nn import MLP\na = 1\n")
    assert training_code("my_model.Mine")["model"] != first["model"]


def test_a_users_package_is_followed_through_relative_imports(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "my_package"
    (package / "deep").mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "layers": "",
        "deep/__init__": "",
        "deep/model": "from ..layers import Layer\nfrom . import helpers\n",
        "deep/helpers": "",
    }.items():
        (package / f"{name}.py").write_text(text)
    found = modules_behind(["my_package.deep.model"], ["perturbench.models"])
    assert set(found) == {"my_package.deep.model", "my_package.layers", "my_package.deep.helpers"}


def test_a_model_without_a_file_has_a_fingerprint_all_the_same():
    assert training_code("no_such_module.Model")["model"] == training_code("no.such.module.Model")["model"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (STAMP, []),
        (replace(STAMP, command="another"), []),
        (STAMP.extend(inputs={"cells": "z"}), ["cells"]),
        (STAMP.extend(inputs={"split": "z", "embedding X_scgpt": "e"}), ["embedding X_scgpt", "split"]),
        (
            STAMP.extend(settings={"hyperparameters": {"lr": 0.001, "width": 64, "layers": [1, 2]}}),
            ["hyperparameters: lr (0.001, was 0.003)"],
        ),
        (
            STAMP.extend(settings={"hyperparameters": {"lr": 0.003, "layers": list(range(40)), "wd": 0.1}}),
            ["hyperparameters: layers, wd (0.1, was not set), width (not set, was 64)"],
        ),
        (STAMP.extend(settings={"trainer": {"max_epochs": 9}}), ["trainer: max_epochs (9, was 500)"]),
        (
            STAMP.extend(settings={"prediction": {"part": "val", "max_control_cells": None}}),
            ["prediction settings: part (val, was test)"],
        ),
        (
            STAMP.extend(settings={"metrics": ["rmse_average", "mae_average"]}),
            ["metrics (added mae_average; removed mse_average)"],
        ),
        (STAMP.extend(settings={"metrics": ["mse_average", "rmse_average"]}), ["metrics (another order)"]),
        (STAMP.extend(code={"model": "z"}), ["code of the model"]),
        (STAMP.extend(code={"model": "z", "metrics": "z"}), ["code of the metrics", "code of the model"]),
        (replace(STAMP, model="gears", seed=3), ["model (gears, was cpa)", "seed (3, was 0)"]),
        (replace(STAMP, version="9"), [f"version (9, was {STAMP.version})"]),
    ],
)
def test_differences_are_worded(changed, words):
    assert changed.differences(STAMP) == words
    assert (changed.fingerprint() == STAMP.fingerprint()) == (not words)


def test_conflicts_are_of_what_both_stamps_name():
    current = Stamp.make(inputs={"cells": "a", "split": "z"}, settings={"prediction": {"part": "val"}})
    assert current.conflicts(STAMP) == ["split", "prediction settings: part (val, was test)"]
    assert current.conflicts(Stamp.make()) == []
    assert Stamp.make(inputs={"cells": "a"}).conflicts(STAMP) == []


def test_stamps_survive_every_kind_of_file(tmp_path):
    stamp = STAMP.extend(settings={"data": DATA.model_dump()})
    cells = AnnDataDataset(filepath=str(tmp_path / "x.h5ad"), load_args={"backed": "r"})
    cells.save(ad.AnnData(np.ones((2, 3)), uns={KEY: stamp.text()}))
    checkpoint = CheckpointDataset(filepath=str(tmp_path / "x.ckpt"))
    checkpoint.save({"state_dict": {"a": torch.ones(1)}, KEY: stamp.text()})
    table, frame = ParquetDataset(filepath=str(tmp_path / "x.parquet")), pd.DataFrame({"a": [1]})
    frame.attrs[KEY] = stamp.text()
    table.save(frame)
    for container in (cells.load().uns, checkpoint.load(), table.load().attrs):
        found = Stamp.read(container)
        assert found == stamp
        assert stamp.differences(found) == []
        assert found.command == "kedro run"


@pytest.mark.parametrize("content", [{}, {KEY: "torn"}, {KEY: {"task": "demo"}}, {KEY: "[1]"}, {KEY: '{"mine": 1}'}])
def test_what_is_no_stamp_is_none(content):
    assert Stamp.read(content) is None


def test_a_changed_profile_makes_stale_the_scores_whose_metrics_changed(monkeypatch):
    def stamp(metrics):
        evaluation = EvaluationConfig(metrics=metrics)
        chosen = configured_metrics(evaluation)
        return score_stamp({"cells": "a"}, chosen, DATA, PredictionConfig(), evaluation, "demo")

    names = ("default", "paper", ["rmse_average"])
    before = [stamp(name) for name in names]
    known = profiles()
    changed = {**known, "paper": [*known["paper"], "mae_average"], "new": ["rmse_average"]}
    monkeypatch.setattr("perturbench.analysis.metrics.registry.profiles", lambda: changed)
    differences = [stamp(name).differences(old) for name, old in zip(names, before, strict=True)]
    assert differences[0] == differences[2] == []
    assert differences[1][0] == "metrics (added mae_average)"
    assert stamp("new").differences(before[2]) == [], "the name of a profile does not matter"


def test_a_study_is_of_everything_that_its_trials_depend_on():
    def stamp(trainer=None, space=None, **objective):
        hpo = HpoConfig(storage="journal:x", objective=objective or {"rmse_average": 1.0})
        sections = (DATA, trainer or TrainerConfig(), PredictionConfig(), hpo)
        target, metrics = "perturbench.models.ridge.Ridge", resolve_metrics(list(hpo.objective))
        run = {"task": "demo", "model": "ridge", "seed": 0}
        return search_stamp({"cells": "a"}, *sections, metrics, target, {"wd": 0.1}, space or {"lr": {}}, **run)

    assert stamp(TrainerConfig(num_workers=3)).differences(stamp()) == []
    assert stamp(TrainerConfig(max_epochs=3)).differences(stamp()) == ["trainer: max_epochs (3, was 500)"]
    assert stamp(space={"lr": {"low": 1}}).differences(stamp()) == ["search space: lr ({'low': 1}, was {})"]
    assert "objective: rmse_average (2.0, was 1.0)" in stamp(rmse_average=2.0).differences(stamp())
    assert {"model", "training", "prediction", "metrics", "scoring"} < set(stamp().code)


def test_a_checkpoint_of_other_code_is_used_with_a_warning(caplog):
    cells = ad.AnnData(np.ones((2, 3)), obs={"condition": ["a", "b"]})
    split = pd.DataFrame({"split": ["train", "test"]}, index=cells.obs_names)
    target, inputs = "perturbench.models.ridge.Ridge", current_inputs(cells, split)
    run = {"task": "demo", "model": "ridge", "seed": 1}
    stamp = training_stamp(inputs, DATA, TrainerConfig(), target, {}, **run)
    assert require_current_checkpoint({KEY: stamp.text()}, cells, split) == stamp
    assert not caplog.records
    other = stamp.extend(code={"model": "other"})
    assert require_current_checkpoint({KEY: other.text()}, cells, split) == other
    assert "changed since the checkpoint was trained: code of the model. If that matters" in caplog.text
    assert "--params=task:demo,model:ridge,seed:1" in caplog.text
    for checkpoint, message in [
        ({}, "has no readable stamp"),
        ({KEY: stamp.text()}, "data changed since the checkpoint was trained: split"),
    ]:
        with pytest.raises(PerturbenchError, match=message):
            require_current_checkpoint(checkpoint, cells, split[::-1])


def test_a_checkpoint_depends_on_no_number_of_workers_and_on_the_rest():
    def stamp(trainer, **hparams):
        target = "perturbench.models.ridge.Ridge"
        inputs = {"cells": "a"}
        return training_stamp(inputs, DATA, trainer, target, hparams, task="demo", model="ridge", seed=0)

    before = stamp(TrainerConfig(), penalty=0.1)
    assert stamp(TrainerConfig(num_workers=2), penalty=0.1).differences(before) == []
    changed = stamp(TrainerConfig(batch_size=2), penalty=0.2).differences(before)
    assert changed == ["hyperparameters: penalty (0.2, was 0.1)", "trainer: batch_size (2, was 256)"]


def test_a_stamp_has_no_secrets():
    stamp = Stamp.make(settings={"data": {"files": [{"url": "https://me:SECRET@host/a?token=SECRET"}]}})
    assert "https://me:***@host/a?token=***" in stamp.text()
    assert "SECRET" not in stamp.text()
