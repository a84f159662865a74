"""The shape of the project: floors, catalog, stages."""

import subprocess
import sys
from pathlib import Path

from kedro.io import DataCatalog

SOURCE = Path(__file__).parents[1] / "src/perturbench"
OPTIONAL = {"hpo", "prediction", "template"}
STAGES = {"ingestion", "splitting", "preprocessing", "modeling", "evaluation", "reporting", *OPTIONAL}


def test_stages(stages):
    assert set(stages) == STAGES | {"__default__"}
    of_the_chain = {node.name for node in stages["__default__"].nodes}
    assert not of_the_chain & {node.name for name in OPTIONAL for node in stages[name].nodes}


def test_every_dataset_is_declared_with_a_layer(load_config, stages):
    config = load_config()["catalog"]
    names = set().union(*(pipeline.datasets() for pipeline in stages.values()))
    used = {name for name in names if not name.startswith("param")}
    assert used == {name for name in config if not name.startswith("_")}
    for name in used:
        assert config[name]["metadata"]["kedro-viz"]["layer"], name
    assert DataCatalog.from_config({name: config[name] for name in used})


def test_every_stage_is_one_box(stages):
    for name in STAGES:
        assert {node.namespace for node in stages[name].nodes} == {name}


def test_registry_does_not_import_the_heavy_libraries():
    code = (
        "import sys; from pathlib import Path\n"
        "from kedro.framework.startup import bootstrap_project; bootstrap_project(Path('.'))\n"
        "from kedro.framework.project import pipelines; assert 'modeling' in dict(pipelines)\n"
        "heavy = {'torch', 'lightning', 'scanpy', 'mlflow', 'optuna'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=SOURCE.parents[1], check=True)
