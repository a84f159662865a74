"""Trials whose worker died: queued again, and counted once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


#: How often a trial is tried again whose worker died in it; then it may be the trial that kills them.
MAX_RETRIES = 2


def counted_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count: all but those whose worker died and that were queued once more."""
    trials = study.get_trials(deepcopy=False)
    replaced = {number for trial in trials for number in trial.user_attrs.get("attempts", ())}
    return [trial for trial in trials if trial.number not in replaced]


def queue_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue the hyperparameters of a failed trial once more; after ``MAX_RETRIES`` it stays failed.

    Parameters
    ----------
    study, trial
        The trial's worker died or was interrupted. The new trial's user attribute ``attempts`` holds the numbers of
        those that it stands for.
    """
    attempts = [*trial.user_attrs.get("attempts", ()), trial.number]
    if len(attempts) > MAX_RETRIES:
        return
    start = {"start": trial.user_attrs["start"]} if "start" in trial.user_attrs else {}
    params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    study.enqueue_trial(params, user_attrs={**start, "attempts": attempts})
