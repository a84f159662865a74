"""Cell embeddings on their way from a checkpoint, or from the source, to the batches."""

import anndata as ad
import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from tests.projects import TINY

from perturbench.config.sections import DataConfig, PredictionConfig, TrainerConfig
from perturbench.errors import PerturbenchError
from perturbench.pipelines.datamodule import make_datamodule
from perturbench.preprocessing.embeddings import read_checkpoint, scgpt_embeddings

#: Half of the genes are in the vocabulary, and fewer are selected: the embedding is not made of the selected ones.
KNOWN = [f"G{number}" for number in range(1, 16)]
FEW = {"preprocessing": {"n_top_genes": 5, "n_de_genes": 0, "keep_perturbed_genes": False}}
DATA = ("ingestion", "splitting", "preprocessing")


@pytest.fixture
def scgpt(scgpt_checkpoint):
    """Parameters of a run that embeds with a tiny checkpoint and uses the embedding."""
    embedding = {"kind": "scgpt", "checkpoint": str(scgpt_checkpoint(KNOWN)), "device": "cpu"}
    return {**TINY, **FEW, "embedding": embedding, "data": {**TINY["data"], "embedding_key": "X_scgpt"}}


def load(run, name, task="simulated"):
    folder = {"curated": "02_intermediate", "prepared": "03_primary"}[name]
    return ad.read_h5ad(run.root / f"data/{folder}/{task}/{name}.h5ad")


def make_batches(run, **params):
    catalog = run.catalog(**params)
    data, trainer = catalog.load("params:data"), catalog.load("params:trainer")
    settings = DataConfig.model_validate(data), TrainerConfig.model_validate(trainer), PredictionConfig()
    return make_datamodule(catalog.load("prepared"), catalog.load("split"), *settings, seed=0)


def test_scgpt_embeddings_of_all_genes_reach_the_batches(run, scgpt):
    run(*DATA, **scgpt)
    prepared, curated = load(run, "prepared"), load(run, "curated")
    assert prepared.n_vars == 5
    expected = scgpt_embeddings(curated, read_checkpoint(scgpt["embedding"]["checkpoint"]), device="cpu")
    np.testing.assert_allclose(prepared.obsm["X_scgpt"], expected, atol=1e-6)
    datamodule = make_batches(run, **scgpt)
    assert datamodule.context["n_embedding"] == 16
    batch = next(iter(datamodule.train_dataloader()))
    assert torch.equal(batch.embeddings, torch.from_numpy(prepared[batch.ids].obsm["X_scgpt"]))
    counterfactual = next(iter(datamodule.predict_dataloader("test")))
    assert counterfactual.embeddings.shape == (len(counterfactual.perturbations), 16)


def test_an_embedding_is_made_once(run, scgpt, monkeypatch):
    run(*DATA, **scgpt)
    before = load(run, "prepared").obsm["X_scgpt"]

    def again(*_, **__):
        raise RuntimeError("embedded again")

    monkeypatch.setattr("perturbench.preprocessing.embeddings.scgpt_embeddings", again)
    run("preprocessing", **{**scgpt, "preprocessing": {"n_top_genes": 9}})
    assert np.array_equal(load(run, "prepared").obsm["X_scgpt"], before)
    run("preprocessing", **{**scgpt, "embedding": {**scgpt["embedding"], "batch_size": 7}})
    for changed in ({"max_length": 5}, {"seed": 1}):
        with pytest.raises(RuntimeError, match="embedded again"):
            run("preprocessing", **{**scgpt, "embedding": {**scgpt["embedding"], **changed}})
    other = {"source": {"simulation": {**TINY["data"]["source"]["simulation"], "seed": 1}}}
    with pytest.raises(RuntimeError, match="embedded again"):
        run(*DATA, **{**scgpt, "data": other})


def test_another_checkpoint_makes_another_embedding(run, scgpt, scgpt_checkpoint):
    run(*DATA, **scgpt)
    before = load(run, "prepared").obsm["X_scgpt"]
    scgpt_checkpoint(KNOWN, width=8)
    run("preprocessing", **scgpt)
    assert load(run, "prepared").obsm["X_scgpt"].shape == (len(before), 8)


def test_switched_off_there_is_none(run, scgpt):
    run(*DATA, **scgpt)
    run("preprocessing", **TINY)
    assert "X_scgpt" not in load(run, "prepared").obsm


def test_what_used_another_embedding_is_refused_and_the_rest_is_not(run, scgpt):
    without = {**scgpt, "data": TINY["data"]}
    run(*DATA, "modeling", **without, model="control")
    run("modeling", "evaluation", **scgpt, model="linear_additive")
    run("preprocessing", **{**scgpt, "embedding": {**scgpt["embedding"], "seed": 5, "max_length": 4}})
    with pytest.raises(PerturbenchError, match=r"was trained: embedding X_scgpt\. Train again"):
        predict_only(run, **scgpt, model="linear_additive")
    predict_only(run, **without, model="control")
    run("evaluation", **scgpt)
    log = run.catalog(**scgpt).load("evaluation_log").set_index("prediction")
    assert log["status"].to_dict() == {"control/seed0": "up to date", "linear_additive/seed0": "refused"}
    assert "this evaluation: embedding X_scgpt changed since" in log.loc["linear_additive/seed0", "reason"]
    run("preprocessing", "evaluation", **TINY, **FEW)
    log = run.catalog(**scgpt).load("evaluation_log").set_index("prediction")
    assert set(log["status"]) == {"up to date"}, "without any embedding there is no other one"


def predict_only(run, **params):
    from kedro.framework.session import KedroSession

    with KedroSession.create(project_path=run.root, env="test", runtime_params=params) as session:
        session.run(pipeline_names=["modeling"], node_names=["modeling.predict"])


@pytest.fixture
def own(tmp_path, screen):
    """Parameters of a run on a file with an embedding of its own."""
    screen.obsm["X_mine"] = PCA(4, random_state=0).fit_transform(screen.X.toarray()).astype(np.float32)
    screen.write_h5ad(tmp_path / "screen.h5ad")
    source = {"kind": "file", "path": str(tmp_path / "screen.h5ad")}
    return {**TINY, **FEW, "data": {"source": source, "embedding_key": "X_mine"}}


def test_an_embedding_of_the_source_reaches_the_batches(run, own, screen):
    run(*DATA, **own)
    assert np.array_equal(load(run, "prepared").obsm["X_mine"], screen.obsm["X_mine"])
    batch = next(iter(make_batches(run, **own).train_dataloader()))
    assert np.array_equal(batch.embeddings, screen[batch.ids].obsm["X_mine"])


def test_an_embedding_of_the_source_is_not_overwritten(run, own, scgpt):
    with pytest.raises(PerturbenchError, match=r"embedding\.key 'X_mine' is already in obsm of the source"):
        run(*DATA, **{**own, "embedding": {**scgpt["embedding"], "key": "X_mine"}})


def test_an_embedding_that_is_nowhere(run):
    with pytest.raises(PerturbenchError, match=r"embedding 'X_scgpt' is not in obsm; .* embedding\.kind:scgpt"):
        run(*DATA, **{**TINY, "data": {**TINY["data"], "embedding_key": "X_scgpt"}})


def test_no_checkpoint(run):
    with pytest.raises(PerturbenchError, match=r"data/01_raw/scGPT_human' lacks vocab\.json, args\.json, best_model"):
        run(*DATA, **{**TINY, "embedding": {"kind": "scgpt"}})
    assert not list(run.root.glob("data/04_feature/**/*.h5ad"))


#: As a user types them: --params=embedding.kind:pca,embedding.n_components:4,data.embedding_key:X_pca
PCA_RUN = {
    **TINY,
    "embedding": {"kind": "pca", "n_components": 4},
    "data": {**TINY["data"], "embedding_key": "X_pca"},
    "model": "latent_additive",
    "hparams": {"use_embeddings": True, "encoder_width": 8, "latent_dim": 4},
}


def test_principal_components_of_training_cells_reach_the_batches(run):
    run(*DATA, **PCA_RUN)
    prepared = load(run, "prepared")
    train = run.catalog(**PCA_RUN).load("split")["split"].to_numpy() == "train"
    expected = PCA(4).fit(prepared.X[train].toarray()).transform(prepared.X.toarray())
    found = prepared.obsm["X_pca"]
    np.testing.assert_allclose(found, expected * np.sign((found * expected).sum(axis=0)), atol=1e-3)
    batch = next(iter(make_batches(run, **PCA_RUN).train_dataloader()))
    assert np.array_equal(batch.embeddings, prepared[batch.ids].obsm["X_pca"])
    assert not list(run.root.glob("data/04_feature/**/*.h5ad"))


def test_a_model_trains_on_principal_components_from_the_command_line(kedro):
    simulation = TINY["data"]["source"]["simulation"]
    typed = [
        "task:simulated",
        *(f"data.source.simulation.{name}:{value}" for name, value in simulation.items()),
        "splitter.max_heldout_fraction_per_covariate:0.5",
        "embedding.kind:pca,embedding.n_components:4,data.embedding_key:X_pca",
        "model:latent_additive,hparams.use_embeddings:true,hparams.encoder_width:8,hparams.latent_dim:4",
    ]
    kedro("run", "--env=test", f"--params={','.join(typed)}")
    checkpoint = torch.load(kedro.root / "data/06_models/simulated/latent_additive/seed0.ckpt", weights_only=True)
    encoder = next(value for name, value in checkpoint["state_dict"].items() if value.shape[-1] == 4)
    assert encoder.shape == (8, 4)
    assert (kedro.root / "data/08_reporting/simulated/leaderboard.csv").is_file()


def test_components_of_another_split_are_refused(run):
    run(*DATA, **PCA_RUN)
    other = {**PCA_RUN, "splitter": {**TINY["splitter"], "seed": 1}}
    run("splitting", **other)
    with pytest.raises(PerturbenchError, match="an embedding fitted, on the training cells of another split"):
        run("modeling", **other)


def test_a_key_of_ones_own(run):
    named = {**PCA_RUN, "embedding": {**PCA_RUN["embedding"], "key": "mine"}}
    run(*DATA, **{**named, "data": {**TINY["data"], "embedding_key": "mine"}})
    assert load(run, "prepared").obsm["mine"].shape == (600, 4)
