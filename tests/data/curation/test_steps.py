"""Steps of curation: what they do, and that none of them silently selects nothing."""

import numpy as np
import pandas as pd
import pytest

from perturbench.data.curation import Annotation, run_steps
from perturbench.errors import PerturbenchError


@pytest.fixture
def annotation():
    obs = pd.DataFrame(
        {
            "drug": pd.Categorical(["Veh", "X_Y", "X", None, "Veh"]),
            "line": ["MCF7", "MCF7", "A549", "A549", "A549"],
            "dose": [0.0, 10.0, 100.0, np.nan, 0.0],
            "file": ["d1.a", "d1.a", "d2.a", "d2.a", "d2.a"],
        },
        index=list("abcde"),
    )
    var = pd.DataFrame({"id": ["E1", "E1", "M2", None], "symbol": ["S", "T", None, "S"]}, index=list("wxyz"))
    return Annotation(obs, var)


def apply(annotation, name, **arguments):
    return run_steps(annotation, [{name: arguments}])


@pytest.mark.parametrize(
    ("name", "arguments", "column", "expected"),
    [
        ("rename_columns", {"columns": {"line": "cell_type"}}, "cell_type", ["MCF7", "MCF7", "A549", "A549", "A549"]),
        ("set_columns", {"values": {"kind": "drug"}}, "kind", ["drug"] * 5),
        ("fill_missing", {"column": "drug", "value": "NA"}, "drug", ["Veh", "X_Y", "X", "NA", "Veh"]),
        ("map_values", {"column": "drug", "values": {"Veh": "c", "Z": "c"}}, "drug", ["c", "X_Y", "X", None, "c"]),
        ("lower_case", {"column": "line"}, "line", ["mcf7", "mcf7", "a549", "a549", "a549"]),
        ("replace_delimiter", {"column": "drug", "old": "_"}, "drug", ["Veh", "X+Y", "X", None, "Veh"]),
        ("extract", {"column": "n", "source": "file", "pattern": r"d(\d)"}, "n", ["1", "1", "2", "2", "2"]),
        ("drop_missing", {"column": "drug"}, "drug", ["Veh", "X_Y", "X", "Veh"]),
        ("keep_values", {"column": "line", "values": ["MCF7"]}, "line", ["MCF7", "MCF7"]),
        ("drop_values", {"column": "line", "values": ["A549"]}, "line", ["MCF7", "MCF7"]),
        ("drop_combinations", {"column": "drug", "delimiter": "_"}, "drug", ["Veh", "X", None, "Veh"]),
        ("drop_small_groups", {"columns": ["line"], "min_cells": 3}, "line", ["A549"] * 3),
    ],
)
def test_steps_of_cells(annotation, name, arguments, column, expected):
    values = apply(annotation, name, **arguments).obs[column].astype(object)
    assert values.where(values.notna(), None).tolist() == expected


def test_highest_dose_keeps_controls(annotation):
    kept = apply(annotation, "keep_highest_dose", dose="dose", perturbation="drug", control="Veh")
    assert list(kept.obs.index) == ["a", "c", "e"]


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("keep_genes", {"column": "id", "prefix": "E"}, ["w", "x"]),
        ("drop_duplicate_genes", {"column": "id"}, ["w", "y", "z"]),
        ("name_genes", {"column": "symbol"}, ["S", "T"]),
    ],
)
def test_steps_of_genes(annotation, name, arguments, expected):
    assert list(apply(annotation, name, **arguments).var.index) == expected


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("rename_columns", {"columns": {"x": "y"}}, "there is no column 'x'; columns are: drug, line"),
        ("rename_columns", {"columns": {"line": "drug"}}, "obs has a column 'drug' already"),
        ("map_values", {"column": "drug", "values": {"DMSO": "c"}}, "none of the values DMSO; it has: Veh, X, X_Y"),
        (
            "replace_delimiter",
            {"column": "file", "old": "_", "new": "."},
            r"2 values of 'file' contain the new delimiter '\.'",
        ),
        ("extract", {"column": "n", "source": "file", "pattern": "d(1)"}, r"does not match these values .*: d2\.a"),
        ("keep_values", {"column": "line", "values": ["MCF7", "K562"]}, "'line' has no value K562"),
        ("drop_values", {"column": "line", "values": ["MCF7", "A549"]}, "leaves no cell: all 5 are MCF7, A549"),
        ("drop_small_groups", {"columns": ["line"], "min_cells": 9}, "leaves no cell: all 5 are in groups of under 9"),
        ("keep_genes", {"column": "id", "prefix": "Q"}, "leaves no gene: all 4 have no 'id' that starts with Q"),
        ("lowercase", {"column": "line"}, "unknown curation step 'lowercase'; choose one of: drop_combinations"),
        ("lower_case", {"columns": ["line"]}, "curation step 'lower_case': .*; it takes: column"),
        ("no_module.fix", {}, r"curation step 'no_module\.fix' cannot be imported"),
    ],
)
def test_refusals(annotation, name, arguments, message):
    with pytest.raises(PerturbenchError, match=message):
        apply(annotation, name, **arguments)


def test_values_that_are_absent_are_told(annotation, caplog):
    apply(annotation, "map_values", column="drug", values={"Veh": "control", "DMSO": "control"})
    assert "'drug' has no value DMSO" in caplog.text


def test_dropped_cells_are_counted(annotation, caplog):
    caplog.set_level("INFO")
    apply(annotation, "drop_missing", column="drug")
    assert "1 of 5 cells dropped: they have no value in 'drug'" in caplog.text


def test_a_step_of_ones_own(annotation, tmp_path, monkeypatch):
    (tmp_path / "my_steps.py").write_text(
        "def reverse(annotation, column):\n"
        "    return annotation.with_column(column, annotation.obs[column].str[::-1])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    reversed_ = apply(annotation, "my_steps.reverse", column="line")
    assert reversed_.obs["line"].tolist() == ["7FCM", "7FCM", "945A", "945A", "945A"]
