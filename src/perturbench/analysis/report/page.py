"""Render the sections of the report as one html page that opens offline."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from perturbench import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import plotly.graph_objects as go


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes
    ----------
    title
        Heading, and entry in the table of contents.
    template
        Name of a file in ``analysis/report/templates``.
    content
        Variables of the template.
    """

    title: str
    template: str
    content: Mapping[str, Any]

    @property
    def anchor(self) -> str:
        """Name of the section in links within the page."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def render_page(title: str, task: str, sections: Iterable[Section | None]) -> str:
    """Render sections as one html page that contains plotly's script, so that it needs no network.

    Parameters
    ----------
    title, task
        Title of the page; name of the task.
    sections
        Sections in the order of the page; ``None`` stands for a section without content, which is left out.
    """
    environment = Environment(
        loader=PackageLoader("perturbench.analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    environment.filters["breakable"] = _breakable
    present = [section for section in sections if section is not None]
    bodies = [Markup(environment.get_template(each.template).render(each.content)) for each in present]
    return environment.get_template("page.html.jinja").render(
        title=title,
        task=task,
        version=__version__,
        sections=list(zip(present, bodies, strict=True)),
        plotlyjs=Markup(get_plotlyjs()),
    )


def _figure(figure: go.Figure) -> Markup:
    config = {"displaylogo": False, "responsive": True}
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, config=config, default_width="100%"))


def _breakable(name: str) -> Markup:
    """Allow a line break after each underscore, so that long names of metrics and models do not widen tables."""
    return Markup("_<wbr>").join(str(name).split("_"))
