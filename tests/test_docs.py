"""README and docs: links lead somewhere, python and yaml parse, names and numbers are true, the site builds."""

import ast
import pydoc
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.test_demo_scores import PINNED

from perturbench.cli import benchmark
from perturbench.cli import run as run_command

ROOT = Path(__file__).parents[1]
SOURCE = "".join(path.read_text() for path in sorted((ROOT / "src").rglob("*.py")))
#: Every path in a code span of CONTRIBUTING.md, such as ``data/splits/``, in ``src/perturbench`` or in the project.
FILES_THAT_CONTRIBUTING_NAMES = sorted(
    set(re.findall(r"`([\w./]+(?:/|\.py|\.yml|\.md|\.toml|\.css))`", (ROOT / "CONTRIBUTING.md").read_text()))
)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language):
    return [
        pytest.param(block, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, block in enumerate(re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL))
    ]


def cluster_commands():
    """Commands of scripts that need a cluster; all others are run in test_docs_commands.py."""
    scripts = "".join(block.values[0] for block in blocks("text")).replace("\\\n", " ")
    return re.findall(r"^kedro [^|#\n]*", scripts, re.MULTILINE)


@pytest.mark.parametrize("line", cluster_commands())
def test_commands_for_a_cluster_name_what_exists(line, load_config, stages):
    words = shlex.split(line)
    if words[1] == "run":
        context = run_command.make_context("run", words[2:])
        assert load_config(env=context.params["env"], **context.params["params"])["parameters"]["hparams"]
        assert context.params["pipeline"] in stages
    else:
        options = benchmark.make_context("benchmark", words[2:]).params
        suite = load_config()["suites"][options["suite"]] if options["suite"] else {}
        for task in options["tasks"] or suite["tasks"]:
            assert load_config(env=options["env"], task=task)["parameters"]
        for model in options["models"] or suite["models"]:
            assert load_config(env=options["env"], model=model)["parameters"]


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


@pytest.mark.parametrize("kind", ["tasks", "models"])
def test_catalogues_have_a_section_for_everything(kind):
    headings = re.findall(r"^## +(.*)$|^### +(.*)$", (ROOT / f"docs/{kind}.md").read_text(), re.MULTILINE)
    sections = {name for heading in headings for name in "".join(heading).split(", ")}
    for path in (ROOT / f"conf/base/parameters/{kind}").glob("*.yml"):
        assert path.stem in sections, f"docs/{kind}.md has no section for {path.stem}"


def test_models_have_a_row_in_the_overview():
    rows = re.findall(r"^\| (`.*?`) \|", (ROOT / "docs/models.md").read_text(), re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert named == {path.stem for path in (ROOT / "conf/base/parameters/models").glob("*.yml")}


def test_the_readme_fits_on_a_few_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100


def test_the_leaderboard_of_the_readme_is_the_one_of_make_demo():
    rows = re.findall(r"^\| `(\w+)` \| (\d.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    shown = {model: tuple(values.split(" | ")) for model, values in rows}
    assert shown == {
        model: tuple("-" if value != value else f"{value:.4f}" for value in values) for model, values in PINNED.items()
    }


def test_the_glossary_is_in_order():
    glossary = (ROOT / "docs/concepts.md").read_text().partition("## Glossary")[2].partition("\n## ")[0]
    words = [word.strip("`").lower() for word in re.findall(r"^\| (?!word|---)(.*?) \|", glossary, re.MULTILINE)]
    assert words == sorted(words)
    assert len(words) == len(set(words)) > 40


@pytest.mark.parametrize("path", FILES_THAT_CONTRIBUTING_NAMES)
def test_files_that_contributing_names_are_there(path):
    assert (ROOT / path).exists() or (ROOT / "src/perturbench" / path).exists()


def test_site_builds(tmp_path):
    """Without a warning: every link, page, directive and docstring in it is right."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
        "--keep-going",
        "docs",
        tmp_path / "site",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    reference = (tmp_path / "site/reference/analysis.html").read_text()
    assert 'id="perturbench.analysis.evaluate"' in reference
    models = (tmp_path / "site/models.html").read_text()
    assert "n_layers_pert_emb" in models, "the table of hyperparameters"
    assert str(ROOT) not in models, "paths of the machine that builds the site"


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r":(?:class|func|mod|meth|attr):`~?(perturbench[\w.]+)`", SOURCE)))
)
def test_references_in_docstrings_lead_somewhere(target):
    assert pydoc.locate(target) is not None


def test_the_picture_of_the_chain_is_true(stages, load_config):
    text = (ROOT / "docs/_static/chain.svg").read_text()
    drawn = re.findall(r'<g class="(pipeline|entry)">.*<text[^>]*>(\w+)</text>', text)
    assert {name for kind, name in drawn if kind == "pipeline"} == set(stages) - {"__default__", "template"}
    for kind, name in drawn:
        if kind == "pipeline":
            stage = stages[name]
        else:
            assert name in stage.all_outputs(), f"{name} is drawn below a pipeline that does not write it"
            assert name in load_config()["catalog"]
