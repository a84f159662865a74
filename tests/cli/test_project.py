"""The command line."""

import json

import anndata as ad
import pytest
import yaml
from click.testing import CliRunner

from perturbench.cli import benchmark
from perturbench.cli import run as run_command


@pytest.mark.parametrize("separator", ["=", ":"])
def test_params_take_colons_and_equals(project, separator):
    context = run_command.make_context("run", [f"--params=task{separator}norman19,url=s3://x,a.b{separator}1"])
    assert context.params["params"] == {"task": "norman19", "url": "s3://x", "a": {"b": 1}}


def test_a_users_mistake_is_one_line_not_a_traceback(kedro):
    result = kedro("run", "--params=task:nope", check=False)
    assert result.returncode == 1
    assert "Error: unknown task 'nope'; choose one of: demo" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_benchmark_runs_models_and_names_the_failed(kedro):
    result = kedro("benchmark", "--models=control,latent_additive_scgpt", "--env=test", check=False)
    assert result.returncode == 1
    assert "1 failed:\ndemo/latent_additive_scgpt/seed0: " in result.stderr
    assert "embedding 'X_scgpt' is not in obsm" in result.stderr
    assert "(data/08_reporting/demo/logs/latent_additive_scgpt-seed0.log)" in result.stderr
    board = (kedro.root / "data/08_reporting/demo/leaderboard.csv").read_text()
    assert {line.split(",")[0] for line in board.splitlines()[1:]} == {"control"}
    assert (kedro.root / "data/08_reporting/demo/report.html").is_file()
    assert "technical_duplicate" in result.stdout, "ends with the leaderboard"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models=control,nope"], "unknown model 'nope'"),
        (["--models=control", "--tasks=nope"], "unknown task 'nope'"),
        (["--suite=nope"], "unknown suite 'nope'; choose one of: demo, paper, paper_scgpt"),
        ([], "no models are given"),
        (["--models=control", "--seeds=a"], "seeds.0"),
        (["--models=control", "--params=seed:1"], "--params sets seed; use --tasks, --models and --seeds"),
        (["--models=control", "--params=trainer.max_epochs:0"], "max_epochs"),
        (["--models=control", "--params=evaluation.metrics:rmsd"], "unknown metrics profile or metric 'rmsd'"),
        (["--models=gears", "--params=hyperparameters:published"], "every model is left out"),
        (["--models=control", "--gpus-per-run=1"], "give its address with --address"),
    ],
)
def test_mistakes_in_a_benchmark_are_told_before_anything_runs(project, monkeypatch, options, message):
    monkeypatch.chdir(project)
    result = CliRunner().invoke(benchmark, options)
    assert result.exit_code == 1, result.output
    assert message in result.output
    assert "making the data" not in result.output


def test_a_suite_is_changed_by_options_and_can_be_printed(project, monkeypatch):
    monkeypatch.chdir(project)
    given = ["--suite=paper", "--tasks=norman19", "--models=gears,sams_vae", "--params=trainer.max_epochs:7"]
    lines = CliRunner().invoke(benchmark, [*given, "--dry-run"]).stdout.splitlines()
    params = "hyperparameters:published,evaluation.metrics:paper,trainer.max_epochs:7"
    cells = [
        f"kedro run --pipelines=modeling --params=task=norman19,model=sams_vae,seed={seed},{params}"
        for seed in range(5)
    ]
    assert lines[1:-1] == cells
    shared = "--params=task=norman19,evaluation.metrics:paper,trainer.max_epochs:7"
    assert lines[0] == f"kedro run --pipelines=ingestion,splitting,preprocessing {shared}"
    assert lines[-1] == f"kedro run --pipelines=evaluation,reporting {shared}"


def test_benchmark_gives_a_models_parameters_to_its_stage_only(kedro):
    kedro("benchmark", "--models=decoder_only", "--params=hparams.softplus_output:false", "--env=test")
    log = (kedro.root / "data/08_reporting/demo/evaluation_log.csv").read_text()
    assert '""softplus_output"": false' in log


def _source_of(project, task, url, name, **facts):
    """Let a task be downloaded from elsewhere, as a user does who has a mirror."""
    raw = {"read": name, "files": {name: {"url": url, "bytes": None, "checksum": None} | facts}}
    tasks = {task: {"data": {"source": {"published": {"raw": raw}}}}}
    (project / "conf/local/parameters.yml").write_text(yaml.safe_dump({"tasks": tasks}))


def test_ingestion_downloads(kedro, server, screen, tmp_path):
    screen.write_h5ad(tmp_path / "screen.h5ad")
    name = "NormanWeissman2019_filtered.h5ad"
    server.files[name] = (tmp_path / "screen.h5ad").read_bytes()
    _source_of(kedro.root, "norman19", f"{server.url}/{name}", name)
    result = kedro("run", "--pipeline=ingestion", "--params=task:norman19")
    assert f"downloading {name}" in result.stdout + result.stderr
    assert ad.read_h5ad(kedro.root / "data/02_intermediate/norman19/curated.h5ad").shape == screen.shape
    manifest = json.loads((kedro.root / "data/01_raw/norman19.json").read_text())
    assert manifest["files"][0]["sha256"] == manifest["sha256"]
    kedro("run", "--pipeline=ingestion", "--params=task:norman19")
    assert len(server.asked) == 1


def test_unreachable_raw_data_names_the_file_and_the_fix(kedro):
    name = "SrivatsanTrapnell2020_sciplex3.h5ad"
    _source_of(kedro.root, "srivatsan20", f"http://127.0.0.1:9/{name}", name, bytes=2526631614)
    result = kedro("run", "--params=task:srivatsan20", check=False)
    assert result.returncode == 1
    assert f"http://127.0.0.1:9/{name} cannot be downloaded" in result.stderr
    assert f"(2.5 GB), place it at '{kedro.root}/data/01_raw/srivatsan20/{name}'" in result.stderr
    assert "data.source.path" in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_predictions_name_the_command(kedro):
    kedro("run", "--pipelines=ingestion,splitting,preprocessing", "--env=test")
    result = kedro("run", "--pipeline=evaluation", "--params=task:demo,model:control", check=False)
    assert "'predictions' does not exist yet" in result.stderr
    assert "kedro run --pipeline=modeling --params=task:demo,model:control" in result.stderr
