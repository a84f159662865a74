"""The source code that makes each kind of file; fingerprints of the code are part of the file's stamp.

Modules are named as text and their files are read; none of them is imported.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from perturbench.provenance import fingerprint_code, modules_behind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from perturbench.analysis.metrics.registry import Metric

_DATA, _TRAINING = "perturbench.data", "perturbench.training"
_METRICS = "perturbench.analysis.metrics"


def training_code(model_target: str, source: Path | None = None) -> dict[str, str]:
    """Return the fingerprints of the code that trains a model.

    Parameters
    ----------
    model_target
        Dotted path of the model's class.
    source
        Folder of this package's source code; by default that of the running package.

    Returns
    -------
    Fingerprints of the ``model`` (its file and what it imports of ``perturbench.models`` and of the user's own
    modules), of the ``training`` loop, and of the ``data loading``.
    """
    roots = [model_target.rpartition(".")[0], f"{_TRAINING}.fitting", f"{_DATA}.loading.datamodule"]
    modules = modules_behind(roots, ("perturbench.models", _TRAINING, _DATA), source)
    places = {f"{_TRAINING}.": "training", f"{_DATA}.": "data loading"}
    return _fingerprints(modules, places, "model")


def prediction_code(source: Path | None = None) -> dict[str, str]:
    """Return the fingerprint of the code that predicts with a trained model; :func:`training_code` has the rest."""
    return {"prediction": fingerprint_code(modules_behind([f"{_TRAINING}.prediction"], [_TRAINING], source))}


def score_code(metrics: Iterable[Metric], source: Path | None = None) -> dict[str, str]:
    """Return the fingerprints of the code that computes scores.

    Parameters
    ----------
    metrics
        The metrics that are computed; the code of other metrics is left out.
    source
        Folder of this package's source code; by default that of the running package.

    Returns
    -------
    Fingerprints of the ``metrics``, and of the ``scoring``, which prepares the group means and cells that they compare.
    """
    definers = {module for metric in metrics for module in _definers(metric.function)}
    roots = [*sorted(definers), "perturbench.analysis.evaluation", f"{_DATA}.labels"]
    modules = modules_behind(roots, ("perturbench.analysis", _DATA), source)
    scoring = {name: path for name, path in modules.items() if _is_scoring(name)}
    metric_modules = {name: path for name, path in modules.items() if name not in scoring}
    return {"metrics": fingerprint_code(metric_modules), "scoring": fingerprint_code(scoring)}


def embedding_code(kind: str) -> dict[str, str]:
    """Return the fingerprint of the code that embeds cells; ``kind`` is the name of the module that does it."""
    package = "perturbench.preprocessing.embeddings"
    return {"embedding": fingerprint_code(modules_behind([f"{package}.{kind}"], [package]))}


def data_code(embedding: str | None) -> dict[str, str]:
    """Return the fingerprints of the code that makes the data of a task, with that of its kind of embedding, if any."""
    roots = {
        "curation": f"{_DATA}.curation.curate",
        "splitter": f"{_DATA}.splits",
        "preprocessing": "perturbench.preprocessing.preparation",
    }
    within = (_DATA, "perturbench.preprocessing")
    code = {name: fingerprint_code(modules_behind([root], within)) for name, root in roots.items()}
    return code | (embedding_code(embedding) if embedding else {})


def _fingerprints(modules: dict[str, Path], places: dict[str, str], rest: str) -> dict[str, str]:
    """Return a fingerprint of the modules with each prefix in ``places``, and of all other modules as ``rest``."""
    parts: dict[str, dict[str, Path]] = {name: {} for name in (rest, *places.values())}
    for module, path in modules.items():
        name = next((place for prefix, place in places.items() if module.startswith(prefix)), rest)
        parts[name][module] = path
    return {name: fingerprint_code(part) for name, part in parts.items()}


def _is_scoring(module: str) -> bool:
    return module.startswith("perturbench.") and not module.startswith(f"{_METRICS}.")


def _definers(function: Any) -> Iterator[str]:
    """Yield the modules that define a metric's function, or the functions that it is composed of."""
    if isinstance(function, partial):
        for part in (function.func, *function.args):
            yield from _definers(part)
    elif is_dataclass(function):
        for field in fields(function):
            yield from _definers(getattr(function, field.name))
    elif callable(function):
        yield function.__module__
