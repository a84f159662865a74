"""From a source's file to the standard form that every later step relies on."""

from perturbench.data.curation.curate import curate_file
from perturbench.data.curation.layouts import Layout, choose_layout, known_layouts
from perturbench.data.curation.schema import check_curated
from perturbench.data.curation.standard import STANDARD, standardise
from perturbench.data.curation.steps import Annotation, find_step, run_steps

__all__ = [
    "STANDARD",
    "Annotation",
    "Layout",
    "check_curated",
    "choose_layout",
    "curate_file",
    "find_step",
    "known_layouts",
    "run_steps",
    "standardise",
]
