"""Fitting: repeatable, resumed, stopped early, on several processes."""

import logging
import signal

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from tests.models.small_models import TRAINED, build, checkpoint, make_module, new, train
from tests.training.interrupted import Stop, interrupt, run

from perturbench.errors import PerturbenchError
from perturbench.models import CPA, LatentAdditive
from perturbench.models.plateau import PlateauSettings
from perturbench.training.checkpoints import load_model
from perturbench.training.fitting import fit
from perturbench.training.prediction import predict


def test_training_lowers_the_loss(module):
    losses = []

    class Watch(Callback):
        def on_validation_end(self, trainer, pl_module):
            losses.append(float(trainer.callback_metrics["val_loss"]))

    model = build("linear", module.context)
    model.lr = 0.05
    fit(model, module, max_epochs=8, accelerator="cpu", callbacks=[Watch()])
    assert len(losses) == 8
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", TRAINED)
def test_same_seed_same_weights(name):
    again = train(name, make_module())
    for key, value in checkpoint(name)["state_dict"].items():
        assert torch.equal(again["state_dict"][key], value)


def test_other_seed_other_weights():
    other = train("latent", make_module(seed=1), seed=1)["state_dict"]
    assert any(not torch.equal(other[key], value) for key, value in checkpoint("latent")["state_dict"].items())


@pytest.mark.parametrize("name", TRAINED)
def test_batches_of_one_cell(name):
    module = make_module(batch_size=1, max_control_cells=1)
    module.rows["train"] = module.rows["train"][::10]
    predicted = predict(load_model(train(name, module, max_epochs=1)), module, accelerator="cpu")
    assert predicted.n_obs == len(module.pairs("test"))
    assert np.isfinite(predicted.X).all()


def test_early_stopping(module):
    stop = Stop()
    model = build("linear", module.context)
    model.lr = 0.0
    fit(model, module, max_epochs=20, min_epochs=1, patience=2, accelerator="cpu", callbacks=[stop])
    assert stop.epochs == [0, 1, 2]


def test_loss_that_is_never_finite_is_refused(module):
    model = build("linear", module.context)
    with torch.no_grad():
        model.effect.bias.fill_(torch.nan)
    with pytest.raises(PerturbenchError, match=r"LinearAdditive ended without a finite val_loss .* \(lr=0\.001\)"):
        fit(model, module, max_epochs=2, accelerator="cpu")


def test_gradients_can_be_clipped_in_mixed_precision(module):
    train("latent", module, max_epochs=1, gradient_clip_val=0.1, precision="bf16-mixed")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["latent", "cpa", "ridge"])
def test_a_precision_for_gpus_is_full_precision_on_a_cpu(module, caplog, name):
    caplog.set_level(logging.INFO)
    half = train(name, module, precision="16-mixed")
    assert [record.levelname for record in caplog.records if "16-mixed" in record.message] == ["INFO"]
    for key, value in train(name, module, precision="32-true")["state_dict"].items():
        assert torch.equal(half["state_dict"][key], value)


@pytest.mark.parametrize("options", [{"preload_to_device": True}, {"num_workers": 2}], ids=str)
def test_result_does_not_depend_on_where_batches_are_made(options):
    one, other = (train("latent", make_module(**changes))["state_dict"] for changes in ({}, options))
    for key, value in one.items():
        assert torch.equal(value, other[key])


def test_two_processes_are_one_with_batches_twice_as_large():
    def weights(**options):
        module = make_module(batch_size=options.pop("batch_size"))
        for part in ("train", "val"):
            module.rows[part] = module.rows[part][: 64 * (len(module.rows[part]) // 64)]
        return train("linear", module, **options)["state_dict"]

    one, two = weights(batch_size=64), weights(batch_size=32, devices=2, strategy="ddp_spawn")
    for key, value in one.items():
        assert two[key].numpy() == pytest.approx(value.numpy(), rel=1e-3, abs=1e-5)


def test_strategy_that_runs_the_command_again_is_refused(module):
    with pytest.raises(PerturbenchError, match="'ddp' starts the whole command again for every device; use ddp_spawn"):
        train("linear", module, devices=2, strategy="ddp")


@pytest.mark.usefixtures("save_every_epoch")
def test_resumed_training_continues_after_its_last_epoch(module, tmp_path):
    interrupt(module, tmp_path / "unfinished")
    again = Stop()
    resumed = run(module, tmp_path / "unfinished", again)
    assert again.epochs == [2, 3]
    straight = run(module, None, Stop())
    assert resumed["epoch"] == straight["epoch"]
    assert resumed["global_step"] == straight["global_step"]
    assert resumed["losses"] == straight["losses"], "the epochs before the interruption, too"
    assert resumed["losses"]["epoch"] == [1, 2, 3, 4]
    assert np.isfinite([resumed["losses"]["train_loss"], resumed["losses"]["val_loss"]]).all()
    for key, value in straight["state_dict"].items():
        assert torch.equal(resumed["state_dict"][key], value)


@pytest.mark.usefixtures("save_every_epoch")
def test_training_may_be_interrupted_twice(module, tmp_path):
    interrupt(module, tmp_path / "unfinished", at=1)
    interrupt(module, tmp_path / "unfinished", at=3)
    again = Stop()
    run(module, tmp_path / "unfinished", again)
    assert again.epochs == [3]


@pytest.mark.usefixtures("save_every_epoch")
@pytest.mark.parametrize("at", [0, 2])
def test_training_with_another_stamp_starts_over(module, tmp_path, at):
    interrupt(module, tmp_path / "unfinished", at=at)
    again = Stop()
    run(module, tmp_path / "unfinished", again, task="b")
    assert again.epochs == [0, 1, 2, 3]


@pytest.mark.usefixtures("save_every_epoch")
def test_resumed_training_leaves_no_files(module, tmp_path):
    folder = tmp_path / "unfinished"
    interrupt(module, folder)
    assert list(folder.iterdir())
    resumed = run(module, folder, Stop())
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in str({key: value for key, value in resumed.items() if key != "state_dict"})


def test_uninterrupted_training_leaves_no_files(module, tmp_path):
    for name in ("linear", "control"):
        run(module, tmp_path / "unfinished", Stop(), name=name)
        assert list(tmp_path.iterdir()) == []


def test_without_a_folder_nothing_is_written(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("linear", module)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("save_every_epoch")
@pytest.mark.parametrize("left", [0, 100, -100, None])
def test_training_with_a_damaged_state_starts_over(module, tmp_path, left):
    folder = tmp_path / "unfinished"
    interrupt(module, folder)
    whole = (folder / "latest.ckpt").read_bytes()
    (folder / "latest.ckpt").write_bytes(b"garbage" if left is None else whole[:left])
    again = Stop()
    run(module, folder, again)
    assert again.epochs == [0, 1, 2, 3]


@pytest.mark.usefixtures("save_every_epoch")
def test_keyboard_interrupt_can_be_resumed(module, tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(module, tmp_path / "unfinished", Stop(2, KeyboardInterrupt))
        again = Stop()
        run(module, tmp_path / "unfinished", again)
        assert again.epochs == [2, 3]
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, handler)


class Flat(LatentAdditive):
    """A model whose loss never changes."""

    def loss(self, batch):
        return self.predict(batch).sum() * 0 + 1


class Rates(Callback):
    """Records the learning rate of each epoch."""

    def __init__(self):
        self.rates = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize("itself", [True, False], ids=["steps itself", "stepped by Lightning"])
@pytest.mark.parametrize(
    ("plateau", "expected"),
    [
        ({}, [1.0] * 12),
        ({"patience": 0}, [1.0, 1.0, *(0.2**power for power in range(1, 11))]),
        ({"patience": 0, "factor": 0.5, "frequency": 5}, [1.0] * 10 + [0.5] * 2),
        ({"patience": 1, "factor": 0.5, "frequency": 3}, [1.0] * 9 + [0.5] * 3),
    ],
    ids=str,
)
def test_the_learning_rate_falls_on_a_plateau(module, plateau, expected, itself):
    rates = Rates()
    model = Flat(module.context, n_layers=1, encoder_width=4, latent_dim=2, lr=1.0)
    options = {"max_epochs": 12, "accelerator": "cpu", "lr_scheduler": PlateauSettings(**plateau)}
    if itself:
        model.step_by_itself()
    fit(model, module, callbacks=[rates], **options)
    assert rates.rates == pytest.approx(expected, abs=1e-7)


@pytest.mark.usefixtures("save_every_epoch")
def test_a_lower_learning_rate_survives_a_resumption(module, tmp_path, monkeypatch):
    """The epochs without improvement are counted before the state is saved, so a resumption gives the same weights."""
    import perturbench.models.base as base

    class Impatient(base.ReduceLROnPlateau):
        def __init__(self, optimizer, **_):
            super().__init__(optimizer, factor=0.1, patience=0, threshold=0.9)

    monkeypatch.setattr(base, "ReduceLROnPlateau", Impatient)

    def train_with(cls, folder, *callbacks):
        options = {"max_epochs": 6, "accelerator": "cpu", "resume_dir": folder, "callbacks": callbacks}
        return fit(new(cls, module, lr=0.05), module, **options)

    for cls in (LatentAdditive, CPA):
        rates = Rates()
        straight = train_with(cls, None, rates)
        assert rates.rates[-1] < rates.rates[0], "the learning rate fell"
        with pytest.raises(RuntimeError, match="broken off"):
            train_with(cls, tmp_path / "folder", Stop(3))
        again = Rates()
        resumed = train_with(cls, tmp_path / "folder", again)
        assert again.rates == rates.rates[3:]
        for key, value in straight["state_dict"].items():
            assert torch.equal(resumed["state_dict"][key], value)
