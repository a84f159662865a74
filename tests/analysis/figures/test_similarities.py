"""The figure of collapse: what it shows, not how it looks."""

import numpy as np
import pandas as pd
import pytest
from tests.analysis.scored import titles_of

from perturbench.analysis import figures
from perturbench.analysis.figures.similarities import MAX_MODELS, MAX_STATES


def similarity(states=("s1",), value=0.5):
    rows = [
        (state, one, other, float(one == other), 1.0 if one == other else value)
        for state in states
        for one in "BAC"
        for other in "BAC"
    ]
    return pd.DataFrame(rows, columns=["state", "perturbation", "other", "observed", "predicted"])


def test_observed_similarities_are_beside_the_predicted_ones():
    figure = figures.plot_similarities({"good": similarity(value=0.1), "collapsed": similarity(value=1.0)})
    observed, good, collapsed = figure.data
    assert np.array_equal(observed.z, np.eye(3))
    assert good.z[0][1] == pytest.approx(0.1)
    assert np.all(np.asarray(collapsed.z) == 1)
    assert list(good.x) == list(good.y) == ["B", "A", "C"], "the order of the table, which is a clustering"
    assert [text.split("<")[0] for text in titles_of(figure)] == ["observed, s1", "good", "collapsed"]
    assert "mean 1.00" in titles_of(figure)[2]


def test_similarities_are_bounded_in_number():
    tables = {f"m{i}": similarity([f"s{j}" for j in range(7)]) for i in range(30)}
    figure = figures.plot_similarities(tables)
    assert len(figure.data) == MAX_STATES * (1 + MAX_MODELS)
    assert not figures.plot_similarities({}).data
    assert not figures.plot_similarities({"one perturbation per state": tables["m0"].head(0)}).data
