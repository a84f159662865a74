"""When a score may be compared with a published one."""

import pytest

from perturbench.analysis.report.comparability import Origin, run_differences


@pytest.mark.parametrize(
    ("source", "method", "expected"),
    [
        ("processed", "csv", []),
        ("processed", "combine", ["a split of our own"]),
        ("raw", "csv", ["data curated from the raw file", "a split of our own"]),
        ("file", "csv", ["a data file of your own", "a split of our own"]),
        ("simulation", "transfer", ["simulated data", "a split of our own"]),
    ],
)
def test_cells_and_split_are_published_together(source, method, expected):
    assert Origin(source, splitter={"method": method}).differences() == expected


def test_what_is_unknown_is_not_comparable():
    assert Origin().differences() == ["data of unknown source", "a split of our own"]


@pytest.mark.parametrize(
    ("source", "cells", "expected"),
    [("file", 1_500, "1,500 of 111,445 cells"), ("file", 91_205, None), ("raw", 1_500, None), ("file", None, None)],
)
def test_few_cells_of_a_users_file_are_a_development_slice(source, cells, expected):
    assert Origin(source, cells, 111_445).development_slice == expected


RUN = "kedro run --env=gpu --params=task:norman19,model:cpa,seed:0"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (f"{RUN},hyperparameters:published", []),
        (f"{RUN},hyperparameters:published,trainer.devices:2,evaluation.metrics:paper", []),
        (RUN, ["other hyperparameters"]),
        (f"{RUN},hyperparameters:tuned", ["other hyperparameters"]),
        (f"{RUN},hyperparameters:published,trainer.max_epochs:3", ["trainer.max_epochs changed"]),
        (f"{RUN},hyperparameters:published,hparams.lr:0.1", ["hparams.lr changed"]),
        (f"{RUN},hyperparameters:published\n# with hparams.widths: [1, 2] in conf/local", ["hparams.widths changed"]),
        ("", ["a prediction from elsewhere"]),
    ],
)
def test_hyperparameters_and_changes_are_read_from_the_command(command, expected):
    assert run_differences([command]) == expected


def test_all_seeds_have_to_be_as_published():
    assert run_differences([f"{RUN},hyperparameters:published", RUN, RUN]) == ["other hyperparameters"]
