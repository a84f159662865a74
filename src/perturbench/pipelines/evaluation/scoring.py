"""Score one prediction of a task, unless it has up-to-date scores."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anndata as ad
import pandas as pd
from kedro.io.core import DatasetError

from perturbench.analysis.score_table import EVALUATED, ORPHAN, REFUSED, UP_TO_DATE, model_and_seed
from perturbench.config.sections import DataConfig, EvaluationConfig, PredictionConfig
from perturbench.errors import PerturbenchError
from perturbench.pipelines.stamps import current_inputs, require_current_prediction, score_stamp
from perturbench.provenance import KEY, Stamp, fingerprint_adata

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from perturbench.analysis.metrics.registry import Metric
    from perturbench.analysis.profiles import Reference

logger = logging.getLogger(__name__)
#: A spreadsheet takes a cell that begins with one of these for a formula, which may run a program.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Outcome:
    """The result of evaluating one prediction.

    Attributes
    ----------
    status, reason
        Whether it was evaluated, up to date or refused, and why.
    stamp
        Stamp of the prediction; ``None`` for one that this project did not make.
    scores, similarities
        New scores in long form, and similarities between perturbations; ``None`` if the prediction was not evaluated.
    """

    status: str
    reason: str
    stamp: Stamp | None = None
    scores: pd.DataFrame | None = None
    similarities: pd.DataFrame | None = None

    def row(self, name: str) -> dict[str, str]:
        """Return the row of the evaluation log under the prediction's name; no text in it starts a formula."""
        hparams = self.stamp.settings.get("hyperparameters") if self.stamp else None
        row = {
            "prediction": name,
            "model": model_and_seed(name)[0],
            "status": self.status,
            "reason": self.reason,
            "hyperparameters": "" if hparams is None else json.dumps(hparams),
            "command": str(self.stamp.command) if self.stamp else "",
        }
        return {column: f"'{text}" if text.startswith(_FORMULA) else text for column, text in row.items()}


class Scorer:
    """The evaluation of a task's predictions, one at a time.

    Parameters
    ----------
    prepared, split
        The prepared cells, and the part of the split that each cell is in.
    metrics
        The metrics to compute.
    data, prediction, evaluation, task
        Parameters of the task.
    """

    def __init__(
        self,
        prepared: ad.AnnData,
        split: pd.DataFrame,
        metrics: list[Metric],
        data: DataConfig,
        prediction: PredictionConfig,
        evaluation: EvaluationConfig,
        task: str,
    ) -> None:
        self._prepared, self._split, self._metrics = prepared, split, metrics
        self._keys, self._prediction, self._evaluation, self._task = data.keys, prediction, evaluation, task
        self._inputs = current_inputs(prepared, split)
        self._stamp = score_stamp(self._inputs, metrics, data, prediction, evaluation, task)

    def __call__(
        self,
        name: str,
        load: Callable[[], ad.AnnData],
        load_scores: Callable[[], pd.DataFrame] | None,
        seeds: Sequence[str] = (),
    ) -> Outcome:
        """Return the outcome of a prediction; an error refuses this prediction and does not stop the others.

        Parameters
        ----------
        name
            Name of the prediction: ``<model>/seed<k>``, or any other.
        load, load_scores
            Functions that read the prediction and, if there are any, its earlier scores.
        seeds
            Names of predictions with a seed by a model of this name, if this prediction has no seed.
        """
        try:
            _require_other_name(name, seeds)
            outcome = self._evaluate(name, load, load_scores)
        except PerturbenchError as error:
            outcome = Outcome(REFUSED, str(error))
        except Exception as error:
            # A user's file can fail in a way that no check covers; the other predictions must still be evaluated.
            logger.exception("scoring '%s' failed", name)
            outcome = Outcome(REFUSED, f"it cannot be scored: {type(error).__name__}: {error}")
        level = logging.ERROR if outcome.status == REFUSED else logging.INFO
        logger.log(level, "%s: %s (%s)", name, outcome.status, outcome.reason)
        return outcome

    def anchors(self) -> pd.DataFrame:
        """Return the scores of the anchors, see :func:`perturbench.analysis.anchors.anchor_scores`."""
        from perturbench.analysis.anchors import anchor_scores

        training = self._prepared[self._labels == "train"]
        return anchor_scores(self._evaluated_cells, training, self._keys, self._metrics).assign(seed=0)

    def _evaluate(
        self, name: str, load: Callable[[], ad.AnnData], load_scores: Callable[[], pd.DataFrame] | None
    ) -> Outcome:
        adata = _load(load, name)
        try:
            prediction_stamp = Stamp.read(adata.uns)
            try:
                return self._score_if_stale(name, adata, prediction_stamp, load_scores)
            except PerturbenchError as error:
                return Outcome(REFUSED, str(error), prediction_stamp)
        finally:
            if adata.isbacked:
                adata.file.close()

    def _score_if_stale(
        self,
        name: str,
        adata: ad.AnnData,
        prediction_stamp: Stamp | None,
        load_scores: Callable[[], pd.DataFrame] | None,
    ) -> Outcome:
        if prediction_stamp is not None:
            require_current_prediction(prediction_stamp, self._inputs, self._prepared, self._prediction, self._task)
        model, seed = model_and_seed(name)
        stamp = replace(self._stamp.extend(inputs={"prediction": fingerprint_adata(adata)}), model=model, seed=seed)
        reason = _stale_because(stamp, load_scores)
        if reason is None:
            return Outcome(UP_TO_DATE, "nothing changed", prediction_stamp)
        scores, similarities = self._score(adata, model)
        scores.insert(1, "seed", pd.array([seed] * len(scores), dtype="Int64"))
        scores.attrs[KEY] = stamp.text()
        return Outcome(EVALUATED, reason, prediction_stamp, scores, similarities)

    def _score(self, adata: ad.AnnData, model: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        from perturbench.analysis.evaluation import score
        from perturbench.analysis.metrics.collapse import similarity_table
        from perturbench.analysis.profiles import Prediction

        settings = self._evaluation
        prediction = Prediction.from_adata(adata, self._reference, model, settings.negative, settings.missing)
        return score(prediction, self._reference, self._metrics), similarity_table(self._reference, prediction)

    @cached_property
    def _labels(self) -> Any:
        from perturbench.data.labels import align_split

        return align_split(self._split["split"], self._prepared.obs_names)

    @cached_property
    def _evaluated_cells(self) -> ad.AnnData:
        from perturbench.data.groups import Groups
        from perturbench.data.labels import evaluation_rows

        groups = Groups.from_obs(self._prepared.obs, self._keys)
        part, controls = self._prediction.part, self._prediction.controls
        return self._prepared[evaluation_rows(self._labels, groups, part, controls)]

    @cached_property
    def _reference(self) -> Reference:
        from perturbench.analysis.profiles import Reference

        return Reference(self._evaluated_cells, self._keys)


def evaluation_log(outcomes: Mapping[str, Outcome], scored: Iterable[str], task: str) -> pd.DataFrame:
    """Return a table with the outcome of each prediction, and a row for scores whose prediction no longer exists.

    Parameters
    ----------
    outcomes
        Outcomes by the names of predictions.
    scored
        Names of predictions that have scores.
    task
        Name of the task.

    Raises
    ------
    PerturbenchError
        If every prediction was refused.
    """
    if all(outcome.status == REFUSED for outcome in outcomes.values()):
        first = next(iter(outcomes.values()))
        raise PerturbenchError(f"every prediction of task '{task}' was refused; the first because: {first.reason}")
    gone = dict.fromkeys(sorted(set(scored) - set(outcomes)), Outcome(ORPHAN, "its scores are left out"))
    return pd.DataFrame([outcome.row(name) for name, outcome in {**outcomes, **gone}.items()])


def seeds_of_the_same_model(name: str, predictions: Iterable[str]) -> list[str]:
    """Return the predictions ``<name>/seed<k>``, among whose seeds a prediction of this name would be counted."""
    return sorted(other for other in predictions if other != name and model_and_seed(other)[0] == name)


def _require_other_name(name: str, seeds: Sequence[str]) -> None:
    """Refuse the name of a prediction that starts a formula, or that makes it a further seed of a model."""
    if name.startswith(_FORMULA):
        raise PerturbenchError(
            f"the name '{name}' begins with '{name[0]}', which spreadsheets take for the start of a formula; give "
            "the file a name that begins with a letter or a digit."
        )
    if seeds:
        raise PerturbenchError(
            f"'{name}' has the name of the model of '{seeds[0]}' and would count as another seed of it; give the file "
            "another name."
        )


def _stale_because(stamp: Stamp, load_scores: Callable[[], pd.DataFrame] | None) -> str | None:
    """Return why scores have to be computed; ``None`` if the earlier ones have the stamp of new scores."""
    if load_scores is None:
        return "new"
    try:
        before = Stamp.read(load_scores().attrs)
    except (DatasetError, OSError, ValueError):
        return "the earlier scores cannot be read"
    if before is None:
        return "the earlier scores have no readable stamp"
    changed = stamp.differences(before)
    return f"changed: {'; '.join(changed)}" if changed else None


def _load(load: Callable[[], ad.AnnData], name: str) -> ad.AnnData:
    try:
        adata = load()
    except (DatasetError, OSError) as error:
        if isinstance(error.__cause__, PerturbenchError):
            raise error.__cause__ from None
        raise PerturbenchError(f"'{name}' cannot be read as h5ad: {error}") from error
    try:
        empty = adata.X is None
    except KeyError:  # raised by a backed file without X
        empty = True
    if empty:
        raise PerturbenchError(f"'{name}' has no X; store the predicted expression in X.")
    return adata
