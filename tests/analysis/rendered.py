"""The report as a reader sees it."""

import re

from tests.analysis.scored import make_board, make_scores

from perturbench.analysis.inference.uncertainty import compare_with_baseline, paired_tests
from perturbench.analysis.report import render_page, sections


def body(page):
    """The page without scripts and styles."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)


def leaderboard_of(values, baseline=(0.4, 0.6)):
    scores, anchors = make_scores(values), make_scores({"mean_response": baseline})
    board = make_board(scores, anchors)
    tests = compare_with_baseline(scores, anchors)
    section = sections.leaderboard(board, None, make_board(anchors), paired_tests(scores), tests)
    return body(render_page("T", "t", [section]))


def cells_of(page, kind):
    return re.findall(rf'<td class="{kind}">([^<]*)</td>', page)
