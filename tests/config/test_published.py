"""Everything that was published with the hyperparameters is used, or docs/configuration.md says why not."""

import re
from pathlib import Path

import pytest
import yaml
from tests.config.test_loader import FILES, NEGATED

ROOT = Path(__file__).parents[2]
#: Batch sizes of the published data configurations; some models override them.
BATCH_SIZES = {"norman19": 4000, "sciplex3": 4000, "frangieh21": 8000, "mcfaline23": 8000, "jiang24": 2000, "op3": 8000}
#: The published files of the data, which bring their splits.
PROCESSED = {"data": {"source": {"kind": "processed"}}}
PRECISIONS = {16: "16-mixed", 32: "32-true"}
#: The published trainer's precision; some models override it.
DEFAULT_PRECISION = 16


def flat(mapping, prefix=""):
    """Return the leaves of nested mappings by their path."""
    leaves = {}
    for name, value in mapping.items():
        leaves |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return leaves


def documented():
    """Return the published keys that docs/configuration.md lists as unused."""
    section = (ROOT / "docs/configuration.md").read_text().partition("## Published settings")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([\w.]+)` \|", section, re.MULTILINE))


def used(entry, parameters):
    """Return the published keys that are parameters of a run, after checking that their values arrive there."""
    trainer, data, splitter = (parameters[name] for name in ("trainer", "data", "splitter"))
    expected = {
        "trainer.max_epochs": trainer["max_epochs"],
        "trainer.min_epochs": trainer["min_epochs"],
        "data_overrides.batch_size": trainer["batch_size"],
        "data_overrides.embedding_key": data["embedding_key"],
        "data_overrides.splitter.max_heldout_fraction_per_covariate": splitter["max_heldout_fraction_per_covariate"],
        "data_overrides.splitter.split_path": "${paths.data_dir}/" + "/".join(Path(splitter["path"] or "").parts[-2:]),
        "model.lr_scheduler_freq": (trainer["lr_scheduler"] or {}).get("frequency"),
    }
    hparams = parameters["hparams"]
    if hparams.get("restart_adv_steps"):  # the published code warms up one epoch longer than its n_warmup_epochs
        hparams["n_warmup_epochs"] -= 1
    expected |= {f"model.{name}": value for name, value in hparams.items() if name != "hidden_dim_cond"}
    expected |= {
        f"model.{theirs}": not parameters["hparams"][ours]
        for theirs, ours in NEGATED.items()
        if ours in parameters["hparams"]
    }
    leaves = flat({"trainer.precision": DEFAULT_PRECISION, "data_overrides.batch_size": BATCH_SIZES[entry["data"]]})
    leaves |= flat(entry)
    assert trainer["precision"] == PRECISIONS[leaves["trainer.precision"]]
    found = {name for name in leaves if name in expected}
    for name in found:
        number = isinstance(leaves[name], float)
        assert expected[name] == (pytest.approx(leaves[name], rel=1e-12) if number else leaves[name]), name
    return found | {"trainer.precision"}


@pytest.mark.shared
def test_every_published_setting_is_used_or_listed(shared, load_config):
    facts = yaml.safe_load((shared / "facts/best_params.yaml").read_text())["neurips2025"]
    loader, unused = load_config(), set()
    for entries in (value for name, value in facts.items() if name != "_verification"):
        for name, entry in entries.items():
            model, _, task = name.partition("_best_params_")
            run = {"model": FILES.get(model, model), "task": task.replace("sciplex3", "srivatsan20")}
            parameters = loader.of_a_run(**run, **PROCESSED, hyperparameters="published")
            unused |= set(flat(entry)) - used(entry, parameters)
    # They name the model, the data set and the file itself.
    assert unused - {"base", "data", "ref"} == documented()


def test_published_settings_of_the_trainer(load_config):
    trainer = load_config(task="jiang24", model="sams_vae", hyperparameters="published")["parameters"]["trainer"]
    assert (trainer["max_epochs"], trainer["precision"], trainer["batch_size"]) == (400, "32-true", 256)
    run = {"task": "srivatsan20", "model": "latent_additive_scgpt", "hyperparameters": "published"}
    trainer = load_config(**run)["parameters"]["trainer"]
    assert (trainer["max_epochs"], trainer["precision"]) == (500, "16-mixed")
    assert trainer["lr_scheduler"] == {"factor": 0.2, "patience": 15, "frequency": 5}
    assert not trainer["train_on_controls"], "the published code matches control cells and does not train on them"
    trainer = load_config(task="jiang24", model="cpa", hyperparameters="published")["parameters"]["trainer"]
    assert trainer["train_on_controls"], "the published CPA needs no matched control cells"
    assert trainer["lr_scheduler"] is None, "its learning rate never falls"
    assert load_config(**{**run, "hyperparameters": "defaults"})["parameters"]["trainer"]["precision"] == "auto"


def test_the_environment_and_params_override_published_settings(load_config):
    run = {"task": "jiang24", "model": "cpa", "hyperparameters": "published"}
    assert load_config(env="test", **run)["parameters"]["trainer"]["max_epochs"] == 2
    trainer = load_config(env="gpu", **run, trainer={"precision": "bf16-mixed"})["parameters"]["trainer"]
    assert (trainer["precision"], trainer["accelerator"], trainer["max_epochs"]) == ("bf16-mixed", "gpu", 400)
