"""The stage that writes a template of the table of queries."""

from kedro.pipeline import Node, Pipeline

from perturbench.pipelines.template.nodes import write_template


def create_pipeline(**_: object) -> Pipeline:
    """Return the stage: ``prepared``, ``split`` -> ``query_table``."""
    parameters = [f"params:{section}" for section in ("data", "trainer", "prediction", "queries")]
    return Pipeline(
        [Node(write_template, ["prepared", "split", *parameters], "query_table", name="write_template")],
        namespace="template",
        prefix_datasets_with_namespace=False,
    )
