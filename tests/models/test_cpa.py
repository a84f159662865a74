"""CPA: the turns of autoencoder and adversary, its losses, and what the adversary achieves."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from tests.models.small_models import make_module, new
from torch.nn import functional as F

from perturbench.errors import PerturbenchError
from perturbench.models import CPA
from perturbench.training.checkpoints import load_model
from perturbench.training.fitting import fit

TWO = ("cell_type", "line")
SMALL_CPA = {"n_latent": 4, "hidden_dim": 16, "adv_classifier_hidden_dim": 16}


def changed_weights(before, model):
    """Return the names of the parameters that changed."""
    return {name for name, value in model.named_parameters() if not torch.equal(before[name], value)}


def weights(model):
    """Return a copy of the weights."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


class Watch(Callback):
    """Record which of the two networks each training step changed."""

    def __init__(self):
        self.steps = []

    def on_train_batch_start(self, trainer, model, *_):
        self.before = weights(model)

    def on_train_batch_end(self, trainer, model, *_):
        changed = {
            "adversary" if name.startswith("adversary") else "generator" for name in changed_weights(self.before, model)
        }
        self.steps.append((trainer.current_epoch, changed))


def steps_of(model, module, max_epochs):
    """Return the epoch of each training step, and what the step changed."""
    watch = Watch()
    fit(model, module, max_epochs=max_epochs, min_epochs=1, accelerator="cpu", callbacks=[watch])
    return watch.steps


def test_warm_up_then_turns():
    module = make_module(batch_size=64)
    steps = steps_of(new(CPA, module, **SMALL_CPA, n_warmup_epochs=2, adv_steps=3), module, 4)
    warm_up = [changed for epoch, changed in steps if epoch < 2]
    after = [changed for epoch, changed in steps if epoch >= 2]
    assert warm_up == [{"generator"}] * len(warm_up)
    expected = [{"generator"} if i % 3 == 0 else {"adversary"} for i in range(len(after))]
    assert after == expected
    assert len(warm_up) == len(after) > 3


def test_turns_go_on_across_epochs_of_one_batch():
    module = make_module(batch_size=10_000)
    steps = steps_of(new(CPA, module, **SMALL_CPA, n_warmup_epochs=1, adv_steps=2), module, 5)
    kinds = [changed for _, changed in steps]
    assert kinds == [{"generator"}, {"generator"}, {"adversary"}, {"generator"}, {"adversary"}]


def test_turns_restart_in_each_epoch_if_asked():
    module = make_module(batch_size=64)
    steps = steps_of(new(CPA, module, **SMALL_CPA, n_warmup_epochs=1, adv_steps=3, restart_adv_steps=True), module, 3)
    for epoch in (1, 2):
        changed = [kinds for at, kinds in steps if at == epoch]
        assert changed == [{"generator"} if i % 3 == 0 else {"adversary"} for i in range(len(changed))]
    assert len(changed) % 3, "the turns of the second epoch begin anew"


def test_adversary_is_part_of_val_loss_if_asked(module):
    batch = module.observed("train")[:50]
    without = new(CPA, module, **SMALL_CPA).eval()
    assert without.validation_loss(batch)["loss"].item() == without.loss(batch)["loss"].item()
    model = new(CPA, module, **SMALL_CPA, adversary_in_val_loss=True).eval()
    assert model.validation_loss(batch)["loss"].item() == model.generator_loss(batch)["loss"].item()


def test_a_plain_autoencoder_has_neither_noise_nor_kl(module):
    model, batch = new(CPA, module, **SMALL_CPA, variational=False, dropout=None), module.observed("train")[:50]
    terms = model.generator_loss(batch)
    assert terms["kl"].item() == 0
    assert torch.equal(terms["loss"], model.generator_loss(batch)["loss"]), "training draws nothing"
    terms["loss"].backward()
    assert all(weight.grad is not None for weight in model.parameters()), "no weight is left unused"


def test_without_adversary_only_the_generator_is_trained(module):
    model = new(CPA, module, **SMALL_CPA, n_warmup_epochs=1, use_adversary=False)
    assert not list(model.adversary.parameters())
    assert {frozenset(changed) for _, changed in steps_of(model, module, 3)} == {frozenset({"generator"})}


def test_losses_are_their_formulas():
    module = make_module(TWO)
    model = new(CPA, module, **SMALL_CPA, kl_weight=0.5, adv_weight=2.0, penalty_weight=3.0).eval()
    batch = module.observed("train")[:50]
    cell = model.cell_encoder(batch.gene_expression)
    latent = cell.mean + model.perturbation_embedding(batch.perturbations)
    latent = latent + sum(one(batch.covariates[key]) for key, one in zip(TWO, model.covariate_embeddings, strict=True))
    error = (F.softplus(model.decoder(latent)) - batch.gene_expression).square().sum(1).mean()
    kl = 0.5 * (cell.mean**2 + cell.log_variance.exp() - 1 - cell.log_variance).sum(1).mean()
    truths = [batch.perturbations, batch.covariates["cell_type"], batch.covariates["line"]]
    logits = [classifier(cell.mean) for classifier in model.adversary]
    cross_entropy = sum(-(truth * one.log_softmax(1)).sum(1).mean() for truth, one in zip(truths, logits, strict=True))
    assert model.loss(batch)["loss"].item() == pytest.approx((error + 0.5 * kl).item(), rel=1e-5)
    assert model.generator_loss(batch)["loss"].item() == pytest.approx(
        (error + 0.5 * kl - 2 * cross_entropy).item(), rel=1e-5
    )
    slopes = [torch.autograd.grad(one.sum(), cell.mean, retain_graph=True)[0] for one in logits]
    penalty = sum(slope.square().mean() for slope in slopes)
    assert model.adversary_loss(batch)["loss"].item() == pytest.approx(
        (2 * cross_entropy + 3 * penalty).item(), rel=1e-4
    )


def test_generator_loss_falls_as_the_cross_entropy_of_the_adversary_grows(module):
    """The sign: a high cross-entropy lowers the loss of the encoder."""
    model = new(CPA, module, **SMALL_CPA, adv_weight=5.0).eval()
    batch = module.observed("train")[:50]
    gain = model.loss(batch)["loss"] - model.generator_loss(batch)["loss"]
    assert gain.item() > 0


def test_adversary_step_has_no_gradient_in_the_generator(module):
    model = new(CPA, module, **SMALL_CPA)
    model.adversary_loss(module.observed("train")[:50])["loss"].backward()
    with_gradient = {name.split(".")[0] for name, value in model.named_parameters() if value.grad is not None}
    assert with_gradient == {"adversary"}


def test_covariates_with_one_level_are_left_out(cells):
    one = cells[cells.obs["line"] == "b"].copy()
    module = make_module(TWO, one)
    model = new(CPA, module, **SMALL_CPA)
    assert model.covariates == ["cell_type"]
    assert (len(model.covariate_embeddings), len(model.adversary)) == (1, 2)


def test_adversary_removes_the_perturbation_from_the_latent_vectors():
    """A new classifier finds the perturbation less often in latent vectors that were trained with an adversary."""
    module = make_module()
    hparams = {"n_latent": 16, "hidden_dim": 64, "adv_classifier_hidden_dim": 16, "dropout": 0.0}
    hparams |= {"kl_weight": 0.001, "n_warmup_epochs": 2, "lr": 3e-3}
    accuracies = {}
    for use_adversary in (True, False):
        model = new(CPA, module, **hparams, use_adversary=use_adversary, adv_weight=20.0, penalty_weight=0.1)
        trained = load_model(fit(model, module, max_epochs=60, patience=60, accelerator="cpu"))
        accuracies[use_adversary] = classification_accuracy(trained, module)
    assert accuracies[True] < accuracies[False] - 0.05


def classification_accuracy(model, module):
    """Return how often a new classifier finds the perturbation of held-back cells in their latent vectors."""
    from sklearn.linear_model import LogisticRegression

    batch = module.observed("train")[:]
    single = batch.perturbations.sum(dim=1) == 1
    with torch.no_grad():
        latent = model.cell_encoder(batch.gene_expression[single]).mean.numpy()
    truth = batch.perturbations[single].argmax(dim=1).numpy()
    half = len(truth) // 2
    return LogisticRegression(max_iter=2000).fit(latent[:half], truth[:half]).score(latent[half:], truth[half:])


def test_adv_steps_that_never_train_the_adversary_are_refused(module):
    with pytest.raises(PerturbenchError, match="adv_steps is 1, which never trains the adversary; use at least 2"):
        CPA(module.context, adv_steps=1)
    CPA(module.context, adv_steps=1, use_adversary=False)


def test_gradients_are_clipped(module):
    model = new(CPA, module, **SMALL_CPA, n_warmup_epochs=0)
    norms = []

    class Norms(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            norms.append(torch.stack([g.norm() for g in gradients]).norm().item())

    fit(model, module, max_epochs=1, accelerator="cpu", gradient_clip_val=0.01, callbacks=[Norms()])
    assert norms
    assert max(norms) <= 0.01 * 1.001
