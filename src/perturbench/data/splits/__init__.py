"""Splits into train, val and test without leaks (appendices A.3 and D.4 of the paper)."""

from perturbench.data.labels import PARTS
from perturbench.data.splits.checks import check_split, split_checks
from perturbench.data.splits.custom import read_split, split_of_column
from perturbench.data.splits.drawing import split_cells
from perturbench.data.splits.methods import METHODS
from perturbench.data.splits.rules import SplitRules
from perturbench.data.splits.summary import imbalance, split_summary

__all__ = [
    "METHODS",
    "PARTS",
    "SplitRules",
    "check_split",
    "imbalance",
    "read_split",
    "split_cells",
    "split_checks",
    "split_of_column",
    "split_summary",
]
