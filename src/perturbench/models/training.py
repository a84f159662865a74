"""Build, fit, store, load and ask a model."""

from __future__ import annotations

import inspect
import json
import logging
import pickle
import shutil
import signal
import sys
import tempfile
import warnings
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import BasePredictionWriter, Callback, EarlyStopping, ModelCheckpoint

from perturbench.data.groups import pair_name
from perturbench.errors import PerturbenchError, listing
from perturbench.models.base import PerturbationModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lightning.pytorch.loggers import Logger

    from perturbench.data.datamodule import Part, PerturbationDataModule
    from perturbench.data.encoding import Context

_log = logging.getLogger(__name__)
#: Where Lightning logs hints; the last once anything imports the standalone packages, as MLflow does.
_HINTS = tuple(f"{package}.utilities.rank_zero" for package in ("lightning.pytorch", "pytorch_lightning"))
#: Of Lightning, about what is meant here: a resumed folder, models without an optimizer, batches loaded in process.
_KNOWN_WARNINGS = (
    "Checkpoint directory .* exists and is not empty",
    ".*configure_optimizers. returned .None.",
    "The '.*_dataloader' does not have many workers",
    ".*isinstance.treespec, LeafSpec.. is deprecated",
    "The dirpath has changed",
    ".*training_step. returned .None.",
    "GPU available but not used",
)


def build_model(target: str, context: Context, hparams: Mapping[str, Any]) -> PerturbationModel:
    """Return a new model.

    Parameters
    ----------
    target
        Dotted path of a subclass of :class:`PerturbationModel`.
    context
        Names of the training data.
    hparams
        Its other arguments.

    Raises
    ------
    PerturbenchError
        If the class is not there or does not take these arguments.
    """
    module, _, name = target.rpartition(".")
    try:
        cls = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise PerturbenchError(f"model class '{target}' cannot be imported: {error}.") from error
    if not (isinstance(cls, type) and issubclass(cls, PerturbationModel)):
        raise PerturbenchError(f"model class '{target}' is not a subclass of perturbench.models.PerturbationModel.")
    try:
        inspect.signature(cls).bind(context, **hparams)
    except TypeError as error:
        raise PerturbenchError(
            f"model class '{target}' does not take the hyperparameters {dict(hparams)}: {error}."
        ) from error
    try:
        return cls(context, **hparams)
    except PerturbenchError:
        raise
    except (ValueError, RuntimeError) as error:
        raise PerturbenchError(f"'{target}' cannot be built with {dict(hparams)}: {error}") from error


def fit(
    model: PerturbationModel,
    datamodule: PerturbationDataModule,
    *,
    seed: int = 0,
    max_epochs: int = 500,
    min_epochs: int = 5,
    patience: int = 50,
    accelerator: str = "auto",
    devices: int | str = 1,
    precision: str = "32-true",
    gradient_clip_val: float | None = None,
    log_every_n_epochs: int = 10,
    logger: Logger | bool = False,
    callbacks: Sequence[Callback] = (),
    resume_dir: str | Path | None = None,
    fingerprint: str = "",
) -> dict[str, Any]:
    """Train a model and return its best checkpoint.

    Parameters
    ----------
    model, datamodule
        What to train, on what.
    seed
        Of the trainer's random numbers; the model's initial weights were drawn when it was built.
    max_epochs, min_epochs, patience
        Stop after ``patience`` epochs without a better ``val_loss``.
    accelerator, devices, precision, gradient_clip_val
        As in ``lightning.Trainer``.
    log_every_n_epochs
        How often a line is logged where there is no terminal for a progress bar.
    logger, callbacks
        More for the trainer.
    resume_dir
        Folder for the state of an unfinished training. A killed training goes on from its last epoch there if
        ``fingerprint`` is the same. Removed at the end.
    fingerprint
        Of everything the result depends on.

    Returns
    -------
    A Lightning checkpoint, loadable with ``weights_only=True``; see :func:`load_model`.

    Raises
    ------
    PerturbenchError
        If the loss was never finite.
    """
    interactive = sys.stderr.isatty()
    model.gradient_clip_val = gradient_clip_val
    model.training_record["training_pairs"] = [[*state, name] for state, name in datamodule.pairs("train")]
    with nullcontext(resume_dir) if resume_dir else tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        last = _prepare_resume(folder, fingerprint)
        best = ModelCheckpoint(folder, "best", monitor="val_loss", enable_version_counter=False)
        # Saved after every epoch, best or not: what a killed training goes on from.
        latest = ModelCheckpoint(folder, "latest", enable_version_counter=False)
        own: list[Callback] = [best]
        if not model.closed_form:
            own += [EarlyStopping("val_loss", patience=patience), latest, _SeedEpochs(seed)]
            own += [] if interactive else [_EpochLines(log_every_n_epochs)]
        L.seed_everything(seed, workers=True, verbose=False)
        with _quiet_lightning(), _told_devices(accelerator):
            trainer = L.Trainer(
                accelerator=accelerator,
                devices=devices,
                precision=precision,  # type: ignore[arg-type]
                max_epochs=1 if model.closed_form else max_epochs,
                min_epochs=None if model.closed_form else min(min_epochs, max_epochs),
                limit_train_batches=1 if model.closed_form else None,
                gradient_clip_val=gradient_clip_val if model.automatic_optimization else None,
                callbacks=[*own, *callbacks],
                logger=logger,
                deterministic="warn",
                enable_progress_bar=interactive,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                log_every_n_steps=1,
            )
            _fit_interruptibly(trainer, model, datamodule, last)
        score = best.best_model_score
        if score is None or not torch.isfinite(score):
            raise PerturbenchError(
                f"training of {type(model).__name__} ended without a finite val_loss after "
                f"{trainer.current_epoch} epochs; lower the learning rate (lr={model.lr:g})."
            )
        checkpoint = torch.load(best.best_model_path, weights_only=True, map_location="cpu")
        shutil.rmtree(folder, ignore_errors=True)
    # The state of the optimizer and the trainer is of no use to prediction, and names temporary files.
    kept = ("state_dict", "hyper_parameters", "hparams_name", "epoch", "global_step", "perturbench_model")
    return {key: checkpoint[key] for key in (*kept, "pytorch-lightning_version") if key in checkpoint}


def load_model(checkpoint: Mapping[str, Any] | str | Path) -> PerturbationModel:
    """Return the model of a checkpoint, in eval mode.

    Parameters
    ----------
    checkpoint
        As :func:`fit` returns it, or its file.

    Raises
    ------
    PerturbenchError
        If it is not the checkpoint of a :class:`PerturbationModel`.
    """
    if isinstance(checkpoint, (str, Path)):
        return load_model(_read_checkpoint(Path(checkpoint)))
    if "perturbench_model" not in checkpoint:
        raise PerturbenchError("this is not a checkpoint of a PerturbationModel: it has no 'perturbench_model' entry.")
    hparams = dict(checkpoint["hyper_parameters"])
    model = build_model(checkpoint["perturbench_model"]["target"], hparams.pop("context"), hparams)
    model.training_record = checkpoint["perturbench_model"]["training_record"]
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval()


def predict(
    model: PerturbationModel,
    datamodule: PerturbationDataModule,
    part: Part = "test",
    *,
    accelerator: str = "auto",
) -> ad.AnnData:
    """Predict the counterfactual cells of a part.

    Parameters
    ----------
    model
        Trained on the datamodule's training cells.
    datamodule
        The data and split.
    part
        Whose (state, perturbation) pairs to predict, from its control cells.
    accelerator
        As in ``lightning.Trainer``.

    Returns
    -------
    Cells ``(n_pairs x n_controls, n_genes)``, log-normalised, with perturbation and covariates in ``obs``.

    Raises
    ------
    PerturbenchError
        If the model was trained on other genes, perturbations or covariates, or on pairs of the part.
    """
    model.require_match(datamodule.context)
    if part != "train":
        _refuse_trained_pairs(model, datamodule, part)
    loader = datamodule.predict_dataloader(part)
    collected = _Collect(len(loader.dataset), model.n_genes)  # type: ignore[arg-type]
    with _quiet_lightning():
        trainer = _plain_trainer(accelerator, progress=sys.stderr.isatty(), callbacks=[collected])
        trainer.predict(model, loader, return_predictions=False)
    obs = pd.concat(collected.obs, ignore_index=True)
    obs = obs.astype({key: "category" for key in obs.columns if key != "control_cell"})
    obs.index = pd.Index([f"cell{i}" for i in range(len(obs))])
    return ad.AnnData(collected.x, obs=obs, var=pd.DataFrame(index=model.training_record["gene_names"]))


def _fit_interruptibly(
    trainer: L.Trainer, model: PerturbationModel, datamodule: PerturbationDataModule, last: Path | None
) -> None:
    """Fit; an interrupt stays one, where Lightning would exit the process and leave further ones ignored."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(model, datamodule, ckpt_path=last, weights_only=True)
    except SystemExit:
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


@contextmanager
def _told_devices(accelerator: str) -> Iterator[None]:
    """Turn Lightning's complaint about the machine into one that names the parameter."""
    try:
        yield
    except MisconfigurationException as error:
        raise PerturbenchError(
            f"accelerator '{accelerator}' cannot be used on this machine: {error} Set trainer.accelerator to cpu."
        ) from error


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Leave out Lightning's hints about devices and loaders; warnings about anything else stay."""
    levels = {name: logging.getLogger(name).level for name in _HINTS}
    for name in levels:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for known in _KNOWN_WARNINGS:
                warnings.filterwarnings("ignore", message=known)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def test_scores(
    model: PerturbationModel, datamodule: PerturbationDataModule, part: Part = "test", *, accelerator: str = "auto"
) -> pd.DataFrame:
    """Score a model on a part without keeping its predicted cells.

    Parameters
    ----------
    model, datamodule, part, accelerator
        As in :func:`predict`; the model's ``test_metrics`` are computed.

    Returns
    -------
    Scores in long form, see :class:`perturbench.analysis.evaluation.Evaluation`.
    """
    model.require_match(datamodule.context)
    with _quiet_lightning():
        trainer = _plain_trainer(accelerator, progress=False)
        trainer.test(model, datamodule.predict_dataloader(part), verbose=False)
    return model.test_scores


def _plain_trainer(accelerator: str, *, progress: bool, callbacks: Sequence[Callback] = ()) -> L.Trainer:
    """Return a trainer that keeps no files."""
    return L.Trainer(
        accelerator=accelerator,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )


class _Collect(BasePredictionWriter):
    """Collect predicted cells in one matrix, made once."""

    def __init__(self, n_cells: int, n_genes: int) -> None:
        super().__init__("batch")
        self.x = np.empty((n_cells, n_genes), dtype=np.float32)
        self.obs: list[pd.DataFrame] = []
        self._filled = 0

    def write_on_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, prediction: Any, *_: Any) -> None:
        self.x[self._filled : self._filled + prediction.n_obs] = prediction.X
        self._filled += prediction.n_obs
        self.obs.append(prediction.obs)


def _refuse_trained_pairs(model: PerturbationModel, datamodule: PerturbationDataModule, part: str) -> None:
    trained = {(tuple(pair[:-1]), pair[-1]) for pair in model.training_record.get("training_pairs", [])}
    if leaked := [pair for pair in datamodule.pairs(part) if pair in trained]:  # type: ignore[arg-type]
        raise PerturbenchError(
            f"the model was trained on {len(leaked)} of the {part} pairs: {listing(map(pair_name, leaked))}; "
            "it belongs to another split. Train it on this one."
        )


class _SeedEpochs(Callback):
    """Seed each epoch, so that a resumed training draws what an uninterrupted one would."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        torch.manual_seed(1_000_003 * self.seed + trainer.current_epoch)


class _EpochLines(Callback):
    """Log the losses now and then, where there is no terminal for a progress bar."""

    def __init__(self, every_n_epochs: int) -> None:
        self.every_n_epochs = every_n_epochs

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs == 0:
            losses = ", ".join(f"{name} {float(value):.5g}" for name, value in trainer.callback_metrics.items())
            _log.info("epoch %d: %s", epoch, losses)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise PerturbenchError(f"'{path}' is not a checkpoint that can be read: {error}") from error


def _prepare_resume(folder: Path, fingerprint: str) -> Path | None:
    """Return the checkpoint to go on from; empty the folder if it belongs to another training."""
    note, latest = folder / "training.json", folder / "latest.ckpt"
    wanted = {"fingerprint": fingerprint}
    if note.is_file() and latest.is_file() and json.loads(note.read_text()) == wanted:
        try:
            epoch = _read_checkpoint(latest)["epoch"]
        except (PerturbenchError, KeyError):
            _log.warning("the state of an unfinished training is not readable; training starts over")
        else:
            _log.info("going on with an unfinished training after epoch %d", epoch + 1)
            return latest
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    note.write_text(json.dumps(wanted))
    return None
