"""Made-up cells, and predictions of them whose right scores are known."""

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from perturbench.analysis.metrics.registry import available_metrics
from perturbench.analysis.profiles import Prediction
from perturbench.data.groups import Keys

KEYS = Keys()


def values_of(prediction, reference, name):
    return np.asarray(available_metrics()[name].function(reference, prediction), dtype=float)


def predict_observed(cells, reference, change=lambda x, obs: x):
    """Predict the observed perturbed cells, changed."""
    perturbed = cells[cells.obs["condition"] != "control"].copy()
    perturbed.X = np.asarray(change(perturbed.X.toarray(), perturbed.obs), dtype=np.float32)
    return Prediction.from_adata(perturbed, reference, "attack", negative="clip")


def predict_means(reference, means):
    return Prediction("attack", reference, means, negative="clip")


NAMES = ["control", "A", "B", "A+B", "C"]


def make_cells(states=("s", "t"), names=NAMES, n=6, n_genes=12, seed=0, labels=0):
    """Return log-normalised cells whose groups differ: ``labels`` draws the groups' means, ``seed`` the noise."""
    rows = [(name, state) for state in states for name in names for _ in range(n)]
    obs = pd.DataFrame(rows, columns=["condition", "cell_type"], index=[f"c{i}" for i in range(len(rows))])
    groups = obs.groupby(["condition", "cell_type"]).ngroup().to_numpy()
    means = np.random.default_rng(labels).gamma(1, 1, (len(rows), n_genes))[groups]
    x = np.random.default_rng(seed).poisson(means * 3).astype(np.float32)
    genes = pd.DataFrame(index=[f"g{i}" for i in range(n_genes)])
    return ad.AnnData(sp.csr_matrix(np.log1p(x)), obs=obs, var=genes)


def perturbed_cells(adata):
    return adata[(adata.obs["condition"] != "control").to_numpy()].copy()


def scores_of(result, metric, **where):
    table = result.scores[result.scores["metric"] == metric]
    for name, value in where.items():
        table = table[table[name] == value]
    return table["value"].to_numpy()
