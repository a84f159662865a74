"""The networks are those of the published code: with its weights they return its predictions, losses and gradients.

The numbers were made with the published code's release of 2025; the README of the shared folder ``oracle`` says how.
All noise is switched off: Gaussian noise is 0, and a mask is 1 where its probability is above one half.
"""

import json
from functools import cache

import numpy as np
import pytest
import torch
from tests.conftest import SHARED
from torch.nn import functional as F

from perturbench.data.encoding import Context
from perturbench.data.types import Batch
from perturbench.models import CPA, SAMSVAE, BioLord, DecoderOnly, LatentAdditive, LinearAdditive, sams_vae
from perturbench.models.loss_terms import named_terms
from perturbench.models.nn import Gaussian, sample_mask

pytestmark = pytest.mark.shared

#: Relative difference between two orders of adding up numbers of single precision.
CLOSE = 1e-5
#: Class of each configuration, by the first word or words of its name.
CLASSES = {
    "linear_additive": LinearAdditive,
    "latent_additive": LatentAdditive,
    "decoder_only": DecoderOnly,
    "cpa": CPA,
    "sams_vae": SAMSVAE,
    "biolord": BioLord,
}
#: Published hyperparameters that switch off what ours of this name switch on.
RENAMED = {"disable_sparsity": "sparse_additive_mechanism", "disable_e_dist": "embedding_distribution"}
#: Our layers, and the published names of the weights that go into them; {key} stands for each covariate.
LAYERS = {
    LinearAdditive: {"effect": "fc_pert"},
    LatentAdditive: {
        "cell_encoder": "gene_encoder",
        "perturbation_encoder": "pert_encoder",
        "mask_encoder": "mask_encoder",
        "decoder": "decoder",
    },
    DecoderOnly: {"decoder": "decoder"},
    CPA: {
        "cell_encoder": "encoder",
        "perturbation_embedding": "pert_network",
        "covariate_embeddings": "covars_embeddings",
        "decoder": "decoder",
        "adversary.0": "perturbation_adversary_classifier",
        "adversary.1": "covars_adversary_classifiers.cell_type",
        "adversary.2": "covars_adversary_classifiers.treatment",
    },
    SAMSVAE: {
        "mask_logits": "m_logits",
        "cell_encoder": "encoder_x",
        "embedding_encoder": "encoder_e",
        "decoder": "decoder",
    },
    BioLord: {
        "cell_encoder": "gene_encoder",
        "perturbation_encoder": "pert_encoder",
        "covariate_embeddings": "lord_embedding",
        "decoder": "decoder",
    },
}
#: Switches that make a model the published one where our default differs.
SWITCHES = {
    CPA: {"sample_at_prediction": True, "adversary_in_val_loss": True},
    SAMSVAE: {"sample_at_prediction": True, "embedding_sees_combination": True, "encoder_sees_shift": True},
}


@cache
def published():
    """Return the arrays and the descriptions of the published networks."""
    folder = SHARED / "oracle"
    return np.load(folder / "networks.npz"), json.loads((folder / "networks.json").read_text())


def tensors(prefix):
    """Return the published arrays whose names begin with a prefix, by the rest of the name, as tensors."""
    arrays = published()[0]
    return {name[len(prefix) :]: torch.from_numpy(arrays[name]) for name in arrays.files if name.startswith(prefix)}


def batch(name):
    """Return the published batch as a model reads it."""
    cells, described = tensors("batch/"), published()[1]["models"][name]
    embeddings = cells["embeddings"] if described["emb"] else None
    return Batch(
        gene_expression=cells["x"],
        perturbations=cells["perturbations"],
        covariates={key: cells[f"covariates/{key}"] for key in published()[1]["context"]["covariate_uniques"]},
        controls=cells["controls"],
        embeddings=embeddings,
        control_embeddings=embeddings,
    )


def model(name):
    """Return our model of a configuration with the published weights."""
    described, context = published()[1]["models"][name], published()[1]["context"]
    [cls] = {cls for start, cls in CLASSES.items() if name.startswith(start)}
    hparams = {
        RENAMED.get(key, key): (not value) if key in RENAMED else value for key, value in described["hp"].items()
    }
    if cls is CPA:
        hparams = {"penalty_weight": 10.0} | hparams  # the published default
    if described["emb"]:
        hparams["use_embeddings"] = True
    ours = cls(
        Context(
            perturbation_key="condition",
            perturbation_combination_delimiter=context["delimiter"],
            perturbation_control_value=context["control"],
            covariate_keys=list(context["covariate_uniques"]),
            perturbation_uniques=context["perturbation_uniques"],
            covariate_uniques=context["covariate_uniques"],
            gene_names=[f"gene{i}" for i in range(40)],
            embedding_key="X" if described["emb"] else None,
            n_embedding=described["emb"] or 0,
        ),
        **hparams,
        **SWITCHES.get(cls, {}),
    )
    with torch.no_grad():
        for parameter, value in pairs(ours, name, "weights"):
            parameter.copy_(value)
    if cls is SAMSVAE:
        ours.n_training_cells.copy_(torch.from_numpy(published()[0]["counts"]))
    return ours


def pairs(ours, name, kind):
    """Return each of our parameters with its published ``weights`` or ``gradients``, in our shape."""
    values, found = tensors(f"{name}/{kind}/"), []
    for layer, prefix in LAYERS[type(ours)].items():
        own = [value for key, value in ours.named_parameters() if key.startswith(layer)]
        theirs = [value for key, value in values.items() if key.startswith(prefix)]
        if not ours_is_point_estimate(ours, layer):
            assert len(own) == len(theirs), layer
        found += [(mine, his if mine.shape == his.shape else his.T) for mine, his in zip(own, theirs, strict=False)]
    return found


def ours_is_point_estimate(ours, layer):
    """Return whether the published layer has unused weights: the masks or the variance of the variant "S"."""
    return (
        isinstance(ours, SAMSVAE) and not ours.embedding_distribution and layer in ("embedding_encoder", "mask_logits")
    )


@pytest.fixture
def without_noise(monkeypatch):
    """Replace Gaussian noise by 0, and draw a mask as 1 where its probability is above one half."""
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    monkeypatch.setattr(torch, "rand_like", lambda like: torch.full_like(like, 0.5))


@pytest.fixture
def kl_of_one_draw(monkeypatch):
    """Estimate KL divergences from one draw, as the published SAMS-VAE does; ours are exact, the mean over draws."""

    def of_gaussian(self):
        return 0.5 * (self.mean.square() - self.log_variance).sum(dim=1)

    def of_mask(logits, prior):
        mask, log_p, log_not_p = sample_mask(logits, random=True), F.logsigmoid(logits), F.logsigmoid(-logits)
        return mask * (log_p - np.log(prior)) + (1 - mask) * (log_not_p - np.log1p(-prior))

    monkeypatch.setattr(Gaussian, "kl", of_gaussian)
    monkeypatch.setattr(sams_vae, "bernoulli_kl", of_mask)


def difference(ours, theirs):
    """Return the largest difference, relative to the largest published value."""
    theirs = torch.as_tensor(theirs)
    return float((ours.detach() - theirs).abs().max() / theirs.abs().max())


def training_loss(ours, cells):
    """Return the terms of the loss that reaches the encoder and, for CPA, the adversary's classifiers."""
    loss = ours.generator_loss if isinstance(ours, CPA) and ours.use_adversary else ours.loss
    return named_terms(loss(cells))


configuration = pytest.mark.parametrize(
    "name", list(published()[1]["models"]) if SHARED.is_dir() else ["no shared folder"]
)
#: The KL divergences of these are exact in ours and estimated in the published code.
sams = pytest.mark.parametrize("name", ["sams_vae", "sams_vae_gen", "sams_vae_s"])


@configuration
def test_predictions(name, without_noise):
    # The published models draw their masks at prediction too, which latent_additive does in training only.
    ours = model(name).train(name == "latent_additive_sparse")
    assert difference(ours.predict(batch(name)), tensors(f"{name}/predict")[""]) < CLOSE


@configuration
def test_losses_and_their_terms(name, without_noise, request):
    if name.startswith("sams"):
        request.getfixturevalue("kl_of_one_draw")
    ours, parts = model(name).train(), published()[1]["models"][name]["parts"]
    terms = {key: value.item() for key, value in training_loss(ours, batch(name)).items()}
    expected = {"loss": parts.get("total_loss", parts.get("loss"))}
    if name.startswith("cpa"):
        expected |= {"reconstruction": parts["recon_loss"], "kl": parts["kl_loss"]}
    if name.startswith("sams"):
        expected |= {"reconstruction": parts["recon"], "kl": parts["kld"]}
        terms["kl"] = terms["kl_cell"] + terms["kl_embedding"] + terms["kl_mask"]
    assert {key: terms[key] for key in expected} == pytest.approx(expected, rel=CLOSE)


@pytest.mark.parametrize("name", ["cpa", "cpa_emb"])
def test_losses_of_the_adversary(name, without_noise):
    ours, parts = model(name).train(), published()[1]["models"][name]["parts"]
    terms = {key: value.item() for key, value in ours.adversary_loss(batch(name)).items()}
    expected = {"loss": parts["adversary_loss"], "cross_entropy": parts["adv_loss"], "penalty": parts["penalty_adv"]}
    assert terms == pytest.approx(expected, rel=CLOSE)
    assert ours.loss(batch(name))["loss"].item() == pytest.approx(parts["gen_loss"], rel=CLOSE)


@configuration
def test_validation_losses(name, without_noise):
    described = published()[1]["models"][name]
    if "val_loss" not in described:
        assert name.startswith("sams"), "only the published SAMS-VAE has no value"
        return
    ours = model(name).train(name == "latent_additive_sparse")
    loss = named_terms(ours.validation_loss(batch(name)))["loss"].item()
    assert loss == pytest.approx(described["val_loss"], rel=CLOSE)


@configuration
def test_gradients(name, without_noise, request):
    if name.startswith("sams"):
        request.getfixturevalue("kl_of_one_draw")
    ours = model(name).train()
    training_loss(ours, batch(name))["loss"].backward()
    compared = pairs(ours, name, "gradients")
    assert {id(parameter) for parameter, _ in compared} == {id(parameter) for parameter in ours.parameters()}
    differences = [difference(parameter.grad, theirs) for parameter, theirs in compared]
    assert max(differences) < CLOSE


@sams
def test_exact_kl_is_the_mean_of_the_published_estimate(name):
    """The mean of 2,000 draws of our loss is that of the published one, within four standard errors of both."""
    torch.manual_seed(0)
    ours, cells = model(name).train(), batch(name)
    with torch.no_grad():
        draws = torch.stack([torch.stack(list(ours.loss(cells).values())) for _ in range(2000)]).numpy()
    published_mean = published()[1]["models"][name]["mc"]
    error = np.hypot(draws[:, 0].std() / np.sqrt(len(draws)), published_mean["se"])
    assert draws[:, 0].mean() == pytest.approx(published_mean["loss"], abs=4 * error)
    assert draws[:, 1].mean() == pytest.approx(published_mean["recon"], abs=4 * error)


@sams
def test_drawn_predictions_have_the_published_mean(name):
    torch.manual_seed(0)
    ours, cells = model(name).eval(), batch(name)
    with torch.no_grad():
        draws = torch.stack([ours.predict(cells) for _ in range(1000)])
    error = draws.std(dim=0) * np.sqrt(2 / len(draws))  # of the difference of two means of 1,000 draws
    theirs = tensors(f"{name}/mean_predict_over_1000_draws")[""]
    assert ((draws.mean(dim=0) - theirs).abs() <= 5 * error + 1e-6).all()
