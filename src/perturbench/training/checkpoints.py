"""Build a model, and load it from its checkpoint."""

from __future__ import annotations

import inspect
import pickle
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from perturbench.errors import PerturbenchError
from perturbench.models.base import PerturbationModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perturbench.data.encoding import Context


def build_model(target: str, context: Context, hparams: Mapping[str, Any]) -> PerturbationModel:
    """Return a new model.

    Parameters
    ----------
    target
        Dotted path of a subclass of :class:`PerturbationModel`.
    context
        Names of the training data.
    hparams
        The other arguments of the model's constructor.

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


def load_model(checkpoint: Mapping[str, Any] | str | Path) -> PerturbationModel:
    """Return the model of a checkpoint, in eval mode.

    Parameters
    ----------
    checkpoint
        The checkpoint that :func:`perturbench.training.fitting.fit` returned, or the path of its file.

    Raises
    ------
    PerturbenchError
        If it is not the checkpoint of a :class:`PerturbationModel`.
    """
    if isinstance(checkpoint, (str, Path)):
        return load_model(read_checkpoint(Path(checkpoint)))
    if "perturbench_model" not in checkpoint:
        raise PerturbenchError("this is not a checkpoint of a PerturbationModel: it has no 'perturbench_model' entry.")
    hparams = dict(checkpoint["hyper_parameters"])
    model = build_model(checkpoint["perturbench_model"]["target"], hparams.pop("context"), hparams)
    model.training_record = checkpoint["perturbench_model"]["training_record"]
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint from its file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    PerturbenchError
        If the file is not a checkpoint.
    """
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise PerturbenchError(f"'{path}' is not a checkpoint that can be read: {error}") from error
