"""The self-contained report of a task."""

from perturbench.analysis.report import sections
from perturbench.analysis.report.page import Section, render_page

__all__ = ["Section", "render_page", "sections"]
