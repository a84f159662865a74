"""Configuration: layering, selection, and messages for what is not there."""

from pathlib import Path

import pytest
import yaml
from kedro.validation.exceptions import ParameterValidationError
from kedro.validation.parameter_validator import ParameterValidator

from perturbench.errors import PerturbenchError

CONF = Path(__file__).parents[1] / "conf"
TASKS = sorted(path.stem for path in (CONF / "base/parameters/tasks").glob("*.yml"))
MODELS = sorted(path.stem for path in (CONF / "base/parameters/models").glob("*.yml"))


@pytest.fixture
def validate(stages):
    return ParameterValidator(stages).validate_raw_params


def test_promised_tasks_and_models_are_there():
    assert {"demo", "norman19", "srivatsan20", "frangieh21", "jiang24", "mcfaline23_full"} <= set(TASKS)
    assert {"control", "mean_response", "linear_additive", "latent_additive", "decoder_only"} <= set(MODELS)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", MODELS)
def test_every_task_and_model_resolves_and_validates(load_config, validate, task, model):
    parameters = validate(load_config(task=task, model=model)["parameters"])
    assert parameters["data"].source.path
    assert parameters["model_target"].rpartition(".")[2]


@pytest.mark.parametrize("model", MODELS)
def test_yaml_defaults_are_the_constructors(load_config, model):
    import inspect
    from importlib import import_module

    config = yaml.safe_load((CONF / f"base/parameters/models/{model}.yml").read_text())["models"][model]
    module, _, name = config["target"].rpartition(".")
    signature = inspect.signature(getattr(import_module(module), name))
    assert set(config["defaults"]) == set(signature.parameters) - {"context"}
    assert set(config.get("search_space", {})) <= set(config["defaults"])
    for values in config.get("published", {}).values():
        assert set(values) <= set(config["defaults"])


@pytest.mark.parametrize("model", ["linear_additive", "latent_additive", "decoder_only"])
def test_published_values_are_chosen_by_task(load_config, model):
    published = load_config(task="norman19", model=model, hyperparameters="published")["parameters"]["hparams"]
    defaults = load_config(task="norman19", model=model)["parameters"]["hparams"]
    assert published["lr"] != defaults["lr"]


def test_later_layers_win(load_config, tmp_path):
    import shutil

    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf/mine").mkdir()
    (tmp_path / "conf/mine/parameters.yml").write_text(
        "task: norman19\ntrainer: {max_epochs: 7}\nhparams: {lr: 0.5}\nsplitter: {seed: 3}\n"
    )
    parameters = load_config(env="mine", conf=tmp_path / "conf", splitter={"seed": 4})["parameters"]
    assert parameters["splitter"]["method"] == "combine", "the environment's task chooses the splitter"
    assert parameters["trainer"]["batch_size"] == 4000, "the task overlays base"
    assert parameters["trainer"]["max_epochs"] == 7, "the environment overlays the task"
    assert parameters["splitter"]["seed"] == 4, "--params overlay the environment"
    assert parameters["hparams"]["lr"] == 0.5
    other = load_config(env="mine", conf=tmp_path / "conf", task="demo", hparams={"lr": 0.25})["parameters"]
    assert other["splitter"]["method"] == "transfer"
    assert other["hparams"] == parameters["hparams"] | {"lr": 0.25}


def test_catalog_follows_the_parameters(load_config):
    catalog = load_config(task="norman19", model="control", seed=3)["catalog"]
    assert catalog["checkpoint"]["filepath"].endswith("norman19/control/seed3.ckpt")
    assert load_config(env="gpu")["parameters"]["trainer"]["accelerator"] == "gpu"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"task": "norman"}, "unknown task 'norman'.*demo.*norman19"),
        ({"model": "cpa9"}, "unknown model 'cpa9'.*latent_additive"),
        ({"tsk": "demo"}, "unknown --params: tsk.*known: task"),
        ({"hparams": {"depth": 3}}, "unknown hyperparameters of 'latent_additive': depth.*n_layers"),
        ({"hyperparameters": "best"}, "unknown value of 'hyperparameters' 'best'.*published"),
        ({"hyperparameters": "published"}, "no published hyperparameters.*norman19"),
        ({"hyperparameters": "tuned"}, "kedro run --pipeline=hpo --params=task:demo,model:latent_additive"),
    ],
)
def test_unknown_names_are_told_with_the_choices(load_config, parameters, message):
    with pytest.raises(PerturbenchError, match=message):
        load_config(**parameters)["catalog"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"trainer": {"max_epoch": 3}}, "max_epoch; choose among: max_epochs"),
        ({"splitter": {"test_fraction": 1.5}}, "test_fraction"),
        ({"splitter": {"method": "random"}}, "method"),
        ({"preprocessing": {"fit_on": "test"}}, "fit_on"),
        ({"data": {"covariates": ["a"]}}, "covariates; choose among"),
        ({"hpo": {"storage": "redis://x"}}, "journal:<file>"),
        ({"wanted": {"path": "x.xlsx"}}, r"unknown suffix of wanted\.path '\.xlsx'; choose one of: \.csv, \.parquet"),
    ],
)
def test_bad_values_fail_before_any_node(load_config, validate, section, message):
    with pytest.raises(ParameterValidationError, match=message):
        validate(load_config(**section)["parameters"])


def test_unknown_keys_of_a_task_file_are_told(load_config, tmp_path):
    import shutil

    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf/base/parameters/tasks/odd.yml").write_text("tasks: {odd: {data: {dataset: x}, spliter: {}}}\n")
    with pytest.raises(PerturbenchError, match="task 'odd' has unknown keys: spliter"):
        load_config(conf=tmp_path / "conf", task="odd")["parameters"]
