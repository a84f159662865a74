"""The page: it opens offline, its links work, and it stays small."""

import re

import pytest
from tests.analysis.rendered import body
from tests.analysis.scored import METRIC_NAMES, METRICS, make_board, make_scores

from perturbench.analysis import figures
from perturbench.analysis.report import Section, render_page, sections
from perturbench.analysis.score_table import per_state


def test_sections_without_anything_to_draw_are_left_out():
    page = body(
        render_page("T", "t", [sections.similarities(figures.plot_similarities({})), None, sections.data(None)])
    )
    assert "<h2>" not in page


def test_page_is_offline_and_holds_plotly_once():
    board = make_board(make_scores({"a": (0.2, 0.8), "b": (0.3, 0.7)}))
    figure = figures.plot_ranking(board, METRICS)
    shown = [sections.leaderboard(board, figure), sections.perturbations(figure, METRIC_NAMES)]
    page = render_page("<Mine>", "t", shown)
    assert "&lt;Mine&gt;" in page
    assert page.count("plotly.js v") == 1
    assert page.count("Plotly.newPlot(") == 2
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="http', page)
    assert '<a href="#leaderboard">' in page


@pytest.mark.parametrize("title", ["Scores per state", "A & B (c)"])
def test_links_lead_to_their_sections(title):
    section = Section(title, "provenance.html.jinja", {"facts": {}, "command": None})
    page = body(render_page("T", "t", [section]))
    target = re.search(r'<a href="#([^"]+)"', page)[1]
    assert f'<section id="{target}">' in page


def test_thirty_models_and_five_seeds():
    scores = make_scores({f"m{i}": (0.2 + i / 100, 0.8 - i / 100) for i in range(30)}, seeds=range(5))
    board = make_board(scores)
    models = list(board["model"])
    shown = [
        sections.leaderboard(board, figures.plot_ranking(board, METRICS)),
        sections.perturbations(figures.plot_scores(scores, METRICS, models), METRIC_NAMES),
        sections.states(per_state(scores), METRIC_NAMES, models),
    ]
    page = render_page("T", "t", shown)
    assert models == [f"m{i}" for i in range(30)]
    assert len(page) < 5.5e6, "plotly's script is 4.8 MB of it"
