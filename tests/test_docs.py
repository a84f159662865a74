"""README and docs: every command names what exists, links lead somewhere, python and yaml parse."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from perturbench.__main__ import evaluate
from perturbench.cli import benchmark
from perturbench.cli import run as run_command
from perturbench.cli_data import data

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language):
    return [
        pytest.param(block, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, block in enumerate(re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL))
    ]


def lines():
    return [
        pytest.param(line.strip(), id=line.strip()[:70])
        for block in blocks("bash")
        for line in block.values[0].splitlines()
        if line.strip()
    ]


@pytest.mark.parametrize("line", lines())
def test_commands_exist(line, load_config, stages):
    words = shlex.split(line)
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    elif words[:2] == ["kedro", "run"]:
        context = run_command.make_context("run", words[2:])
        params = dict(context.params["params"])
        if params.get("hyperparameters") == "tuned":
            del params["hyperparameters"]  # needs the search of the line before
        assert load_config(env=context.params.get("env"), **params)["parameters"]["hparams"] is not None
        assert context.params["pipeline"] in (None, *stages)
    elif words[:2] == ["kedro", "benchmark"]:
        options = benchmark.make_context("benchmark", words[2:]).params
        suite = load_config()["suites"][options["suite"]] if options["suite"] else {"tasks": ["demo"]}
        for task in options["tasks"] or suite["tasks"]:
            for model in options["models"] or suite["models"][:1]:
                assert load_config(task=task, model=model)["parameters"]
    elif words[:2] == ["perturbench", "data"]:
        assert words[2] in data.commands
    elif words[:2] == ["perturbench", "evaluate"]:
        options = {option for parameter in evaluate.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options
    else:
        assert words[0] in ("source", "git")


@pytest.mark.parametrize("block", blocks("python"))
def test_python_parses(block):
    assert ast.parse(block)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_yaml_parses(block):
    assert yaml.safe_load(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_tables_of_the_readme_are_complete():
    readme = (ROOT / "README.md").read_text()
    for kind in ("tasks", "models"):
        for path in (ROOT / f"conf/base/parameters/{kind}").glob("*.yml"):
            assert f"`{path.stem}`" in readme, path.stem


def test_site_builds(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    subprocess.run(command, cwd=ROOT, check=True)
    assert (tmp_path / "site/extending/index.html").is_file()
