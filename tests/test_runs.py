"""Whole runs of the project, as a user starts them."""

import json
import os
import signal
import subprocess
import sys
import time

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
import yaml
from pandas.testing import assert_frame_equal
from tests.projects import TINY

from perturbench.errors import PerturbenchError
from perturbench.provenance import Stamp


def test_whole_chain_on_the_embedded_data(run):
    run(model="latent_additive")
    data = run.root / "data"
    board = pd.read_csv(data / "08_reporting/demo/leaderboard.csv")
    assert board["model"].tolist() == ["latent_additive"]
    assert json.loads((data / "01_raw/demo.json").read_text())["sha256"].startswith("d0f31e5b")
    predicted = ad.read_h5ad(data / "07_model_output/demo/latent_additive/seed0.h5ad")
    assert Stamp.read(predicted.uns).seed == 0
    assert predicted.n_vars == 103
    checkpoint = torch.load(data / "06_models/demo/latent_additive/seed0.ckpt", weights_only=True)
    assert Stamp.read(checkpoint).inputs["split"]
    report = (data / "08_reporting/demo/report.html").read_text()
    assert "latent_additive" in report
    assert not list(data.rglob("*.unfinished")), "nothing of a finished training is left"
    assert not list(data.rglob(".*.partial"))


def test_the_same_seed_gives_the_same_scores_and_another_does_not(run):
    scores = {}
    for name, seed in [("first", 0), ("second", 0), ("other", 1)]:
        run(**TINY, model="latent_additive", seed=seed)
        path = run.root / f"data/08_reporting/simulated/scores/latent_additive/seed{seed}.parquet"
        scores[name] = pd.read_parquet(path)
        path.unlink()
        (run.root / f"data/07_model_output/simulated/latent_additive/seed{seed}.h5ad").unlink()
    assert_frame_equal(scores["first"], scores["second"], check_exact=True)
    assert (scores["first"]["value"] != scores["other"]["value"]).any()


def test_a_users_prediction_is_evaluated_and_ranked(run):
    run(**TINY, model="control")
    prepared = ad.read_h5ad(run.root / "data/03_primary/simulated/prepared.h5ad")
    split = pd.read_parquet(run.root / "data/05_model_input/simulated/split.parquet")["split"]
    truth = prepared[(split == "test").to_numpy()].copy()
    del truth.uns["perturbench"]
    truth.write_h5ad(run.root / "data/07_model_output/simulated/oracle.h5ad")
    run("evaluation", **TINY)
    board = pd.read_csv(run.root / "data/08_reporting/simulated/leaderboard.csv")
    assert board["model"].tolist() == ["oracle", "control"]
    log = pd.read_csv(run.root / "data/08_reporting/simulated/evaluation_log.csv").set_index("prediction")
    assert log["status"].to_dict() == {"control/seed0": "up to date", "oracle": "evaluated"}


def test_evaluation_without_predictions_names_the_command(run):
    run("ingestion", "splitting", "preprocessing", **TINY)
    with pytest.raises(PerturbenchError, match="kedro run --pipeline=modeling --params=task:simulated"):
        run("evaluation", **TINY)


def test_several_models_share_one_leaderboard(run):
    for model in ("control", "mean_response", "decoder_only"):
        run(**TINY, model=model, trainer={"max_epochs": 10})
    board = pd.read_csv(run.root / "data/08_reporting/simulated/leaderboard.csv").set_index("model")
    assert board.loc["control", "rmse_rank_average"] == 0.5
    assert board.loc["control", "cosine_logfc_undefined"] == 1.0
    assert board.loc["decoder_only", "cosine_logfc_undefined"] == 0.0


@pytest.mark.parametrize("covariates", [[], ["cell_type"]])
def test_no_covariates_or_one_value(run, covariates):
    """One state only: a transfer split is refused, combinations can be held out."""
    one = {"source": {"simulation": {**TINY["data"]["source"]["simulation"], "n_states": 1}}}
    params = {**TINY, "data": {**one, "covariate_keys": covariates}}
    with pytest.raises(PerturbenchError, match="the transfer split holds nothing out"):
        run(**params)
    run(**{**params, "splitter": {"method": "combine", "max_heldout_fraction_per_covariate": 0.7}})
    assert (run.root / "data/08_reporting/simulated/leaderboard.csv").is_file()


def test_search_resumes_and_its_result_is_used(run):
    narrow = {"encoder_width": {"kind": "int", "low": 16, "high": 64, "step": 16}}
    params = {**TINY, "model": "latent_additive", "search_space": narrow}
    run("ingestion", "splitting", "preprocessing", **params)
    run("hpo", **params, hpo={"n_trials": 2})
    trials = run.root / "data/08_reporting/simulated/hpo/latent_additive.parquet"
    first = pd.read_parquet(trials)
    run("hpo", **params, hpo={"n_trials": 3})
    second = pd.read_parquet(trials)
    assert len(second) == 3
    assert second["hparams"].tolist()[:2] == first["hparams"].tolist()
    assert second["hparams"].nunique() == 3, "a resumed search does not try the same again"
    tuned = yaml.safe_load((run.root / "data/06_models/simulated/latent_additive/tuned.yml").read_text())
    best = second.loc[second["value"].idxmin()]
    assert tuned["hparams"] == json.loads(best["hparams"])
    assert tuned["objective"] == pytest.approx(best["val_rmse_average"] + 0.1 * best["val_rmse_rank_average"])
    catalog = run.catalog(**params)
    assert len(catalog["search_history"].preview()["data"][0]["x"]) == (second["state"] == "COMPLETE").sum()
    assert "importance" in catalog["search_importance"].preview()["layout"]["title"]["text"]
    run("hpo", **params, hpo={"n_trials": 1}, hparams={"inject_covariates_decoder": True})
    other = yaml.safe_load((run.root / "data/06_models/simulated/latent_additive/tuned.yml").read_text())
    assert other["hparams"]["inject_covariates_decoder"], "fixed hyperparameters are part of the study and its result"
    assert other["made_by"]["trials"] == 1
    run("hpo", **params, hpo={"n_trials": 3})
    run("modeling", **params, hyperparameters="tuned")
    checkpoint = torch.load(run.root / "data/06_models/simulated/latent_additive/seed0.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["encoder_width"] == tuned["hparams"]["encoder_width"]


def validation_objective(run, **params):
    """The objective of a search, of the leaderboard of the validation part."""
    params = {**params, "prediction": {"part": "val"}}
    run("modeling", "evaluation", **params)
    board = pd.read_csv(run.root / "data/08_reporting/simulated/leaderboard.csv").iloc[0]
    return board["rmse_average"] + 0.1 * board["rmse_rank_average"]


def test_tuned_hyperparameters_are_at_least_as_good_as_the_defaults(run, load_config):
    space = {"encoder_width": {"kind": "int", "low": 16, "high": 64, "step": 16}, "lr": {"low": 1e-5}}
    params = {**TINY, "model": "latent_additive", "trainer": {"max_epochs": 4}}
    run("ingestion", "splitting", "preprocessing", **params)
    run("hpo", **params, search_space=space, hpo={"n_trials": 4, "n_startup_trials": 0})
    trials = pd.read_parquet(run.root / "data/08_reporting/simulated/hpo/latent_additive.parquet")
    assert trials["start"].tolist() == [True, False, False, False]
    assert trials["state"][0] == "COMPLETE", "the start is never pruned"
    assert json.loads(trials["hparams"][0]) == load_config(**params)["parameters"]["hparams"]
    defaults, tuned = (validation_objective(run, **params, hyperparameters=name) for name in ("defaults", "tuned"))
    assert defaults == pytest.approx(trials["value"][0])
    assert tuned == pytest.approx(trials.loc[trials["state"] == "COMPLETE", "value"].min())
    assert tuned <= defaults


def test_trials_on_other_data_are_another_study(run):
    params = {**TINY, "model": "linear_additive"}
    run("ingestion", "splitting", "preprocessing", **params)
    tuned = run.root / "data/06_models/simulated/linear_additive/tuned.yml"
    studies = []
    other_split = {**params, "splitter": {**TINY["splitter"], "seed": 7}}
    other_space = {**params, "search_space": {"lr": {"high": 0.01}}}
    same = {**params, "trainer": {"log_every_n_epochs": 1}}
    for changed in (params, same, other_space, other_split):
        run("splitting", **changed)
        run("hpo", **changed, hpo={"n_trials": 1})
        made_by = yaml.safe_load(tuned.read_text())["made_by"]
        assert made_by["trials"] == 1
        studies.append(made_by["study"])
    assert studies[0] == studies[1]
    assert len(set(studies)) == 3


def test_a_failing_trial_is_recorded_and_the_search_goes_on(run):
    params = {**TINY, "model": "linear_additive"}
    run("ingestion", "splitting", "preprocessing", **params)
    with pytest.raises(PerturbenchError, match="unknown metric 'no_such_metric'"):
        run("hpo", **params, hpo={"n_trials": 2, "objective": {"no_such_metric": 1.0}})
    with pytest.raises(PerturbenchError, match=r"search_space\.lr is .*it needs a kind"):
        run("hpo", **params, search_space={"lr": {"kind": "uniform"}})
    with pytest.raises(PerturbenchError, match="names hyperparameters that 'linear_additive' does not have: width"):
        run("hpo", **params, search_space={"width": {"kind": "int", "low": 1, "high": 2}})
    diverging = {**params, "search_space": {"lr": {"kind": "float", "low": 1e37, "high": 1e38}}}
    run("hpo", **diverging, hpo={"n_trials": 2})
    path = run.root / "data/08_reporting/simulated/hpo/linear_additive.parquet"
    trials = pd.read_parquet(path)
    assert trials["state"].tolist() == ["COMPLETE", "FAIL"], "the start lies outside the space, and is tried"
    assert "ended without a finite val_loss" in trials["error"][1]
    with pytest.raises(
        PerturbenchError, match=r"none of the 2 trials .* completed: .*without a finite val_loss.*lr=2e\+37"
    ):
        run("hpo", **diverging, hpo={"n_trials": 2}, hparams={"lr": 2e37}, seed=1)
    assert pd.read_parquet(path)["error"].notna().all()


def test_a_model_without_a_search_space_is_told(run):
    run("ingestion", "splitting", "preprocessing", **TINY)
    with pytest.raises(PerturbenchError, match="model 'control' has no search_space"):
        run("hpo", **TINY, model="control")


def test_what_was_made_from_another_split_is_refused(run):
    run(**TINY, model="linear_additive")
    board = run.root / "data/08_reporting/simulated/leaderboard.csv"
    first = board.read_text()
    other = {**TINY, "splitter": {**TINY["splitter"], "seed": 7}}
    run("splitting", "preprocessing", **other)
    with pytest.raises(
        PerturbenchError, match=r"this evaluation: split changed since .* Predict again: kedro run --pipeline=modeling"
    ):
        run("evaluation", **other)
    with pytest.raises(
        PerturbenchError, match=r"the data changed since the checkpoint was trained: split\. Train again"
    ):
        predict_only(run, **other, model="linear_additive")
    run("modeling", "evaluation", **other, model="linear_additive")
    assert board.read_text() != first
    run("preprocessing", **{**other, "preprocessing": {"target_sum": 100}})
    with pytest.raises(PerturbenchError, match="this evaluation: cells changed since"):
        run("evaluation", **other)


def predict_only(run, **params):
    from kedro.framework.session import KedroSession

    with KedroSession.create(project_path=run.root, env="test", runtime_params=params) as session:
        session.run(pipeline_names=["modeling"], node_names=["modeling.predict"])


def test_an_unreadable_prediction_does_not_stop_the_others(run):
    run(**TINY, model="control")
    folder = run.root / "data/07_model_output/simulated"
    (folder / "broken.h5ad").write_text("torn")
    ad.AnnData(obs=pd.DataFrame({"condition": ["A"]}, index=["c"])).write_h5ad(folder / "empty.h5ad")
    run("evaluation", **TINY)
    log = pd.read_csv(run.root / "data/08_reporting/simulated/evaluation_log.csv").set_index("prediction")
    assert log["status"].to_dict() == {"broken": "refused", "control/seed0": "up to date", "empty": "refused"}
    assert "cannot be read as h5ad" in log.loc["broken", "reason"]


def test_predictions_that_link_to_the_truth_or_are_malformed_are_refused(run):
    run(**TINY, model="control")
    folder = run.root / "data/07_model_output/simulated"
    for name in ("links", "wrong_index", "long"):
        predicted = ad.read_h5ad(folder / "control/seed0.h5ad")
        del predicted.uns["perturbench"]
        predicted.X = sp.csr_matrix(predicted.X)
        predicted.write_h5ad(folder / f"{name}.h5ad")
    with h5py.File(folder / "links.h5ad", "a") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink("../../03_primary/simulated/prepared.h5ad", "/X")
    with h5py.File(folder / "wrong_index.h5ad", "a") as file:
        file["X/indices"][3] = -1
    with h5py.File(folder / "long.h5ad", "a") as file:
        del file["X"]
        ad.io.write_elem(file, "X", np.ones((predicted.n_obs + 5, predicted.n_vars), dtype=np.float32))
    os.mkfifo(folder / "pipe.h5ad")
    run("evaluation", **TINY)
    log = pd.read_csv(run.root / "data/08_reporting/simulated/evaluation_log.csv").set_index("prediction")
    assert log["status"].drop("control/seed0").eq("refused").all()
    assert log.loc["control/seed0", "status"] == "up to date"
    for name, message in [
        ("links", "'/X' is a link to '/X' in the file '../../03_primary/simulated/prepared.h5ad'"),
        ("wrong_index", "'/X' is malformed: it has the index -1"),
        ("long", "'X' has shape"),
        ("pipe", "is a pipe, not a regular file"),
    ]:
        assert message in log.loc[name, "reason"]
        assert "\n" not in log.loc[name, "reason"]
        assert "Failed while loading" not in log.loc[name, "reason"]


def test_bad_values_are_told_before_anything_runs(run):
    for params, message in [
        ({"seed": -1}, "seed is '-1'"),
        ({"seed": "abc"}, "seed is 'abc'"),
        ({"hparams": {"lr": "fast"}}, r"hparams\.lr is 'fast'; it must be of type float"),
        ({"evaluation": {"metrics": "rmsd"}}, "unknown metrics profile or metric 'rmsd'"),
    ]:
        with pytest.raises(PerturbenchError, match=message):
            run(**{**TINY, **params})
        assert not list((run.root / "data").rglob("*.ckpt"))
    if not torch.cuda.is_available():
        with pytest.raises(PerturbenchError, match="accelerator 'gpu' cannot be used on this machine"):
            run(**TINY, trainer={"accelerator": "gpu"})


def test_a_typo_in_an_environment_is_told(run):
    (run.root / "conf/test/parameters_extra.yml").write_text("trainr: {max_epochs: 1}\n")
    with pytest.raises(PerturbenchError, match="unknown parameters in conf/local or the environment: trainr"):
        run(**TINY)


def start(root, *arguments):
    command = [sys.executable, "-m", "kedro", "run", "--env=test", *arguments]
    log = (root / "log.txt").open("a")
    return subprocess.Popen(command, cwd=root, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def test_a_killed_run_leaves_nothing_half_written_and_goes_on(project_copy):
    root = project_copy
    arguments = ["--params=trainer.max_epochs:60,trainer.patience:60,trainer.log_every_n_epochs:1"]
    process = start(root, *arguments)
    for _ in range(1200):
        if "epoch 5:" in (root / "log.txt").read_text() or process.poll() is not None:
            break
        time.sleep(0.05)
    assert process.poll() is None, (root / "log.txt").read_text()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    visible = [path for path in (root / "data").rglob("*") if path.is_file() and not path.name.startswith(".")]
    for path in visible:
        if path.suffix == ".h5ad":
            ad.read_h5ad(path)
        elif path.suffix == ".parquet":
            pd.read_parquet(path)
        elif path.suffix == ".ckpt":
            torch.load(path, weights_only=True)
    assert not (root / "data/06_models/demo/latent_additive/seed0.ckpt").exists()

    assert start(root, *arguments).wait() == 0, (root / "log.txt").read_text()
    text = " ".join((root / "log.txt").read_text().split())
    assert "resuming an unfinished training after epoch" in text
    assert (root / "data/08_reporting/demo/report.html").is_file()
    assert not (root / "data/06_models/demo/latent_additive/seed0.unfinished").exists()


@pytest.mark.shared
def test_real_combinations(kedro, shared):
    """The README's way to run norman19 on a file of one's own, and evaluation alone after it."""
    path = f"data.source.path:{(shared / 'data/norman19_devel.h5ad').resolve()}"
    kedro("run", f"--params=task:norman19,{path},trainer.max_epochs:60")
    out = kedro("run", "--pipeline=evaluation", "--params=task:norman19").stdout
    assert "latent_additive/seed0: up to date" in out
    split = pd.read_csv(kedro.root / "data/08_reporting/norman19/split_summary.csv").set_index("split")
    assert split["perturbations"].to_dict() == {"train": 23, "val": 5, "test": 5, "used": 33}
    board = pd.read_csv(kedro.root / "data/08_reporting/norman19/leaderboard.csv").iloc[0]
    assert board["cosine_logfc"] > 0.3, "a model that predicts no effect, or any one effect, is near 0"
    assert board["rmse_average_undefined"] == 0


@pytest.mark.shared
def test_real_transfer_between_replicates(run, shared):
    run(
        task="papalexi21",
        model="mean_response",
        data={"source": {"path": str((shared / "data/papalexi21.h5ad").resolve())}},
    )
    board = pd.read_csv(run.root / "data/08_reporting/papalexi21/leaderboard.csv").iloc[0]
    assert board["cosine_logfc_undefined"] == 0
    assert_checked(run.root / "data/08_reporting/papalexi21")


def assert_checked(folder):
    """The checks of the split are saved, passed, and part of the report."""
    checks = pd.read_csv(folder / "split_checks.csv")
    assert set(checks["result"]) == {"passed"}
    report = (folder / "report.html").read_text()
    assert all(check in report for check in checks["check"])


@pytest.fixture
def mcfaline(shared, tmp_path):
    """The development file of McFaline 2023 as if it had the states of the whole screen: its cells are all untreated,
    and get one of four treatments in turn."""
    adata = ad.read_h5ad(shared / "data/mcfaline23_devel.h5ad")
    adata.obs["cell_type"] = adata.obs["cell_type"].str.lower()
    treatments = ["none", "lapatinib", "nintedanib", "trametinib"]
    adata.obs["treatment"] = [treatments[row % 4] for row in range(adata.n_obs)]
    adata.write_h5ad(tmp_path / "mcfaline.h5ad")
    return {"source": {"path": str(tmp_path / "mcfaline.h5ad")}}


@pytest.mark.shared
def test_real_transfer_to_held_out_states(run, mcfaline):
    run(task="mcfaline23_small", model="latent_additive", data=mcfaline)
    results = run.root / "data/08_reporting/mcfaline23_small"
    assert pd.read_csv(results / "leaderboard.csv").loc[0, "cosine_logfc_undefined"] == 0
    assert_checked(results)
    splits = {}
    for size in ("small", "medium", "full"):
        run("ingestion", "splitting", task=f"mcfaline23_{size}", data=mcfaline)
        splits[size] = pd.read_parquet(run.root / f"data/05_model_input/mcfaline23_{size}/split.parquet")["split"]
    n_used = {size: int(split.notna().sum()) for size, split in splits.items()}
    assert n_used["small"] < n_used["medium"] < n_used["full"] == len(splits["full"])
    for part in ("val", "test"):
        assert len({frozenset(split.index[split == part]) for split in splits.values()}) == 1


@pytest.mark.parametrize("model", ["mean_response", "additive", "ridge", "linear_additive", "latent_additive", "cpa"])
def test_perturbations_that_no_model_has_seen_are_predicted_and_scored(run, model):
    """Networks see no known perturbation and predict one effect for all; the mean response is the mean response."""
    params = {**TINY, "model": model, "splitter": {"method": "unseen", "n_folds": 3, "fold": 1}}
    run(**params)
    folder = run.root / "data"
    split = pd.read_parquet(folder / "05_model_input/simulated/split.parquet")["split"]
    predicted = ad.read_h5ad(folder / f"07_model_output/simulated/{model}/seed0.h5ad")
    observed = ad.read_h5ad(folder / "03_primary/simulated/prepared.h5ad")[(split == "test").to_numpy()]
    tested = set(observed.obs["condition"]) - {"control"}
    assert set(predicted.obs["condition"]) == tested
    board = pd.read_csv(folder / "08_reporting/simulated/leaderboard.csv").iloc[0]
    assert board["rmse_average_undefined"] == board["cosine_logfc_undefined"] == 0
    one = predicted.obs["cell_type"] == "state1"
    singles = [name for name in tested if "+" not in name]
    means = [predicted[one & (predicted.obs["condition"] == name)].X.mean(axis=0) for name in singles]
    assert len(means) == 2
    assert means[0] == pytest.approx(means[1], abs=1e-5), "nothing tells them apart"
