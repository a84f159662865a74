"""Every model on real data: trains, predicts, is scored, and says the same in a process of its own."""

import subprocess
import sys

import anndata as ad
import lightning as L
import numpy as np
import pytest
import torch
from sklearn.decomposition import TruncatedSVD

from perturbench.analysis import evaluate
from perturbench.data import PerturbationDataModule
from perturbench.data.groups import Keys
from perturbench.data.sources.raw import read_cells
from perturbench.data.splits import SplitRules, split_cells
from perturbench.preprocessing import prepare
from perturbench.training import build_model, fit, load_model, predict

SETS = {
    "demo": ("ishikawa23.h5ad", "transfer", SplitRules(max_heldout_fraction_per_covariate=0.3)),
    "norman19": ("norman19_devel.h5ad", "combine", SplitRules(max_heldout_fraction_per_covariate=0.7)),
}
MODELS = (
    "control mean_response perturbation_mean additive ridge linear_additive latent_additive latent_additive_scgpt "
    "decoder_only decoder_only_cov decoder_only_pert cpa cpa_no_adv cpa_scgpt sams_vae sams_vae_s biolord"
).split()
IN_A_FRESH_PROCESS = """
import sys, pathlib, torch
from perturbench.training import load_model
folder = pathlib.Path(sys.argv[1])
batch = torch.load(folder / "batch.pt", weights_only=False)
for path in sorted(folder.glob("*.ckpt")):
    with torch.no_grad():
        torch.save(load_model(path).predict(batch), path.with_suffix(".out"))
"""


@pytest.fixture(scope="module", params=SETS)
def module(request, shared):
    name, method, rules = SETS[request.param]
    keys = Keys()
    raw = read_cells(shared / "data" / name)
    raw = raw[np.random.default_rng(0).permutation(raw.n_obs)[:3000]].copy()
    adata = prepare(raw, keys, n_top_genes=80, n_de_genes=0, keep_perturbed_genes=False)
    adata.obsm["X_scgpt"] = TruncatedSVD(8, random_state=0).fit_transform(adata.X).astype(np.float32)
    split = split_cells(adata.obs, keys, method, rules, 0)
    return PerturbationDataModule(adata, split, keys, max_control_cells=20, embedding_key="X_scgpt")


@pytest.fixture(scope="module")
def trained(module, project):
    from kedro.framework.project import settings

    checkpoints = {}
    for name in MODELS:
        conf = settings.CONFIG_LOADER_CLASS(
            conf_source=str(project / "conf"), runtime_params={"model": name}, **settings.CONFIG_LOADER_ARGS
        )["parameters"]
        L.seed_everything(0, verbose=False)
        model = build_model(conf["model_target"], module.context, conf["hparams"])
        checkpoints[name] = fit(model, module, max_epochs=2, min_epochs=1, accelerator="cpu")
    return checkpoints


@pytest.mark.shared
def test_every_model_predicts_and_is_scored(trained, module):
    predicted = {name: predict(load_model(trained[name]), module, accelerator="cpu") for name in MODELS}
    observed = module.adata[module.evaluation_rows("test")]
    summary = evaluate(predicted, observed, negative="clip").summary
    assert set(summary.index) == set(MODELS)
    assert np.isfinite(summary["rmse_average"]).all()
    assert isinstance(predicted["cpa"], ad.AnnData)


@pytest.mark.shared
def test_checkpoints_say_the_same_in_a_fresh_process(trained, module, tmp_path):
    batch = module.counterfactuals()[::7]
    torch.save(batch, tmp_path / "batch.pt")
    for name, checkpoint in trained.items():
        torch.save(checkpoint, tmp_path / f"{name}.ckpt")
    subprocess.run([sys.executable, "-c", IN_A_FRESH_PROCESS, str(tmp_path)], check=True)
    for name, checkpoint in trained.items():
        with torch.no_grad():
            here = load_model(checkpoint).predict(batch)
        there = torch.load(tmp_path / f"{name}.out", weights_only=True)
        assert torch.allclose(here, there, rtol=1e-5, atol=1e-6), name
