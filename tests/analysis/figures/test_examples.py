"""The figure of examples: what it shows, not how it looks."""

import numpy as np
import pandas as pd
from tests.analysis.scored import METRICS, titles_of

from perturbench.analysis import figures
from perturbench.analysis.examples import Example
from perturbench.analysis.report import render_page, sections


def make_example(why="best"):
    kinds = ["control", "control", "observed", "observed", "predicted", "predicted"]
    cells = pd.DataFrame({"kind": kinds, "x": np.arange(6.0), "y": 0.0})
    genes = pd.DataFrame({"gene": list("abcdefg"), "control": 0.1, "observed": np.arange(7.0, 0, -1), "predicted": 1.0})
    return Example("A+B in (s)", why, 0.123456, cells, genes)


def draw(*examples):
    return figures.plot_examples(examples, "mine/seed0", METRICS[0])


def test_cells_are_beside_the_means_of_genes():
    figure = draw(make_example(), make_example("worst"))
    assert [text.split("<")[0] for text in titles_of(figure)[:4]] == ["A+B in (s)", "means of genes"] * 2
    assert "best, rmse_average 0.123" in titles_of(figure)[0]
    kinds = {trace.name: list(trace.x) for trace in figure.data if trace.xaxis == "x" and trace.name}
    assert kinds == {"control": [0, 1], "observed": [2, 3], "predicted": [4, 5]}
    assert [trace.name for trace in figure.data if trace.showlegend] == ["control", "observed", "predicted"]
    points = [trace for trace in figure.data if trace.xaxis == "x2" and trace.mode == "markers"]
    assert sorted(x for trace in points for x in trace.x) == [1, 2, 3, 4, 5, 6, 7]


def test_the_top_genes_are_labelled():
    figure = draw(make_example())
    labels = [(note.text, note.x, note.y) for note in figure.layout.annotations if note.showarrow is not False]
    assert labels == [("a", 7, 1), ("b", 6, 1), ("c", 5, 1), ("d", 4, 1), ("e", 3, 1)]


def test_the_section_says_in_words_what_the_figure_shows():
    page = render_page("T", "t", [sections.examples(draw(make_example()))])
    assert "Predictions of mine/seed0" in page
    # log2((7 + 0.1) / (0.1 + 0.1)) = 5.1, log2((1 + 0.1) / 0.2) = 2.5
    assert "a +5.1 (+2.5)" in page


def test_no_examples_have_no_section():
    assert sections.examples(figures.plot_examples([])) is None
