"""The reporting stage: from what the others leave to the page."""

import re

import pandas as pd
import plotly.io as pio
import pytest
from tests.projects import TINY

KINDS = ("leaderboard", "scores", "similarities", "examples", "training", "series")


@pytest.fixture
def report(run):
    """Return a function that reads a task's page without scripts."""

    def read(task="simulated"):
        page = (run.root / f"data/08_reporting/{task}/report.html").read_text()
        return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)

    return read


def test_report_of_a_trained_and_a_users_model(run, report):
    run(**TINY, model="linear_additive", trainer={"max_epochs": 3})
    folder = run.root / "data/07_model_output/simulated"
    (folder / "broken.h5ad").write_text("torn")
    run("evaluation", "reporting", **TINY)
    page = report()
    for heading in (
        "Leaderboard",
        "Scores per state",
        "Collapse",
        "Examples",
        "Training",
        "Data",
        "Split",
        "Provenance",
    ):
        assert f"<h2>{heading}</h2>" in page
    assert "<h2>Imbalance</h2>" not in page, "the task is in no series"
    assert "trainer.max_epochs:3" in page, "the command that made the row"
    assert "cannot be read as h5ad" in page
    assert re.search(r"passed</td>", page)
    losses = pd.read_csv(run.root / "data/06_models/simulated/linear_additive/seed0.losses.csv")
    assert losses["epoch"].tolist() == [1, 2, 3]
    for kind in KINDS:
        assert pio.read_json(run.root / f"data/08_reporting/simulated/{kind}.json").layout.height


def test_models_without_epochs_have_no_curves(run, report):
    run(**TINY, model="mean_response")
    assert "<h2>Training</h2>" not in report()
    assert not list((run.root / "data/06_models").rglob("*.losses.csv"))
    assert "No model beats the baseline" in report()


def test_series_of_tasks(run, report):
    """Two tasks of a series: the report of either shows both, and names the third, which was not run."""
    folder = run.root / "conf/base/parameters/tasks"
    for name in ("few", "many"):
        (folder / f"{name}.yml").write_text(
            f"tasks:\n  {name}:\n    title: {name}\n    extends: simulated\n"
            f"    reporting: {{series: [few, many, more], against: training_cells}}\n"
        )
    for task, n_cells in (("few", 600), ("many", 900)):
        simulation = {**TINY["data"]["source"]["simulation"], "n_cells": n_cells}
        run(**{**TINY, "task": task, "data": {"source": {"simulation": simulation}}}, model="mean_response")
    page = report("many")
    assert "<h2>Scaling</h2>" in page
    assert "few, many" in page
    assert re.search(r"results yet:\s+more", page)
    figure = pio.read_json(run.root / "data/08_reporting/many/series.json")
    assert list(figure.data[0].text) == ["few", "many"], "from left to right"


def test_published_values_say_whether_they_are_comparable(run, report):
    """The data of this task is simulated, whatever its name is."""
    task = run.root / "conf/base/parameters/tasks/norman19_published.yml"
    task.write_text("tasks:\n  norman19_published:\n    extends: simulated\n    title: t\n")
    run(**{**TINY, "task": "norman19_published"}, model="linear_additive", trainer={"max_epochs": 1})
    page = report("norman19_published")
    assert "<h2>Published</h2>" in page
    why = "no: simulated data, a split of our own, other hyperparameters, trainer.max_epochs changed"
    assert "<td>table 3</td>" in page
    assert f"<td>{why}</td>" in page


def test_a_report_is_drawn_again_without_predictions_and_with_other_examples(run, report):
    run(**TINY, model="mean_response")
    figure = run.root / "data/08_reporting/simulated/examples.json"
    first = pio.read_json(figure).layout.meta
    assert first["model"] == "mean_response/seed0"
    assert [row["shown as"] for row in first["rows"]] == ["best", "median", "worst"]
    name = first["rows"][1]["perturbation"].split(" in ")[0]
    run("reporting", **{**TINY, "reporting": {"examples": [name]}})
    assert {row["perturbation"].split(" in ")[0] for row in pio.read_json(figure).layout.meta["rows"]} == {name}
    (run.root / "data/07_model_output/simulated/mean_response/seed0.h5ad").unlink()
    run("reporting", **TINY)
    assert "<h2>Leaderboard</h2>" in report()
    assert "<h2>Examples</h2>" not in report()
