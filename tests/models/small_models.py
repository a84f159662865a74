"""Small versions of every model, a simulated screen to train them on, and their checkpoints, made once per process."""

from functools import cache

import anndata as ad
import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch

from perturbench.data import PerturbationDataModule, simulate
from perturbench.data.groups import Keys
from perturbench.data.splits import SplitRules, split_cells
from perturbench.models import (
    CPA,
    SAMSVAE,
    Additive,
    BioLord,
    Control,
    DecoderOnly,
    LatentAdditive,
    LinearAdditive,
    MeanResponse,
    PerturbationMean,
    Ridge,
)
from perturbench.preprocessing import prepare
from perturbench.training import build_model, fit, load_model

SMALL = {"n_layers": 1, "encoder_width": 8}
LATENT = SMALL | {"latent_dim": 4, "dropout": 0.2}
CPA_SMALL = {"n_latent": 4, "hidden_dim": 8, "adv_classifier_hidden_dim": 8, "dropout": 0.2, "n_warmup_epochs": 1}
SAMS_SMALL = {"latent_dim": 4, "hidden_dim_x": 8, "hidden_dim_cond": 8, "dropout": 0.2}
WITH_COVARIATES = {"inject_covariates_encoder": True, "inject_covariates_decoder": True}
#: Class and hyperparameters of each small model.
MODELS = {
    "control": (Control, {}),
    "mean_response": (MeanResponse, {}),
    "linear": (LinearAdditive, {"inject_covariates": True}),
    "perturbation_mean": (PerturbationMean, {}),
    "additive": (Additive, {}),
    "ridge": (Ridge, {"n_components": 3}),
    "latent": (LatentAdditive, LATENT | {"inject_covariates_encoder": True}),
    "latent_sparse": (LatentAdditive, LATENT | {"sparse_additive_mechanism": True}),
    "cpa": (CPA, CPA_SMALL),
    "cpa_no_adv": (CPA, CPA_SMALL | {"use_adversary": False, "softplus_output": False}),
    "sams": (SAMSVAE, SAMS_SMALL | WITH_COVARIATES),
    "sams_mean_field": (SAMSVAE, SAMS_SMALL | {"mean_field_encoding": True, "generative_counterfactual": True}),
    "sams_s": (SAMSVAE, SAMS_SMALL | {"sparse_additive_mechanism": False, "embedding_distribution": False}),
    "biolord": (BioLord, LATENT),
    "decoder": (DecoderOnly, SMALL),
    "decoder_cov": (DecoderOnly, SMALL | {"use_perturbations": False}),
    "decoder_pert": (DecoderOnly, SMALL | {"use_covariates": False}),
}
TRAINED = [name for name, (cls, _) in MODELS.items() if not cls.closed_form]
#: Covariate columns of the screen, by their number.
COVARIATES = {0: (), 1: ("cell_type",), 5: ("cell_type", "sex", "line", "day", "plate")}
all_models = pytest.mark.parametrize("name", MODELS)


@cache
def screen() -> ad.AnnData:
    """Return prepared cells of 3 states under 6 singles and 4 doubles with strong effects; do not change them."""
    adata = simulate(n_cells=900, n_genes=30, n_states=3, n_singles=6, n_doubles=4, effect_size=1.5, seed=1)
    first = adata.obs["cell_type"] == "state1"
    adata.obs = adata.obs.assign(sex="f", line=np.where(first, "a", "b"), day=np.where(first, 2, 10), plate="p")
    return prepare(adata, Keys(), n_top_genes=30, n_de_genes=0)


def transfer_split(adata, keys=None):
    """Return a split that holds pairs out of some states."""
    return split_cells(adata.obs, keys or Keys(), "transfer", SplitRules(max_heldout_fraction_per_covariate=0.5), 0)


def make_module(covariates=("cell_type",), adata=None, **options) -> PerturbationDataModule:
    """Return a new datamodule of the screen, or of ``adata``; without covariates it holds combinations out."""
    adata = screen() if adata is None else adata
    keys = Keys(covariates=covariates)
    rules = SplitRules(max_heldout_fraction_per_covariate=0.5)
    split = split_cells(adata.obs, keys, "transfer" if covariates else "combine", rules, 0)
    return PerturbationDataModule(adata, split, keys, **{"batch_size": 128, "max_control_cells": 10} | options)


@cache
def small_module() -> PerturbationDataModule:
    """Return the datamodule that the checkpoints are trained on; do not change it."""
    return make_module()


def build(name, context, **changes):
    """Return a new small model by its name in ``MODELS``."""
    cls, hparams = MODELS[name]
    L.seed_everything(0, verbose=False)
    return build_model(f"{cls.__module__}.{cls.__qualname__}", context, hparams | changes)


def new(cls, module, **hparams):
    """Return a new model of a class, with the same initial weights each time."""
    L.seed_everything(0, verbose=False)
    return cls(module.context, **hparams)


def train(name, module, max_epochs=2, **options):
    """Return the checkpoint of a new small model after a few epochs."""
    return fit(build(name, module.context), module, max_epochs=max_epochs, min_epochs=1, accelerator="cpu", **options)


@cache
def checkpoint(name):
    """Return the checkpoint of a small model that was trained on ``small_module()``; do not change it."""
    return train(name, small_module())


def trained(name):
    """Return a small model that was trained on ``small_module()``."""
    return load_model(checkpoint(name))


def fitted(cls, module, **hparams):
    """Return a closed-form model that was computed from a datamodule."""
    return load_model(fit(new(cls, module, **hparams), module, max_epochs=1, accelerator="cpu"))


def observed_cells(module, part):
    """Return the observed cells that predictions of a part are evaluated against."""
    return module.adata[module.evaluation_rows(part)]


def pairs_of(cells, keys):
    """Return the (state, perturbation) pair of each cell."""
    states = map(tuple, cells.obs[list(keys.covariates)].astype(str).to_numpy())
    return pd.Series(list(zip(states, cells.obs[keys.perturbation], strict=True)))


def training_effects(module):
    """Return pseudobulk - control of each pair of the training cells, computed by pandas, pairs x genes."""
    cells = module.adata[module.rows["train"]]
    x = pd.DataFrame(cells.X.toarray().astype(float), columns=cells.var_names)
    means = x.groupby([cells.obs["cell_type"].to_numpy(str), cells.obs["condition"].to_numpy(str)]).mean()
    return means.sub(means.xs("control", level=1), level=0).drop("control", level=1)


def predicted_effects(model, dataset):
    """Return what a model adds to the control cells of each counterfactual pair, ``(n_cells, n_genes)`` each."""
    batch = dataset[:]
    effects = (model.predict(batch) - batch.controls).numpy()
    return {pair: effects[batch.groups.numpy() == row] for row, pair in enumerate(dataset.pairs)}


def inputs_that_matter(model, batch):
    """Return the names of the inputs of a batch that change the prediction."""
    changes = {
        "controls": batch._replace(controls=batch.controls.roll(1, dims=1)),
        "perturbations": batch._replace(perturbations=batch.perturbations.roll(1, dims=1)),
        "cell_type": batch._replace(covariates={"cell_type": batch.covariates["cell_type"].roll(1, dims=1)}),
    }
    with torch.no_grad():
        before = model.eval().predict(batch)
        return [name for name, changed in changes.items() if not torch.equal(model.predict(changed), before)]
