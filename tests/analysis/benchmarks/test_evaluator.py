import pandas as pd
import pytest

from perturbench.analysis import anchor_scores
from perturbench.analysis.benchmarks.evaluator import Evaluator
from perturbench.analysis.benchmarks.tasks import Task
from perturbench.analysis.metrics.registry import resolve_metrics
from perturbench.data.splits import SplitRules, split_cells
from perturbench.errors import PerturbenchError
from perturbench.preprocessing.preparation import prepare


class Tasks:
    """A source with one task."""

    def __init__(self, task):
        self.task = task

    def names(self):
        return ["mine"]

    def load(self, name):
        assert name == "mine"
        return self.task


@pytest.fixture
def task(screen, keys):
    cells = prepare(screen, keys)
    return Task(cells, split_cells(cells.obs, keys, "transfer", SplitRules(), 0), keys)


def test_listing_6_with_a_task_in_hand(task):
    evaluator = Evaluator(task)
    cells = evaluator.reference[evaluator.reference.obs["condition"] != "control"].copy()
    result = evaluator.evaluate({"CPA_pred": cells})
    assert result.summary.loc["CPA_pred", "rmse_average"] == pytest.approx(0, abs=1e-6)
    assert result.summary.loc["CPA_pred", "rmse_rank_average"] == 0
    assert list(result.scores.columns) == ["model", "metric", "perturbation", "cell_type", "value"]


def test_reference_is_the_test_cells_and_all_controls(task):
    condition = task.cells.obs["condition"].astype(str)
    expected = (task.split == "test") | ((condition == "control") & (task.split != ""))
    assert set(Evaluator(task).reference.obs_names) == set(task.cells.obs_names[expected])


def test_anchors_learn_from_training_cells_only(task):
    training = task.cells[(task.split == "train").to_numpy()]
    evaluator = Evaluator(task)
    expected = anchor_scores(evaluator.reference, training, task.keys, resolve_metrics("default"))
    pd.testing.assert_frame_equal(evaluator.anchors(), expected)


def test_a_source_finds_the_task_by_its_name(task):
    source = Tasks(task)
    assert Evaluator.list_tasks(source) == ["mine"]
    assert Evaluator("mine", source).reference.n_obs == Evaluator(task).reference.n_obs
    with pytest.raises(PerturbenchError, match="unknown task 'yours'; choose one of: mine"):
        Evaluator("yours", source)


def test_a_split_of_other_cells_is_refused(task):
    split = task.split.rename(index={task.split.index[0]: "stranger"})
    with pytest.raises(PerturbenchError, match="stranger"):
        Evaluator(Task(task.cells, split, task.keys))
