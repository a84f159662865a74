"""The figure of training: what it shows, not how it looks."""

import numpy as np
import pandas as pd
from tests.analysis.scored import titles_of

from perturbench.analysis import figures
from perturbench.analysis.figures.training import MAX_EPOCHS


def test_training_curves_are_of_every_seed_and_thinned():
    table = pd.DataFrame({"epoch": range(1, 1001), "train_loss": 1.0, "val_loss": np.linspace(2, 1, 1000)})
    figure = figures.plot_training({"a": {"a/seed0": table, "a/seed1": table}, "b": {"b/seed0": table.head(1)}})
    assert titles_of(figure) == ["a", "b"]
    lines = [trace for trace in figure.data if trace.name == "validation"]
    assert len(lines) == 3
    assert 100 < len(lines[0].x) <= MAX_EPOCHS
    kept = [trace for trace in figure.data if trace.name == "checkpoint"]
    assert kept[0].x[0] == 1000
    assert [trace.showlegend for trace in kept] == [True, False, False]


def test_losses_below_zero_are_not_on_a_logarithmic_axis():
    table = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "val_loss": [1.0, -0.5]})
    assert figures.plot_training({"a": {"0": table}}).layout.yaxis.type != "log"
    assert figures.plot_training({"a": {"0": table.abs()}}).layout.yaxis.type == "log"


def test_terms_of_a_loss_are_there_to_be_clicked():
    table = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "val_loss": [2.0, 1.5]})
    terms = table.assign(train_kl=[0.5, 0.2], val_kl=[0.6, 0.3], train_adversary_loss=[np.nan, 1.0])
    figure = figures.plot_training({"a": {"0": terms, "1": terms}, "b": {"0": table}})
    hidden = [trace for trace in figure.data if trace.visible == "legendonly"]
    assert {trace.name for trace in hidden} == {"kl (training)", "kl (validation)", "adversary loss (training)"}
    assert len(hidden) == 6
    assert sum(trace.showlegend for trace in hidden) == 3
    assert figure.layout.yaxis.type == "log"
