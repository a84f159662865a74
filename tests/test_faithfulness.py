"""The benchmark that trains the published configurations runs, in small, and covers every published score."""

import numpy as np
import pytest
from benchmarks.faithfulness import METRICS, as_published, compare, configurations, line, main, published

pytestmark = pytest.mark.shared
SMALL = "norman19_devel/linear_additive"


def test_every_published_score_has_its_configuration():
    assert len(configurations()) == len(published())


def test_a_configuration_is_trained_and_compared():
    """One epoch is not enough: the linear model is then worse than the published one."""
    table = compare(SMALL, seeds=2, max_epochs=1)
    assert list(table.index) == METRICS
    assert np.isfinite(table.to_numpy()).all()
    assert table.loc["rmse_average", "worse"] > 2
    assert line(SMALL, table).startswith(SMALL)


def test_published_numbers_keep_their_meaning():
    hparams = as_published(configurations()["norman19_devel/cpa"])
    assert (hparams["n_warmup_epochs"], hparams["restart_adv_steps"]) == (4, True)
    linear = configurations()[SMALL]
    assert as_published(linear) == linear["hyperparameters"] | {"train_on_controls": False}


def test_the_command_prints_a_line_per_configuration(capsys):
    main(["mcfaline23_devel/linear_additive", "lr=0.01", "seeds=1"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("mcfaline23_devel/linear_additive")
