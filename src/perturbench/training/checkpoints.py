"""Build a model, and load it from its checkpoint."""

from __future__ import annotations

import inspect
import pickle
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from perturbench.errors import PerturbenchError
from perturbench.models.base import PerturbationModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perturbench.data.encoding import Context

_MODELS = "perturbench.models"


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


def load_model(checkpoint: Mapping[str, Any] | str | Path, allow_code_from: str | None = None) -> PerturbationModel:
    """Return the model of a checkpoint, in eval mode.

    A checkpoint names the class of its model, and importing a module runs its code. Only classes of
    ``perturbench.models`` and classes that are already imported are therefore loaded without permission.

    Parameters
    ----------
    checkpoint
        The checkpoint that :func:`perturbench.training.fitting.fit` returned, or the path of its file.
    allow_code_from
        Name of a module or package that may be imported, and so may run its code, to find the class of the model.

    Raises
    ------
    PerturbenchError
        If it is not the checkpoint of a :class:`PerturbationModel`, or its class would run code that is not allowed.
    """
    if isinstance(checkpoint, (str, Path)):
        return load_model(read_checkpoint(Path(checkpoint)), allow_code_from)
    if "perturbench_model" not in checkpoint:
        raise PerturbenchError("this is not a checkpoint of a PerturbationModel: it has no 'perturbench_model' entry.")
    target = checkpoint["perturbench_model"]["target"]
    _require_allowed(target, allow_code_from)
    hparams = dict(checkpoint["hyper_parameters"])
    model = build_model(target, hparams.pop("context"), hparams)
    model.training_record = checkpoint["perturbench_model"]["training_record"]
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval()


def _require_allowed(target: Any, allow_code_from: str | None) -> None:
    """Raise unless the class of a checkpoint is one of this package, is imported already, or is allowed by name."""
    if not isinstance(target, str):
        raise PerturbenchError(f"this is not a checkpoint of a PerturbationModel: its class is {target!r}, not a name.")
    if target.startswith(f"{_MODELS}.") or _is_imported(target):
        return
    if allow_code_from:
        if target.startswith(f"{allow_code_from}."):
            return
        _import_allowed(allow_code_from)
        if _is_imported(target):  # the module may take the class from another one
            return
    module = target.rpartition(".")[0] or target
    raise PerturbenchError(
        f"the checkpoint's model class '{target}' is not in {_MODELS} and is not imported, and importing it runs the "
        f"code of '{module}'; if you trust that code, import the class first or call "
        f'load_model(checkpoint, allow_code_from="{module}").'
    )


def _is_imported(target: str) -> bool:
    module, _, name = target.rpartition(".")
    # Not getattr: a module may import further code when it is asked for an attribute.
    cls = vars(sys.modules[module]).get(name) if module in sys.modules else None
    return isinstance(cls, type) and issubclass(cls, PerturbationModel)


def _import_allowed(module: str) -> None:
    try:
        import_module(module)
    except (ImportError, ValueError) as error:
        raise PerturbenchError(f"module '{module}' of allow_code_from cannot be imported: {error}.") from error


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
