"""Names of metrics: how they are found, listed and registered."""

import subprocess
import sys

import numpy as np
import pytest

from perturbench.analysis import register_aggregation, register_comparison, register_metric
from perturbench.analysis.metrics.registry import (
    available_metrics,
    find_comparison,
    find_metric,
    profiles,
    resolve_metrics,
)
from perturbench.errors import PerturbenchError


def test_every_profile_resolves():
    assert set(profiles()) == {"default", "paper", "all"}
    for name in profiles():
        assert resolve_metrics(name)


def test_default_profile():
    names = [metric.name for metric in resolve_metrics("default")]
    assert names == ["rmse_average", "rmse_rank_average", "cosine_logfc", "cosine_rank_logfc"]


def test_names_are_resolved_once_and_in_order():
    names = [metric.name for metric in resolve_metrics(["cosine_logfc", "rmse_average", "cosine_logfc"])]
    assert names == ["cosine_logfc", "rmse_average"]


def test_unknown_name_lists_the_choices():
    with pytest.raises(
        PerturbenchError,
        match=r"unknown metric 'rmse'; choose .*comparisons: .*cosine.*aggregations: .*logfc.*rmse_average.*energy_pca",
    ):
        resolve_metrics(["rmse_average", "rmse"])
    with pytest.raises(
        PerturbenchError, match="unknown metrics profile or metric 'paper9'; choose one of: all, default, paper"
    ):
        resolve_metrics("paper9")


def test_one_metric_needs_no_list():
    assert [metric.name for metric in resolve_metrics("rmse_average")] == ["rmse_average"]


def test_no_metrics():
    with pytest.raises(PerturbenchError, match="no metrics chosen; name some of: rmse_average"):
        resolve_metrics([])


def test_a_metric_and_an_aggregation_can_be_added(registry):
    @register_comparison("worst", better="lower")
    def worst(observed, predicted):
        return np.abs(observed - predicted).max(axis=-1)

    @register_aggregation("shift")
    def shift(means, control_means):
        return means - control_means

    known = available_metrics()
    assert {"worst_average", "worst_rank_logfc", "worst_rank_shift", "rmse_shift"} <= set(known)
    assert known["worst_shift"].better == "lower"


def error(observed, predicted):
    return np.abs(observed - predicted).max(axis=-1)


def other_error(observed, predicted):
    return np.abs(observed - predicted).min(axis=-1)


def test_a_name_is_given_once(registry):
    register_comparison("worst", better="lower")(error)
    with pytest.raises(
        PerturbenchError, match=r"comparison 'worst' is already defined by .*test_registry\.error; give .*other_error"
    ):
        register_comparison("worst", better="lower")(other_error)
    register_aggregation("shift")(error)
    with pytest.raises(PerturbenchError, match=r"aggregation 'shift' is already defined by .*test_registry\.error;"):
        register_aggregation("shift")(other_error)
    register_metric("mine", better="lower")(error)
    with pytest.raises(PerturbenchError, match=r"metric 'mine' is already defined by .*test_registry\.error;"):
        register_metric("mine", better="lower")(other_error)
    assert find_metric("mine").function is error
    assert find_comparison("worst").rows is error


@pytest.mark.parametrize("register", [register_comparison, register_metric], ids=["comparison", "metric"])
def test_a_function_that_is_defined_again_replaces_itself(registry, register):
    """As when a cell of a notebook is run again, or a module is reloaded."""

    def cell_of_a_notebook(answer):
        def mine(observed, predicted):
            return answer

        return register("again", better="lower")(mine)

    cell_of_a_notebook(1)
    second = cell_of_a_notebook(2)
    metric = find_metric("again" if register is register_metric else "again_average")
    assert (metric.function if register is register_metric else find_comparison("again").rows) is second


def test_built_in_names_are_taken_before_they_are_used(registry):
    with pytest.raises(PerturbenchError, match=r"comparison 'rmse' is already defined by perturbench\..*\.rmse;"):
        register_comparison("rmse", better="lower")(error)
    with pytest.raises(PerturbenchError, match=r"aggregation 'average' is already defined by perturbench\..*\.average"):
        register_aggregation("average")(error)
    with pytest.raises(PerturbenchError, match=r"metric 'energy_pca' is already defined by perturbench\..*\.energy;"):
        register_metric("energy_pca", better="lower")(error)


def test_built_in_names_are_taken_in_a_fresh_process():
    """Before any metric was asked for, when the built-in ones are not imported yet."""
    code = (
        "from perturbench.analysis import register_comparison\n"
        "try:\n    register_comparison('rmse', better='lower')(lambda observed, predicted: 0)\n"
        "except ValueError as error:\n    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "comparison 'rmse' is already defined by perturbench.analysis.metrics.comparisons.rmse" in result.stdout


@pytest.mark.parametrize("name", ["rmse_average", "rmse_rank_average", "cosine_rank_transposed_logfc"])
def test_a_metric_may_not_be_called_like_a_combination(registry, name):
    with pytest.raises(PerturbenchError, match=f"two metrics would be called '{name}', by metric '{name}' and by"):
        register_metric(name, better="lower")(error)
    assert find_metric(name).function is not error


def test_combinations_may_not_be_called_like_a_metric_or_each_other(registry):
    with pytest.raises(PerturbenchError, match=r"'matrix_distance_logfc', by metric .*comparison 'matrix_distance'"):
        register_comparison("matrix_distance", better="lower")(error)
    with pytest.raises(PerturbenchError, match=r"'mmd_pca', by metric .*with aggregation 'pca'"):
        register_comparison("mmd", better="lower")(error)
        register_aggregation("pca")(error)
    with pytest.raises(PerturbenchError, match=r"'rmse_rank_average', by .*'rmse'.* and by comparison 'rmse_rank'"):
        register_comparison("rmse_rank", better="lower")(error)
    assert "rmse_rank_logfc" in available_metrics()


@pytest.mark.parametrize("register", [register_comparison, register_metric], ids=["comparison", "metric"])
def test_which_way_is_better_has_two_answers(register):
    with pytest.raises(PerturbenchError, match="unknown better 'smaller'; choose one of: higher, lower"):
        register("mine", better="smaller")
    with pytest.raises(PerturbenchError, match="unknown needs 'genes'; choose one of: cells, means"):
        register_aggregation("mine", needs="genes")
