"""Metrics of effects against predictions made to win them."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.analysis.predictions import predict_means, values_of

from perturbench.analysis.profiles import Reference
from perturbench.data.groups import Keys


def test_scaled_effects_keep_the_direction_and_lose_the_fit(cells, reference):
    twice = predict_means(reference, np.maximum(2 * reference.means - reference.control_means, 0))
    assert (values_of(twice, reference, "rmse_average") > 0.02).all()
    assert (values_of(twice, reference, "pearson_delta") > 0.95).all()
    assert (values_of(twice, reference, "r2_weighted") < 0.9).all()


def test_spiked_target_genes_do_not_help_discrimination(cells, reference):
    genes = list(reference.genes)
    keys = Keys()
    observed = cells.copy()
    observed.obs["condition"] = observed.obs["condition"].astype(str).replace({f"P{i}": genes[i] for i in range(1, 7)})
    observed = observed[~observed.obs["condition"].str.contains("+", regex=False)].copy()
    named = Reference(observed, keys)
    spiked = named.control_means.copy()
    for row, (_, condition) in enumerate(named.pairs):
        spiked[row, genes.index(condition)] += 5
    honest = predict_means(named, named.control_means.copy())
    for norm in ("l1", "l2", "cosine"):
        spikes, null = (values_of(p, named, f"pds_{norm}") for p in (predict_means(named, spiked), honest))
        assert spikes.mean() <= null.mean() + 0.25, norm
    assert (values_of(predict_means(named, spiked), named, "rmse_average") > 0.4).all()


@pytest.mark.parametrize("norm", ["l1", "l2", "cosine"])
def test_a_constant_prediction_does_not_discriminate_by_the_targets_of_others(norm):
    """Every knock-down lowers its own target: leaving out only that of one's own would give it away."""
    rng = np.random.default_rng(0)
    genes = [f"g{i}" for i in range(60)]
    base = rng.uniform(1.5, 3, 60)
    rows, labels = [], []
    for name in ["control"] * 2 + genes[:8]:
        change = rng.normal(0, 0.05, 60)
        if name != "control":
            change[genes.index(name)] -= 1
        rows += [base + change + rng.normal(0, 0.01, 60) for _ in range(5)]
        labels += [name] * 5
    observed = ad.AnnData(np.array(rows, np.float32), var=pd.DataFrame(index=genes))
    observed.obs["condition"] = labels
    reference = Reference(observed, Keys("condition", ()))
    for constant in (reference.control_means[0], reference.means.mean(axis=0)):
        prediction = predict_means(reference, np.tile(constant, (8, 1)))
        assert values_of(prediction, reference, f"pds_{norm}").mean() == pytest.approx(0.5, abs=0.01)
    truth = predict_means(reference, reference.means.copy())
    assert values_of(truth, reference, f"pds_{norm}").tolist() == [1.0] * 8


def test_what_only_the_mean_knows_is_worth_nothing(cells, reference):
    centre = np.stack([reference.means[reference.state_of_pair == s].mean(axis=0) for s in reference.state_of_pair])
    mean = predict_means(reference, centre)
    assert values_of(mean, reference, "pearson_delta_mean").tolist() == [0.0] * len(reference.pairs)
    assert values_of(mean, reference, "r2_weighted") == pytest.approx(np.zeros(len(reference.pairs)), abs=1e-9)
    shifted = predict_means(reference, centre + 0.01 * np.random.default_rng(0).normal(size=centre.shape[1]))
    assert abs(values_of(shifted, reference, "pearson_delta_mean").mean()) < 0.2
    assert values_of(mean, reference, "pearson_delta").mean() > 0.1, "against controls it looks as if it knew something"
