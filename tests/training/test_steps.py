"""Prepared steps: compiled losses and CUDA graphs give the gradients of the plain step."""

import logging
from functools import partial

import pytest
import torch
from lightning import LightningModule
from tests.models.small_models import make_module
from torch.utils._python_dispatch import TorchDispatchMode

from perturbench.models import CPA, SAMSVAE, BioLord, DecoderOnly, LatentAdditive, LinearAdditive
from perturbench.training import fit, steps
from perturbench.training import test_scores as scores_of_part
from perturbench.training.callbacks import LOSSES

NETWORKS = {
    "linear_additive": (LinearAdditive, {}),
    "latent_additive": (LatentAdditive, {"dropout": 0.1, "sparse_additive_mechanism": True}),
    "decoder_only": (DecoderOnly, {}),
    "cpa": (CPA, {"n_warmup_epochs": 1, "dropout": 0.1}),
    "cpa_no_adv": (CPA, {"use_adversary": False}),
    "sams_vae": (SAMSVAE, {"dropout": 0.1}),
    "sams_vae_s": (SAMSVAE, {"sparse_additive_mechanism": False, "embedding_distribution": False}),
    "biolord": (BioLord, {}),
}


@pytest.fixture(params=NETWORKS)
def new_model(request, module):
    """Return a function that makes the same new model each time."""
    cls, hparams = NETWORKS[request.param]

    def new():
        torch.manual_seed(0)
        return cls(module.context, **hparams)

    return new


@pytest.fixture
def traced(monkeypatch):
    """Compile without a C++ compiler: the loss is traced, and its kernels are those of the plain step."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


def losses(model, module, **options):
    return fit(model, module, max_epochs=3, min_epochs=1, **{"accelerator": "cpu", **options})[LOSSES]


def test_compiled_steps_train_as_plain_ones(new_model, module, traced, caplog):
    plain = losses(new_model(), module, compile=False)
    with caplog.at_level(logging.WARNING, "perturbench"):
        compiled = losses(new_model(), module, compile=True)
    told = [record.getMessage().split(" and")[0] for record in caplog.records if "compiled" in record.message]
    # The gradient penalty is a gradient of a gradient, which torch.compile does not do.
    assert told == (["CPA.adversary_loss cannot be compiled"] if "train_adversary_loss" in plain else [])
    for name, values in plain.items():
        assert compiled[name] == pytest.approx(values, rel=1e-4, nan_ok=True), name


def test_what_cannot_be_compiled_trains_without_and_says_so_once(module, monkeypatch, caplog):
    def broken(function, **_):
        def raise_error(batch):
            raise RuntimeError("no working C++ compiler")

        return raise_error

    plain = losses(LinearAdditive(module.context), module, compile=False)
    monkeypatch.setattr(torch, "compile", broken)
    with caplog.at_level(logging.WARNING, "perturbench"):
        found = losses(LinearAdditive(module.context), module, compile=True)
    told = [record.getMessage() for record in caplog.records if "cannot be compiled" in record.message]
    assert told == ["LinearAdditive.loss cannot be compiled and runs uncompiled: no working C++ compiler"]
    assert len(found["train_loss"]) == len(plain["train_loss"])


def test_an_error_of_the_loss_itself_is_not_swallowed(module, traced):
    class Broken(LinearAdditive):
        def loss(self, batch):
            raise ValueError("mistake in the loss")

    with pytest.raises(ValueError, match="mistake in the loss"):
        losses(Broken(module.context), module, compile=True)


def assert_same_losses(found, expected):
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-6, nan_ok=True), name


def test_a_subclass_has_to_allow_graphs_itself(module):
    """Its loss may depend on the epoch, which a graph would freeze at the first one."""

    class Annealed(LinearAdditive):
        def loss(self, batch):
            return super().loss(batch) * (1 + self.current_epoch)

    class Same(LinearAdditive):
        allows_cuda_graphs = True

    assert steps._allows_cuda_graphs(LinearAdditive(module.context))
    assert not steps._allows_cuda_graphs(Annealed(module.context))
    assert steps._allows_cuda_graphs(Same(module.context))


@pytest.mark.parametrize("compile", [True, False])
def test_hooks_around_a_step_are_called_however_it_is_taken(module, traced, compile):
    calls = []

    class Clips(LinearAdditive):
        def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
            calls.append(optimizer)

    losses(Clips(module.context), module, compile=compile)
    assert len(calls) == 3 * len(module.train_dataloader())


@pytest.mark.parametrize("compile", [True, False])
def test_gradients_are_clipped_in_mixed_precision(new_model, module, traced, compile, monkeypatch):
    model, norms = new_model(), []

    def clip_gradients(optimizer, *arguments, **keywords):
        LightningModule.clip_gradients(model, optimizer, *arguments, **keywords)
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        norms.append(torch.stack([weight.grad.norm() for weight in weights if weight.grad is not None]).norm().item())

    monkeypatch.setattr(model, "clip_gradients", clip_gradients)
    options = {"precision": "bf16-mixed", "gradient_clip_val": 1e-3, "compile": compile, "accelerator": "cpu"}
    fit(model, module, max_epochs=1, min_epochs=1, **options)
    assert len(norms) == len(module.train_dataloader())
    assert max(norms) == pytest.approx(1e-3, rel=1e-2)


class CountReads(TorchDispatchMode):
    """Count the values that are read from tensors, each of which would make the host wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.n += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("compile", [False, "by itself"])
def test_reads_from_the_device_do_not_grow_with_the_steps_of_an_epoch(new_model, compile):
    def reads(batch_size):
        module, model = make_module(batch_size=batch_size, preload_to_device=True), new_model()
        if compile == "by itself":
            model.step_by_itself()
        with CountReads() as counter:
            fit(model, module, max_epochs=2, min_epochs=2, accelerator="cpu", compile=False)
        return counter.n, len(module.train_dataloader())

    (few, n_few), (many, n_many) = reads(256), reads(32)
    assert n_many > 4 * n_few
    assert many == few


@pytest.mark.cuda
class TestOnCUDA:
    def test_graphs_train_exactly_as_plain_steps(self, new_model, module):
        options = {"accelerator": "gpu", "precision": "bf16-mixed"}
        plain = losses(new_model(), module, compile=False, **options)
        graphs = losses(new_model(), module, compile="auto", **options)
        assert_same_losses(graphs, plain)

    def test_preloaded_cells_train_exactly_as_those_of_the_host(self, new_model):
        found = [losses(new_model(), make_module(preload_to_device=one), accelerator="gpu") for one in (True, False)]
        assert_same_losses(*found)

    def test_a_loss_that_reads_the_device_trains_without_a_graph(self, module, caplog):
        class Reads(LinearAdditive):
            allows_cuda_graphs = True

            def loss(self, batch):
                loss = super().loss(batch)
                assert loss.item() >= 0
                return loss

        with caplog.at_level(logging.WARNING, "perturbench"):
            found = losses(Reads(module.context), module, accelerator="gpu")
        assert len([record for record in caplog.records if "cannot be captured" in record.message]) == 1
        assert found["train_loss"][-1] < found["train_loss"][0]

    def test_scores_on_the_gpu_are_those_of_the_cpu(self, module):
        model = LinearAdditive(module.context)
        found = [scores_of_part(model, module, accelerator=where)["value"].to_numpy() for where in ("gpu", "cpu")]
        assert found[0] == pytest.approx(found[1], rel=1e-3, abs=1e-4, nan_ok=True)
