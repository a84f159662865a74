"""The frame of the report: sections in, one html page that opens offline out."""

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
        Its heading, and its entry in the table of contents.
    template
        A file in ``analysis/report/templates``.
    content
        What the template shows.
    """

    title: str
    template: str
    content: Mapping[str, Any]

    @property
    def anchor(self) -> str:
        """Its name in links."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def render_page(title: str, task: str, sections: Iterable[Section | None]) -> str:
    """Render sections as one html page with plotly's script in it.

    Parameters
    ----------
    title, task
        What the page is about.
    sections
        In order; those that are ``None`` have nothing to show and are left out.
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
    shown = [section for section in sections if section is not None]
    bodies = [Markup(environment.get_template(each.template).render(each.content)) for each in shown]
    return environment.get_template("page.html.jinja").render(
        title=title,
        task=task,
        version=__version__,
        sections=list(zip(shown, bodies, strict=True)),
        plotlyjs=Markup(get_plotlyjs()),
    )


def _figure(figure: go.Figure) -> Markup:
    config = {"displaylogo": False, "responsive": True}
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, config=config, default_width="100%"))


def _breakable(name: str) -> Markup:
    """Let long names of metrics and models break after an underscore."""
    return Markup("_<wbr>").join(str(name).split("_"))
