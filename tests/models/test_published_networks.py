"""The networks are those of the published code: with its weights they return its predictions, losses and gradients."""

import numpy as np
import pytest
import torch
from benchmarks.published_networks import (
    SHARED,
    as_published,
    batch,
    compare,
    main,
    model,
    pairs,
    published,
    tensors,
    training_loss,
    without_noise,
)

pytestmark = pytest.mark.shared

#: Relative difference between two orders of adding up numbers of single precision.
CLOSE = 1e-5
configuration = pytest.mark.parametrize(
    "name", list(published()[1]["models"]) if SHARED.is_dir() else ["no shared folder"]
)
#: The losses of these have several terms that are published.
autoencoder = pytest.mark.parametrize(
    "name", ["cpa", "cpa_no_adv", "cpa_emb", "sams_vae", "sams_vae_gen", "sams_vae_s"]
)
#: The KL divergences of these are exact in ours and estimated in the published code.
sams = pytest.mark.parametrize("name", ["sams_vae", "sams_vae_gen", "sams_vae_s"])


@configuration
def test_predictions_losses_and_gradients(name):
    differences = compare(name)
    has_no_val_loss = name.startswith("sams")  # the published SAMS-VAE's is drawn anew for each batch
    assert set(differences) == {"prediction", "loss", "gradients"} | ({"val_loss"} if not has_no_val_loss else set())
    assert max(differences.values()) < CLOSE


@autoencoder
def test_terms_of_losses(name):
    ours, parts = model(name).train(), published()[1]["models"][name]["parts"]
    with as_published(name):
        terms = {key: value.item() for key, value in training_loss(ours, batch(name)).items()}
    if name.startswith("cpa"):
        expected = {"reconstruction": parts["recon_loss"], "kl": parts["kl_loss"]}
    else:
        expected = {"reconstruction": parts["recon"], "kl": parts["kld"]}
        terms["kl"] = terms["kl_cell"] + terms["kl_embedding"] + terms["kl_mask"]
    assert {key: terms[key] for key in expected} == pytest.approx(expected, rel=CLOSE)


@pytest.mark.parametrize("name", ["cpa", "cpa_emb"])
def test_losses_of_the_adversary(name):
    ours, parts = model(name).train(), published()[1]["models"][name]["parts"]
    with without_noise():
        terms = {key: value.item() for key, value in ours.adversary_loss(batch(name)).items()}
        generator = ours.loss(batch(name))["loss"].item()
    expected = {"loss": parts["adversary_loss"], "cross_entropy": parts["adv_loss"], "penalty": parts["penalty_adv"]}
    assert terms == pytest.approx(expected, rel=CLOSE)
    assert generator == pytest.approx(parts["gen_loss"], rel=CLOSE)


@configuration
def test_every_weight_of_ours_is_compared(name):
    ours = model(name)
    compared = {id(parameter) for parameter, _ in pairs(ours, name, "gradients")}
    assert compared == {id(parameter) for parameter in ours.parameters()}


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


def test_the_table_has_a_row_per_configuration(capsys):
    main()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == list(published()[1]["models"])
