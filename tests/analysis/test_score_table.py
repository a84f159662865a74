"""Means of the score table."""

import numpy as np
import pytest

from perturbench.analysis import evaluate


def test_per_state(observed, predicted):
    result = evaluate({"m": predicted}, observed, metrics=["rmse_average", "matrix_distance_logfc"])
    table = result.per_state()
    assert set(table["metric"]) == {"rmse_average"}, "a value of the whole split has no state"
    for row in table.to_dict("records"):
        own = result.scores[
            (result.scores["cell_type"] == row["cell_type"]) & (result.scores["metric"] == row["metric"])
        ]
        assert row["mean"] == pytest.approx(own["value"].mean())
        assert row["n"] == len(own)
        if row["n"] > 1:
            assert row["standard_error"] == pytest.approx(own["value"].std() / np.sqrt(len(own)))
