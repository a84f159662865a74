import numpy as np
import pytest

from perturbench.analysis.benchmarks.evaluator import Evaluator
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
    tasks = Evaluator.list_tasks(project)
    paper = {"srivatsan20-transfer", "norman19-combo", "mcfaline23-transfer", "frangieh21-transfer", "jiang24-transfer"}
    assert paper | {"demo", "norman19", "simulated"} <= set(tasks)


def test_listing_6(prepared):
    evaluator = Evaluator(task="simulated", project=prepared)
    cells = evaluator.reference[evaluator.reference.obs["condition"] != "control"].copy()
    result = evaluator.evaluate({"CPA_pred": cells})
    assert result.summary.loc["CPA_pred", "rmse_average"] == pytest.approx(0, abs=1e-6)
    assert result.summary.loc["CPA_pred", "rmse_rank_average"] == 0
    assert list(result.scores.columns) == ["model", "metric", "perturbation", "cell_type", "value"]
    anchors = evaluator.anchors().groupby("model")["value"].count()
    assert {"control", "mean_response", "technical_duplicate"} <= set(anchors.index)


def test_it_is_the_pipelines_evaluation(run, prepared):
    import anndata as ad
    import pandas as pd

    run("modeling", "evaluation", **TINY, model="linear_additive")
    predicted = ad.read_h5ad(prepared / "data/07_model_output/simulated/linear_additive/seed0.h5ad")
    mine = Evaluator("simulated", prepared).evaluate({"m": predicted}).summary.loc["m"]
    board = pd.read_csv(prepared / "data/08_reporting/simulated/leaderboard.csv").iloc[0]
    for name, value in mine.items():
        assert value == pytest.approx(board[name])


def test_what_is_missing_is_told(project_copy):
    with pytest.raises(PerturbenchError, match=r"unknown task 'norman'; choose one of: .*norman19-combo"):
        Evaluator("norman", project_copy)
    with pytest.raises(PerturbenchError, match=r"kedro run --pipelines=ingestion,.* --params=task:norman19"):
        Evaluator("norman19-combo", project_copy)


def test_trainer_test_takes_metrics_of_cells(screen, keys):
    import lightning as L

    from perturbench.data import PerturbationDataModule
    from perturbench.data.splits import SplitRules, split_cells
    from perturbench.models import Control
    from perturbench.preprocessing.preparation import prepare
    from perturbench.training import fit

    cells = prepare(screen, keys)
    module = PerturbationDataModule(cells, split_cells(cells.obs, keys, "transfer", SplitRules(), 0), keys)
    model = Control(module.context)
    fit(model, module, accelerator="cpu")
    model.test_metrics = ["rmse_average", "energy_pca"]
    L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).test(model, module, verbose=False)
    energy = model.test_scores.query("metric == 'energy_pca'")["value"]
    assert np.isfinite(energy).all() and len(energy) == len(module.pairs("test"))
