from .curate import curate_file
from .layouts import Layout, choose_layout, known_layouts
from .schema import check_curated
from .standard import STANDARD, standardise
from .steps import Annotation, find_step, run_steps

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
