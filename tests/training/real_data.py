"""Every model of the configuration, trained for two epochs on cells of the development data sets."""

import lightning as L
import numpy as np
from sklearn.decomposition import TruncatedSVD

from perturbench.data import PerturbationDataModule
from perturbench.data.groups import Keys
from perturbench.data.sources.raw import read_cells
from perturbench.data.splits import SplitRules, split_cells
from perturbench.preprocessing import prepare
from perturbench.training import build_model, fit

#: File, split method and rules of each data set.
SETS = {
    "demo": ("ishikawa23.h5ad", "transfer", SplitRules(max_heldout_fraction_per_covariate=0.3)),
    "norman19": ("norman19_devel.h5ad", "combine", SplitRules(max_heldout_fraction_per_covariate=0.7)),
}
MODELS = (
    "control mean_response perturbation_mean additive ridge linear_additive latent_additive latent_additive_scgpt "
    "decoder_only decoder_only_cov decoder_only_pert cpa cpa_no_adv cpa_scgpt sams_vae sams_vae_s biolord"
).split()


def real_module(folder, name):
    """Return a datamodule of 3,000 cells of a data set, with embeddings of 8 dimensions."""
    file, method, rules = SETS[name]
    keys = Keys()
    raw = read_cells(folder / "data" / file)
    raw = raw[np.random.default_rng(0).permutation(raw.n_obs)[:3000]].copy()
    adata = prepare(raw, keys, n_top_genes=80, n_de_genes=0, keep_perturbed_genes=False)
    adata.obsm["X_scgpt"] = TruncatedSVD(8, random_state=0).fit_transform(adata.X).astype(np.float32)
    split = split_cells(adata.obs, keys, method, rules, 0)
    return PerturbationDataModule(adata, split, keys, max_control_cells=20, embedding_key="X_scgpt")


def train_all(module, conf_source):
    """Return the checkpoint of each model with its configured hyperparameters."""
    from kedro.framework.project import settings

    checkpoints = {}
    for name in MODELS:
        conf = settings.CONFIG_LOADER_CLASS(
            conf_source=str(conf_source), runtime_params={"model": name}, **settings.CONFIG_LOADER_ARGS
        )["parameters"]
        L.seed_everything(0, verbose=False)
        model = build_model(conf["model_target"], module.context, conf["hparams"])
        checkpoints[name] = fit(model, module, max_epochs=2, min_epochs=1, accelerator="cpu")
    return checkpoints
