"""The grid on a Ray cluster of two machines, which are two processes here."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from ray.cluster_utils import Cluster

from perturbench.errors import PerturbenchError
from perturbench.grid.on_ray import run_on_ray
from perturbench.grid.processes import Job


@pytest.fixture
def cluster():
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    running.add_node(num_cpus=1)
    yield running
    running.shutdown()


def test_runs_are_run_on_the_cluster_and_failures_are_told(cluster, kedro):
    given = ["--models=control,latent_additive_scgpt,mean_response", f"--address={cluster.address}", "--env=test"]
    result = kedro("benchmark", *given, check=False)
    assert result.returncode == 1
    assert "1 failed:\ndemo/latent_additive_scgpt/seed0: " in result.stderr
    assert "embedding 'X_scgpt' is not in obsm" in result.stderr
    assert "demo/control/seed0: done" in result.stdout
    assert (kedro.root / "data/07_model_output/demo/mean_response/seed0.h5ad").is_file()
    assert (kedro.root / "data/08_reporting/demo/report.html").is_file()


def test_runs_take_gpus_and_are_told_to_wait_for_them(cluster, tmp_path, capfd):
    cluster.add_node(num_cpus=1, num_gpus=1)
    jobs = [Job(f"x{i}", ("--version",), tmp_path, tmp_path / f"x{i}.log") for i in range(2)]
    ended = list(run_on_ray(jobs, cluster.address, gpus=0.5))
    assert {job.name: outcome.code for job, outcome in ended} == {"x0": 0, "x1": 0}
    assert "runs wait" not in capfd.readouterr().err
    running = run_on_ray(jobs, cluster.address, gpus=2)
    pool = ThreadPoolExecutor(1)
    waiting = pool.submit(next, running)
    try:
        with pytest.raises(TimeoutError):
            waiting.result(timeout=5)
        assert "no machine of the Ray cluster has 2 GPUs; the runs wait" in capfd.readouterr().err
    finally:
        cluster.add_node(num_cpus=1, num_gpus=2)
    assert waiting.result(timeout=60)[1].code == 0
    pool.shutdown()
    running.close()


def test_without_a_cluster_or_without_ray_the_fix_is_told(tmp_path, monkeypatch):
    job = Job("x", ("--version",), tmp_path, tmp_path / "x.log")
    for address in ("127.0.0.1:9", "nonsense"):
        with pytest.raises(PerturbenchError, match=f"no Ray cluster answers at '{address}'"):
            list(run_on_ray([job], address))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PerturbenchError, match=r"pip install 'perturbench\[ray\]'"):
        list(run_on_ray([job], "auto"))
