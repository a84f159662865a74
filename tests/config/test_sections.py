"""Values in ``conf/base`` are the defaults of the library, so that a notebook and a run do the same."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from tests.config.test_loader import MODELS

from perturbench.analysis import evaluate
from perturbench.config import sections
from perturbench.config.sections.data import SourceConfig
from perturbench.data import PerturbationDataModule
from perturbench.models.plateau import PlateauSettings
from perturbench.preprocessing.embeddings import pca_embeddings
from perturbench.training import predict_queries

CONF = Path(__file__).parents[2] / "conf"
SECTIONS = {
    "data": sections.DataConfig,
    "data.source": SourceConfig,
    "preprocessing": sections.PreprocessingConfig,
    "embedding": sections.EmbeddingConfig,
    "splitter": sections.SplitterConfig,
    "trainer": sections.TrainerConfig,
    "trainer.lr_scheduler": PlateauSettings,
    "prediction": sections.PredictionConfig,
    "queries": sections.QueriesConfig,
    "evaluation": sections.EvaluationConfig,
    "reporting": sections.ReportingConfig,
    "hpo": sections.HpoConfig,
}
#: A run uses the CPU unless an environment asks for more; a notebook uses the GPU that it finds.
CHOICES = {("trainer", "accelerator"): "cpu"}
#: What a task describes of its data set; base has no value for it.
OF_A_TASK = {
    "data": {"dataset", "card"},
    "data.source": {"kind", "path", "sha256", "how_to_get", "published", "simulation"},
}


def base_values(section: str) -> dict:
    found = yaml.safe_load((CONF / "base/parameters.yml").read_text())
    for name in section.split("."):
        found = found[name]
    return found


def in_project(value):
    """Return a path in the project as a library default has it, relative to the current folder."""
    return value.removeprefix("${root:").removesuffix("}") if isinstance(value, str) else value


def test_every_section_is_checked():
    from perturbench.config.selection import SECTIONS as names

    assert {name.partition(".")[0] for name in SECTIONS} == set(names)
    assert {getattr(sections, name) for name in sections.__all__} == {
        value for name, value in SECTIONS.items() if "." not in name
    }


@pytest.mark.parametrize("section", SECTIONS)
def test_values_in_base_are_the_defaults(section):
    fields = SECTIONS[section].model_fields
    for name, value in base_values(section).items():
        if not fields[name].is_required() and f"{section}.{name}" not in SECTIONS:
            default = fields[name].get_default(call_default_factory=True)
            default = list(default) if isinstance(default, tuple) else default
            assert in_project(value) == CHOICES.get((section, name), default), f"{section}.{name}"


@pytest.mark.parametrize("section", SECTIONS)
def test_base_shows_every_parameter(section):
    assert set(base_values(section)) == set(SECTIONS[section].model_fields) - OF_A_TASK.get(section, set())


@pytest.mark.parametrize(
    ("section", "function", "names"),
    [
        ("trainer", PerturbationDataModule, {"batch_size", "num_workers", "preload_to_device", "train_on_controls"}),
        ("prediction", PerturbationDataModule, {"controls": "prediction_controls"}),
        ("evaluation", evaluate, {"metrics", "missing"}),
        ("queries", predict_queries, {"output"}),
        ("embedding", pca_embeddings, {"n_components", "seed"}),
    ],
)
def test_sections_have_the_defaults_of_functions_that_take_no_settings(section, function, names):
    parameters = inspect.signature(function).parameters
    for name in names:
        argument = names[name] if isinstance(names, dict) else name
        assert SECTIONS[section].model_fields[name].default == parameters[argument].default, name


def model_entries() -> dict:
    entries = {}
    for model in MODELS:
        entries |= yaml.safe_load((CONF / f"base/parameters/models/{model}.yml").read_text())["models"]
    return entries


@pytest.mark.parametrize("model", [name for name, entry in model_entries().items() if "target" in entry])
def test_defaults_of_a_model_are_those_of_its_constructor(model):
    entry = model_entries()[model]
    module, _, name = entry["target"].rpartition(".")
    parameters = dict(inspect.signature(getattr(import_module(module), name)).parameters)
    parameters.pop("context")
    given = {name: in_project(value) for name, value in (entry["defaults"] or {}).items()}
    assert given == {name: parameter.default for name, parameter in parameters.items()}


@pytest.mark.parametrize("model", [name for name, entry in model_entries().items() if "extends" in entry])
def test_a_variant_changes_defaults_of_its_parent(model):
    entries = model_entries()
    own, parent = entries[model]["defaults"], entries[entries[model]["extends"]]["defaults"]
    assert set(own) <= set(parent)
    assert all(own[name] != parent[name] for name in own)


@pytest.mark.parametrize("model", MODELS)
def test_a_search_varies_hyperparameters_of_the_model(load_config, model):
    parameters = load_config(model=model)["parameters"]
    assert set(parameters["search_space"]) <= set(parameters["hparams"])


def test_sections_import_no_heavy_libraries():
    import subprocess
    import sys

    code = (
        "import sys, perturbench.config.sections\n"
        "heavy = {'torch', 'lightning', 'scanpy', 'anndata', 'mlflow'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
