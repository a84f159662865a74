"""A small GEARS, a simulated screen with made-up GO terms, and how to train on it."""

import lightning as L
import numpy as np
import scipy.sparse as sp
from tests.models.small_models import make_module

from perturbench.data import simulate
from perturbench.data.groups import Keys
from perturbench.preprocessing import prepare
from perturbench.training import build_model, fit

GEARS = "perturbench.models.gears.model.Gears"
SMALL = {"hidden_size": 8, "num_similar_genes_go_graph": 4, "num_similar_genes_co_express_graph": 5}


def gears_screen():
    """Return prepared cells in which no cell under P1 expresses every fifth gene."""
    adata = simulate(n_cells=600, n_genes=30, n_states=3, n_singles=6, n_doubles=4, seed=1)
    counts = adata.X.toarray()
    counts[np.ix_(adata.obs["condition"] == "P1", np.arange(30) % 5 == 0)] = 0
    adata.X = sp.csr_matrix(counts)
    adata.obs = adata.obs.assign(sex="f", line=adata.obs["cell_type"].astype(str).str.upper(), day="2", plate="p")
    return prepare(adata, Keys(), n_top_genes=25, n_de_genes=1)


def make_gears_module(cells, covariates=("cell_type",), **options):
    """Return a new datamodule of the screen."""
    return make_module(covariates, cells, **{"batch_size": 64} | options)


def write_table(path, annotation):
    lines = [f"{gene}\t{term}\tP\n" for gene, terms in annotation.items() for term in sorted(terms)]
    path.write_text("symbol\tgo\taspect\n" + "".join(lines))
    return path


def build(module, gene2go, seed=0, **changes):
    L.seed_everything(seed, verbose=False)
    return build_model(GEARS, module.context, {"gene2go": str(gene2go), **SMALL, **changes})


def train(module, gene2go, max_epochs=1, seed=0, **changes):
    model = build(module, gene2go, seed, **changes)
    return fit(model, module, seed=seed, max_epochs=max_epochs, min_epochs=1, accelerator="cpu")


def observed_batch(module, n=24):
    """Cells of many conditions, controls among them."""
    return module.observed("train")[np.random.default_rng(0).permutation(len(module.rows["train"]))[:n]]
