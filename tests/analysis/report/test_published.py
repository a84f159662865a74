"""The paper's results beside a leaderboard's."""

import pandas as pd
import pytest

from perturbench.analysis.metrics.registry import available_metrics
from perturbench.analysis.report import render_page, sections
from perturbench.analysis.report.comparability import Origin
from perturbench.analysis.report.published import beside_published, published_results, table_of

PUBLISHED = Origin("processed", 91_205, 111_445, {"method": "csv"})


@pytest.fixture
def board():
    rows = {"model": ["latent_additive", "mine"], "seeds": [2, 1], "cosine_logfc": [0.8, 0.1]}
    more = {"sd": [0.02, float("nan")], "low": [float("nan")] * 2, "undefined": [0.0, 0.0]}
    return pd.DataFrame(rows | {f"cosine_logfc_{name}": values for name, values in more.items()})


def test_published_names_are_those_of_the_project(project):
    results = published_results()["results"]
    tasks, models = (
        {path.stem for path in (project / f"conf/base/parameters/{kind}").glob("*.yml")} for kind in ("tasks", "models")
    )
    assert set(results) <= tasks
    for of_models in results.values():
        assert set(of_models) <= models
        assert set(published_results()["tables"]) == set(results)
        assert {metric for values in of_models.values() for metric in values} <= set(available_metrics())


def test_only_what_both_have_is_compared(board):
    table = beside_published(board, "norman19")
    assert table.to_dict("records") == [
        {
            "model": "latent_additive",
            "metric": "cosine_logfc",
            "table": "table 3",
            "here": "0.8 ± 0.02",
            "published": "0.79 ± 0.01",
            "difference": pytest.approx(0.01),
            "comparable": "no: data of unknown source, a split of our own, a prediction from elsewhere",
        }
    ]
    assert beside_published(board, "demo").empty


def test_the_report_has_the_section_where_the_paper_has_the_task(board):
    page = render_page("T", "norman19", [sections.published(board, "norman19")])
    assert "arXiv 2408.10609 v4" in page and "0.79 ± 0.01" in page
    assert sections.published(board, "demo") is None


def test_every_metric_has_its_table():
    assert table_of("srivatsan20", "mmd_pca") == "table 2"
    assert table_of("srivatsan20", "rmse_average") == table_of("frangieh21", "matrix_distance_logfc")
    assert "mode collapse" in table_of("srivatsan20", "rmse_average")
    assert "Frangieh21" in table_of("frangieh21", "rmse_average")


def test_a_run_as_published_is_comparable(board):
    command = "kedro run --params=task:norman19,model:latent_additive,seed:0,hyperparameters:published"
    table = beside_published(board, "norman19_published", PUBLISHED, {"latent_additive": [command]})
    assert table["comparable"].tolist() == ["yes"]
    other = beside_published(board, "norman19", PUBLISHED, {"latent_additive": [command, "kedro run --params=seed:1"]})
    assert other["comparable"].tolist() == ["no: other hyperparameters"]


def test_a_development_slice_is_not_compared(board):
    page = render_page("T", "norman19", [sections.published(board, "norman19", Origin("file", 1_500, 111_445))])
    assert "development slice of the data: 1,500 of 111,445 cells" in page
    assert "0.79 ± 0.01" not in page
