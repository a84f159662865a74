"""The report of a task: one html page that opens offline."""

from perturbench.analysis.report import sections
from perturbench.analysis.report.page import Section, render_page

__all__ = ["Section", "render_page", "sections"]
