"""SAMS-VAE: its masks, the weights of its KL divergences, and what its encoders see."""

import lightning as L
import pytest
import torch
from tests.models.small_models import make_module, new
from torch.nn import functional as F

from perturbench.errors import PerturbenchError
from perturbench.models import SAMSVAE
from perturbench.training.checkpoints import load_model
from perturbench.training.fitting import fit

SMALL_SAMS = {"latent_dim": 4, "hidden_dim_x": 16, "hidden_dim_cond": 16}


def small_batch(module):
    """Two cells of the first perturbation, one of the first and the second, one control."""
    codes = torch.zeros(4, 6)
    codes[0, 0] = codes[1, 0] = codes[2, 0] = codes[2, 1] = 1
    return module.observed("train")[:4]._replace(perturbations=codes)


def kl_of_gaussian(mean, log_variance):
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=-1)


@pytest.mark.parametrize("sees_combination", [False, True])
def test_kl_weights(module, sees_combination):
    model = new(SAMSVAE, module, **SMALL_SAMS, embedding_sees_combination=sees_combination)
    model.n_training_cells[:] = torch.tensor([30.0, 20, 7, 7, 7, 7])
    with torch.no_grad():
        model.mask_logits.normal_()
        p, prior = torch.sigmoid(model.mask_logits), model.mask_prior_probability
        mask = (p * (p / prior).log() + (1 - p) * ((1 - p) / (1 - prior)).log()).sum(1)
        batch = small_batch(module)  # t0, t0, t0 + t1, control
        one, two, both = (torch.zeros(6).index_fill(0, torch.tensor(on), 1.0) for on in ([0], [1], [0, 1]))

        def kl(t, seen):
            return kl_of_gaussian(*model.embedding_encoder(torch.cat([p[t], seen])[None]))[0]

        if sees_combination:
            of_combination = (kl(0, both) + kl(1, both)) / (30 + 20)
        else:
            of_combination = kl(0, one) / 30 + kl(1, two) / 20
        terms = model.eval().loss(batch)
        assert terms["kl_embedding"].item() == pytest.approx(
            (2 * kl(0, one) / 30 + of_combination).item() / 4, rel=1e-4
        )
        assert terms["kl_mask"].item() == pytest.approx((3 * mask[0] / 30 + mask[1] / 20).item() / 4, rel=1e-4)


def test_training_cells_are_counted():
    module = make_module()
    model = new(SAMSVAE, module, **SMALL_SAMS)
    loaded = load_model(fit(model, module, max_epochs=1, accelerator="cpu"))
    train = module.adata.obs.iloc[module.rows["train"]]["condition"].astype(str)
    for name, count in zip(module.context["perturbation_uniques"], loaded.n_training_cells, strict=True):
        assert count == train.map(lambda condition, name=name: name in condition.split("+")).sum()


@pytest.mark.parametrize(("prior", "direction"), [(0.001, -1), (0.9, 1)])
def test_the_prior_draws_the_masks_of_the_batch_towards_it(module, prior, direction):
    model = new(SAMSVAE, module, **SMALL_SAMS, mask_prior_probability=prior)
    model.loss(small_batch(module))["kl_mask"].backward()
    steps = -model.mask_logits.grad.sign()
    assert (steps[:2] == direction).all(), "a step of gradient descent goes towards the prior"
    assert not steps[2:].any(), "the batch has no cells of the others"


@pytest.mark.parametrize("encoder_sees_shift", [True, False])
def test_shift_is_the_sum_over_the_cells_perturbations(module, encoder_sees_shift):
    switches = {"embedding_sees_combination": False, "encoder_sees_shift": encoder_sees_shift}
    model = new(SAMSVAE, module, **SMALL_SAMS, **switches).eval()
    batch = small_batch(module)
    with torch.no_grad():
        mask = torch.sigmoid(model.mask_logits)
        e = mask * model.embedding_encoder(torch.cat([mask, torch.eye(6)], dim=1)).mean
        shift = torch.stack([e[0], e[0], e[0] + e[1], torch.zeros(4)])
        seen = shift if encoder_sees_shift else torch.zeros(4, 4)
        cell = model.cell_encoder(torch.cat([batch.controls, seen], dim=1)).mean
        expected = F.softplus(model.decoder(cell + shift))
        assert torch.allclose(model.predict(batch), expected, atol=1e-6)


def test_embeddings_of_a_combination_see_all_of_it(module):
    model = new(SAMSVAE, module, **SMALL_SAMS, embedding_sees_combination=True).eval()
    with torch.no_grad():
        mask = torch.sigmoid(model.mask_logits)
        perturbations = small_batch(module).perturbations
        e = [model.embedding_encoder(torch.cat([mask[t], perturbations[2]])[None]).mean[0] for t in (0, 1)]
        shift, _, _ = model._shift(perturbations, random=False)
        assert torch.allclose(shift[2], mask[0] * e[0] + mask[1] * e[1], atol=1e-6)
        assert not shift[3].any(), "a control cell is not shifted"


def test_drawn_predictions_differ_and_the_others_do_not(module):
    batch = small_batch(module)
    for sampled in (True, False):
        model = new(SAMSVAE, module, **SMALL_SAMS, sample_at_prediction=sampled).eval()
        with torch.no_grad():
            assert torch.equal(model.predict(batch), model.predict(batch)) != sampled


def test_simplified_variant_has_neither_masks_nor_distributions(module):
    model = new(SAMSVAE, module, **SMALL_SAMS, sparse_additive_mechanism=False, embedding_distribution=False)
    batch = small_batch(module)
    assert model.mask_logits is None
    terms = model.loss(batch)
    assert terms["kl_embedding"].item() == terms["kl_mask"].item() == 0
    terms["loss"].backward()
    assert all(value.grad is not None for value in model.parameters()), "no weight is left unused"


@pytest.mark.parametrize("mean_field", [True, False])
def test_mean_field_encoders_do_not_see_shift_or_mask(module, mean_field):
    model = new(SAMSVAE, module, **SMALL_SAMS, mean_field_encoding=mean_field)
    assert model.cell_encoder.body[0].in_features == 30 + (0 if mean_field else 4)
    assert model.embedding_encoder.body[0].in_features == 6 + (0 if mean_field else 4)


def test_generative_prediction_does_not_see_the_cell(module):
    model = new(SAMSVAE, module, **SMALL_SAMS, generative_counterfactual=True).eval()
    batch = small_batch(module)
    with torch.no_grad():
        assert torch.equal(model.predict(batch), model.predict(batch._replace(controls=batch.controls + 1)))


def test_gradients_reach_the_masks_of_the_batch_only(module):
    model = new(SAMSVAE, module, **SMALL_SAMS)
    model.loss(small_batch(module))["loss"].backward()
    reached = model.mask_logits.grad.abs().sum(dim=1) > 0
    assert reached.tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize("prior", [0.0, 1.0, -1])
def test_prior_must_be_a_probability(module, prior):
    with pytest.raises(PerturbenchError, match=r"mask_prior_probability is .*; choose a value above 0 and below 1"):
        SAMSVAE(module.context, mask_prior_probability=prior)


def test_prediction_sees_more_perturbations_than_a_training_cell_had(module):
    """A training that was interrupted does not limit the combinations of a later prediction."""
    batch = small_batch(module)
    models = [new(SAMSVAE, module, **SMALL_SAMS, embedding_sees_combination=True).eval() for _ in range(2)]
    models[0]._most_singles = 1  # as a training on single perturbations leaves it if it is interrupted
    with torch.no_grad():
        assert torch.equal(models[0].predict(batch), models[1].predict(batch))


def test_trains_without_validation(module):
    model = new(SAMSVAE, module, **SMALL_SAMS)
    model.plateau = None  # there is no val_loss that could lower the learning rate
    trainer = L.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu", limit_val_batches=0)
    trainer.fit(model, train_dataloaders=module.train_dataloader())
    assert model.n_training_cells.max() > 1
