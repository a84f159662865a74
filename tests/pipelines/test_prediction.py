"""Predictions for users, as they ask for them."""

import anndata as ad
import pandas as pd
import pytest
from tests.projects import TINY, caller, copy_project, runner

from perturbench.errors import PerturbenchError
from perturbench.provenance import Stamp

CHAIN = ("ingestion", "splitting", "preprocessing")


@pytest.fixture(scope="module")
def prepared(project, tmp_path_factory):
    """Runs of a project whose cells are prepared, but nothing is trained."""
    run = runner(copy_project(project, tmp_path_factory.mktemp("project")))
    run(*CHAIN, **TINY)
    return run


@pytest.fixture(scope="module")
def trained(prepared):
    """The same with a checkpoint, and names of its data."""
    run = prepared
    run("modeling", **TINY)
    obs = ad.read_h5ad(run.root / "data/03_primary/simulated/prepared.h5ad", backed="r").obs
    run.singles = sorted({name for name in obs["condition"] if "+" not in name} - {"control"})
    run.states = sorted(obs["cell_type"].unique())
    run.unseen = next(
        f"{b}+{a}" for a in run.singles for b in run.singles if a < b and f"{a}+{b}" not in set(obs["condition"])
    )
    return run


def test_missing_inputs_name_what_makes_them(prepared):
    chosen = "--params=task:simulated,model:latent_additive,seed:3"
    with pytest.raises(PerturbenchError, match=f"'checkpoint' does not exist yet.*--pipeline=modeling {chosen}"):
        prepared("prediction", **TINY, seed=3)


def test_missing_table_names_the_template(trained):
    with pytest.raises(PerturbenchError, match=r"'query_table' does not exist yet.*queries\.path.*--pipeline=template"):
        trained("prediction", **TINY, queries={"path": "none.csv"})


def write(run, *rows, name="mine.csv"):
    table = pd.DataFrame(rows, columns=["condition", "cell_type"])
    path = run.root / name
    table.to_csv(path, index=False) if name.endswith("csv") else table.to_parquet(path)
    return str(path)


def predicted(run, name):
    return ad.read_h5ad(run.root / "data/07_model_output/counterfactuals/simulated/latent_additive/seed0" / name)


def test_a_table_of_a_single_and_a_new_double(trained):
    rows = [(trained.unseen, trained.states[0]), (trained.singles[0], trained.states[1])]
    for name in ("mine.csv", "same.parquet"):
        trained("prediction", **TINY, queries={"path": write(trained, *rows, name=name)})
    cells, same = predicted(trained, "mine_cells.h5ad"), predicted(trained, "same_cells.h5ad")
    assert (cells.X == same.X).all()
    canonical = "+".join(sorted(trained.unseen.split("+")))
    assert cells.obs["condition"].unique().tolist() == [canonical, trained.singles[0]]
    stamp = Stamp.read(cells.uns)
    assert (stamp.task, stamp.model, stamp.seed) == ("simulated", "latent_additive", 0)
    assert set(stamp.inputs) == {"cells", "split", "query table"}
    assert stamp.settings["queries"]["output"] == "cells"
    prepared = ad.read_h5ad(trained.root / "data/03_primary/simulated/prepared.h5ad")
    n_controls = (prepared.obs["condition"] == "control").sum()
    assert cells.n_obs == n_controls, "two states, the controls of all parts in each"

    queries = {"path": str(trained.root / "mine.csv"), "output": "pseudobulk"}
    trained("prediction", **TINY, queries=queries)
    means = predicted(trained, "mine_pseudobulk.h5ad")
    assert means.obs["condition"].tolist() == [canonical, trained.singles[0]]
    assert means.X[1] == pytest.approx(cells[cells.obs["condition"] == trained.singles[0]].X.mean(axis=0), rel=1e-4)
    part = {"controls": "part", "part": "train"}
    trained("prediction", **TINY, queries=queries, prediction=part)
    assert predicted(trained, "mine_pseudobulk.h5ad").obs["n_cells"].sum() < n_controls
    trained("evaluation", **TINY)
    log = pd.read_csv(trained.root / "data/08_reporting/simulated/evaluation_log.csv")
    assert log["prediction"].tolist() == ["latent_additive/seed0"], "what a user asks for is not evaluated"


def test_a_bad_table_is_refused_and_leaves_nothing(trained):
    path = write(trained, ("nope", trained.states[0]), ("control+never", "state9"), name="bad.csv")
    with pytest.raises(PerturbenchError, match=r"unknown perturbations: never, nope .*cell_type': state9"):
        trained("prediction", **TINY, queries={"path": path})
    assert not list(trained.root.rglob("bad*.h5ad"))


def test_a_template_is_predicted_as_it_is_and_never_overwritten(trained):
    trained("template", **TINY)
    path = trained.root / "data/05_model_input/simulated/queries.csv"
    template = pd.read_csv(path)
    assert {*trained.singles} < {*template["condition"]}
    assert set(template["cell_type"]) == set(trained.states)
    trained("prediction", **TINY, queries={"output": "pseudobulk"})
    means = predicted(trained, "queries_pseudobulk.h5ad")
    assert means.obs["condition"].tolist() == template["condition"].tolist()

    path.write_text("condition,cell_type\nmine,state1\n")
    with pytest.raises(PerturbenchError, match=r"exists already, and may have been edited: .*queries\.csv"):
        trained("template", **TINY)
    assert "mine,state1" in path.read_text()
    trained("template", **TINY, queries={"path": str(trained.root / "doubles.parquet"), "template": "doubles"})
    doubles = pd.read_parquet(trained.root / "doubles.parquet")
    assert "+".join(sorted(trained.unseen.split("+"))) in set(doubles["condition"])


def test_a_broken_table_is_one_line_on_the_command_line(trained):
    (trained.root / "mine.csv").write_text("condition,cell_type\na,b,state1\n")
    result = caller(trained.root)(
        "run", "--pipeline=prediction", "--params=task:simulated,queries.path:mine.csv", check=False
    )
    assert "mine.csv' has rows with more values than columns" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_checkpoint_of_other_cells_is_refused(trained):
    path = write(trained, (trained.unseen, trained.states[0]))
    trained(*CHAIN, **TINY | {"splitter": {"seed": 7, "max_heldout_fraction_per_covariate": 0.5}})
    with pytest.raises(PerturbenchError, match=r"was trained: .*split\. Train again: kedro run --pipeline=modeling"):
        trained("prediction", **TINY, queries={"path": path})
