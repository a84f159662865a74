"""Tasks of a project by name: what ``Evaluator(task=...)`` finds in the project's folder."""

import anndata as ad
import pandas as pd
import pytest

from perturbench.analysis.benchmarks.evaluator import Evaluator
from perturbench.config.project_tasks import PAPER_TASKS, ProjectTasks
from perturbench.errors import PerturbenchError

TINY = {
    "task": "simulated",
    "data": {"source": {"simulation": {"n_cells": 600, "n_genes": 30, "n_states": 2, "n_singles": 6, "n_doubles": 3}}},
    "splitter": {"max_heldout_fraction_per_covariate": 0.6, "max_heldout_covariates": 1},
}


@pytest.fixture
def prepared(run):
    run("ingestion", "splitting", "preprocessing", **TINY)
    return run.root


def test_tasks_have_the_papers_names_and_the_projects(project):
    names = ProjectTasks(project).names()
    paper = {"srivatsan20-transfer", "norman19-combo", "mcfaline23-transfer", "frangieh21-transfer", "jiang24-transfer"}
    assert paper | {"demo", "norman19", "simulated"} <= set(names)
    assert set(PAPER_TASKS.values()) <= set(names)


def test_listing_6(prepared, monkeypatch):
    (prepared / "notebooks").mkdir()
    monkeypatch.chdir(prepared / "notebooks")
    assert "simulated" in Evaluator.list_tasks()
    evaluator = Evaluator(task="simulated")
    cells = evaluator.reference[evaluator.reference.obs["condition"] != "control"].copy()
    result = evaluator.evaluate({"CPA_pred": cells})
    assert result.summary.loc["CPA_pred", "rmse_average"] == pytest.approx(0, abs=1e-6)
    assert result.summary.loc["CPA_pred", "rmse_rank_average"] == 0
    anchors = evaluator.anchors().groupby("model")["value"].count()
    assert {"control", "mean_response", "technical_duplicate"} <= set(anchors.index)


def test_it_is_the_pipelines_evaluation(run, prepared):
    run("modeling", "evaluation", **TINY, model="linear_additive")
    predicted = ad.read_h5ad(prepared / "data/07_model_output/simulated/linear_additive/seed0.h5ad")
    mine = Evaluator("simulated", ProjectTasks(prepared)).evaluate({"m": predicted}).summary.loc["m"]
    board = pd.read_csv(prepared / "data/08_reporting/simulated/leaderboard.csv").iloc[0]
    for name, value in mine.items():
        assert value == pytest.approx(board[name])


def test_cells_are_where_the_catalog_has_them(prepared):
    catalog = prepared / "conf/base/catalog/preprocessing.yml"
    catalog.write_text(catalog.read_text().replace("data/03_primary/", "elsewhere/"))
    (prepared / "data/03_primary").rename(prepared / "elsewhere")
    assert ProjectTasks(prepared).load("simulated").cells.n_obs > 0


def test_what_is_missing_is_named_with_the_command_that_makes_it(project_copy):
    source = ProjectTasks(project_copy)
    with pytest.raises(PerturbenchError, match=r"unknown task 'norman'; choose one of: .*norman19-combo"):
        Evaluator("norman", source)
    with pytest.raises(PerturbenchError, match=r"kedro run --pipelines=ingestion,.* --params=task:norman19"):
        Evaluator("norman19-combo", source)


def test_outside_a_project_no_task_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PerturbenchError, match="is not inside one; work in the project's folder"):
        Evaluator("demo")
