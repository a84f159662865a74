"""``perturbench data``: what there is, what is on disk."""

import hashlib
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner
from tests.file_server import Answer

from perturbench.cli.main import main
from perturbench.data.sources.download import RetryPolicy
from perturbench.data.sources.remote import RemoteFile, fetch_file
from perturbench.errors import PerturbenchError


@pytest.fixture
def call(project_copy, monkeypatch):
    monkeypatch.chdir(project_copy)

    def _call(*arguments):
        result = CliRunner().invoke(main, ["data", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    return _call


def row(output, *words):
    return next(line for line in output.splitlines() if all(word in line for word in words))


def test_list_says_what_each_task_is(call):
    output = call("list")
    line = row(output, "norman19", "CRISPRa")
    for part in ("111,445", "105 singles and 131 doubles", "698.7 MB", "CC-BY-4.0", "raw: zenodo.org; or processed"):
        assert part in line
    assert "CC-BY-NC-4.0" in row(output, "jiang24", "15.3 GB", "processed: huggingface.co; or raw")
    assert "MIT" in row(output, "demo", "ishikawa23.h5ad")
    assert "simulated" in row(output, "Simulated screen")
    assert "unknown" in row(output, "op3", "OP3")
    assert "https://doi.org/10.1126/science.aax4438" in row(output, "norman19: Norman et al.")
    assert output.count("Srivatsan et al.") == 1, "tasks of one data set share its citation"


def test_status_says_what_is_there(call, project_copy, server):
    folder = project_copy / "data/01_raw"
    server.files |= {"good": b"x" * 1000, "stale": b"y" * 1000, "left": b"z" * 1000}
    files = {
        "good": {"url": f"{server.url}/good", "checksum": f"sha256:{hashlib.sha256(server.files['good']).hexdigest()}"},
        "stale": {"url": f"{server.url}/stale", "checksum": f"md5:{'0' * 32}"},
        "hand": {"url": f"{server.url}/hand"},
        "gone": {"url": f"{server.url}/gone"},
    }
    data = {"dataset": "mine", "source": {"kind": "raw", "published": {"raw": {"read": "good", "files": files}}}}
    tasks = {"mine": {"title": "Mine", "data": data}}
    (project_copy / "conf/local/parameters.yml").write_text(yaml.safe_dump({"tasks": tasks}))
    for name in ("good", "stale"):
        fetch_file(RemoteFile(name, **files[name]), folder / "mine", accept=True)
    (folder / "mine/hand").write_bytes(b"h" * 500)

    output = call("status")
    assert "1.0 kB" in row(output, "mine", "good", "there", "verified")
    assert row(output, "mine", "stale", "there", "differs, accepted")
    assert row(output, "mine", "hand", "there", "500 bytes", "not yet; at the next ingestion")
    assert row(output, "mine", "gone", "missing")
    assert row(output, "ishikawa23", "there", "2.1 MB")
    assert row(output, "simulated", "missing")


def test_status_of_a_download_that_broke_off(call, project_copy, server):
    name = "NormanWeissman2019_filtered.h5ad"
    server.files[name] = b"x" * 1000
    remote = RemoteFile(name, f"{server.url}/{name}", bytes=1000)
    server.answers = [Answer(cut=350), Answer(status=404)]
    with pytest.raises(PerturbenchError, match="404"):
        fetch_file(remote, project_copy / "data/01_raw/norman19", retry=RetryPolicy(pause=0.001))
    files = {name: {"url": remote.url, "bytes": 1000}}
    tasks = {"norman19": {"data": {"source": {"published": {"raw": {"files": files}}}}}}
    (project_copy / "conf/local/parameters.yml").write_text(yaml.safe_dump({"tasks": tasks}))
    assert row(call("status"), "norman19", "35 % downloaded", "350 bytes")


def test_works_in_a_folder_below(call, project_copy, monkeypatch):
    monkeypatch.chdir(project_copy / "data")
    assert "norman19" in call("list")


@pytest.mark.parametrize("command", ["list", "status"])
def test_mistakes_are_told_without_a_traceback(project_copy, monkeypatch, command):
    monkeypatch.chdir(project_copy)
    result = CliRunner().invoke(main, ["data", command, "--env", "nope"])
    assert result.exit_code == 1
    assert "conf/nope" in result.output
    (project_copy / "conf/local/parameters.yml").write_text("tasks: {mine: {data: {dataset: x, sorce: {}}}}")
    result = CliRunner().invoke(main, ["data", command])
    assert result.exit_code == 1
    assert "unknown parameters: sorce" in result.output
    monkeypatch.chdir(project_copy.parent)
    result = CliRunner().invoke(main, ["data", command])
    assert result.exit_code == 1
    assert "no project found" in result.output


def test_heavy_libraries_are_not_imported(project_copy):
    code = (
        "import sys; from perturbench.cli.main import main\n"
        "main(['data', 'status'], standalone_mode=False)\n"
        "heavy = {'torch', 'lightning', 'scanpy', 'anndata', 'mlflow'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=project_copy, check=True)
