"""Our networks with the weights of the published code's, beside its predictions, losses and gradients.

Run ``python benchmarks/published_networks.py``. It prints, for each configuration, the largest difference relative to
the largest published value; single precision rounds at about 1e-7. The weights and numbers were made with the published
code's release of 2025 and lie in the shared folder ``oracle``, whose README says how. All noise is switched off:
Gaussian noise is 0, and a mask is 1 where its probability is above one half.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from perturbench.data.encoding import Context
from perturbench.data.types import Batch
from perturbench.models import CPA, SAMSVAE, BioLord, DecoderOnly, LatentAdditive, LinearAdditive, sams_vae
from perturbench.models.loss_terms import named_terms
from perturbench.models.nn import Gaussian, sample_mask

SHARED = Path(os.environ.get("PERTURBENCH_SHARED", "../shared"))
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


@contextmanager
def without_noise():
    """Replace Gaussian noise by 0, and draw a mask as 1 where its probability is above one half."""
    with (
        mock.patch.object(torch, "randn_like", torch.zeros_like),
        mock.patch.object(torch, "rand_like", lambda like: torch.full_like(like, 0.5)),
    ):
        yield


@contextmanager
def kl_of_one_draw():
    """Estimate KL divergences from one draw, as the published SAMS-VAE does; ours are exact, the mean over draws."""

    def of_gaussian(self):
        return 0.5 * (self.mean.square() - self.log_variance).sum(dim=1)

    def of_mask(logits, prior):
        mask, log_p, log_not_p = sample_mask(logits, random=True), F.logsigmoid(logits), F.logsigmoid(-logits)
        return mask * (log_p - np.log(prior)) + (1 - mask) * (log_not_p - np.log1p(-prior))

    with mock.patch.object(Gaussian, "kl", of_gaussian), mock.patch.object(sams_vae, "bernoulli_kl", of_mask):
        yield


def difference(ours, theirs):
    """Return the largest difference, relative to the largest published value."""
    theirs = torch.as_tensor(theirs)
    return float((ours.detach() - theirs).abs().max() / theirs.abs().max())


def training_loss(ours, cells):
    """Return the terms of the loss that reaches the encoder and, for CPA, the adversary's classifiers."""
    loss = ours.generator_loss if isinstance(ours, CPA) and ours.use_adversary else ours.loss
    return named_terms(loss(cells))


@contextmanager
def as_published(name):
    """Switch off noise, and estimate KL divergences as the published configuration does."""
    with ExitStack() as stack:
        stack.enter_context(without_noise())
        if name.startswith("sams"):
            stack.enter_context(kl_of_one_draw())
        yield


def compare(name: str) -> dict[str, float]:
    """Return the largest relative differences of a configuration: predictions, losses and gradients."""
    described, cells = published()[1]["models"][name], batch(name)
    ours = model(name)
    # The published models draw their masks at prediction too, which latent_additive does in training only.
    with as_published(name):
        ours.train(name == "latent_additive_sparse")
        found = {"prediction": difference(ours.predict(cells), tensors(f"{name}/predict")[""])}
        if "val_loss" in described:
            val_loss = named_terms(ours.validation_loss(cells))["loss"]
            found["val_loss"] = difference(val_loss, described["val_loss"])
        loss = training_loss(ours.train(), cells)["loss"]
        found["loss"] = difference(loss, described["parts"].get("total_loss", described["parts"].get("loss")))
        loss.backward()
    gradients = [difference(parameter.grad, theirs) for parameter, theirs in pairs(ours, name, "gradients")]
    return found | {"gradients": max(gradients)}


def main() -> None:
    table = pd.DataFrame({name: compare(name) for name in published()[1]["models"]}).T
    print(table[["prediction", "loss", "gradients", "val_loss"]].to_string(float_format="{:.0e}".format, na_rep=""))


if __name__ == "__main__":
    main()
