"""Runs that are forks of a process with all libraries: their logs, exit statuses and ends."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from perturbench.grid.processes import Job, Outcome, execute
from perturbench.grid.warm import WarmProcess

pytestmark = pytest.mark.linux


@pytest.fixture(scope="module")
def warm(project):
    with WarmProcess(project, {"COLUMNS": "400", "PERTURBENCH_TRACKING": "off"}) as process:
        process.start()
        yield process


def wait_until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("waited in vain")


@pytest.mark.parametrize(
    ("arguments", "code", "text"), [(("--version",), 0, "kedro, version"), (("nonsense",), 2, "No such command")]
)
def test_a_fork_is_like_a_new_process(warm, project, tmp_path, arguments, code, text):
    """Its output is in the log, and its exit status is the command's."""
    job = Job("x", arguments, project, tmp_path / "x.log")
    for outcome in (execute(job, warm=warm), execute(job)):
        log = job.log.read_text()
        assert outcome.code == code, log
        assert text in log


@pytest.fixture
def fork(warm, tmp_path):
    """Return a run that has just started."""
    started = warm.fork(("registry", "list"), tmp_path / "log", {})
    wait_until(lambda: started.poll() is None and started._pid)
    return started


def test_the_status_of_a_killed_fork_is_the_signal(fork):
    fork.kill()
    assert fork.wait(30) == -signal.SIGKILL


def test_forks_end_when_the_grid_closes_their_connection(fork):
    run = psutil.Process(fork._pid)
    assert run.is_running()
    fork._connection.close()
    _, alive = psutil.wait_procs([run], timeout=30)
    assert not alive


def test_a_job_is_a_new_process_if_the_warm_one_has_died(project, tmp_path):
    with WarmProcess(project, {}) as process:
        assert process.fork(("--version",), tmp_path / "log", {}) is None, "it was not started"
        process.start()
        process._process.kill()
        process._process.wait()
        assert process.fork(("--version",), tmp_path / "log", {}) is None
        job = Job("x", ("--version",), project, tmp_path / "x.log")
        assert execute(job, warm=process) == Outcome(0, pytest.approx(0, abs=60))


def test_the_warm_process_imports_libraries_and_no_code_of_ours():
    """Otherwise a run would use code that is older than the files that its stamp records."""
    code = (
        "import sys; from perturbench.grid import warm; warm._import_libraries()\n"
        "ours = {name for name in sys.modules if name.startswith('perturbench')}\n"
        "assert ours == {'perturbench', 'perturbench.grid', 'perturbench.grid.warm'}, ours\n"
        "import torch; assert 'lightning' in sys.modules and not torch.cuda.is_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
