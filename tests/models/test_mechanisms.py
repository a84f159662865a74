"""The models do inside what their definitions say, not only in their shapes."""

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.nn import functional as F

from perturbench.data import PerturbationDataModule, simulate
from perturbench.data.groups import Keys
from perturbench.data.splits import SplitRules, split_cells
from perturbench.errors import PerturbenchError
from perturbench.models import CPA, SAMSVAE, Additive, BioLord, LatentAdditive, PerturbationMean, Ridge
from perturbench.models.nn import Gaussian, bernoulli_kl, sample_mask
from perturbench.preprocessing import prepare
from perturbench.training.checkpoints import load_model
from perturbench.training.fitting import fit

TWO = ("cell_type", "line")
SMALL_CPA = {"n_latent": 4, "hidden_dim": 16, "adv_classifier_hidden_dim": 16}
SMALL_SAMS = {"latent_dim": 4, "hidden_dim_x": 16, "hidden_dim_cond": 16}


@pytest.fixture(scope="module")
def cells():
    adata = simulate(n_cells=900, n_genes=30, n_states=3, n_singles=6, n_doubles=4, effect_size=1.5, seed=1)
    adata.obs["line"] = np.where(adata.obs["cell_type"] == "state1", "a", "b")
    return prepare(adata, Keys(), n_top_genes=30, n_de_genes=0)


@pytest.fixture(scope="module")
def make(cells):
    def _make(covariates=("cell_type",), **options):
        keys = Keys(covariates=covariates)
        split = split_cells(cells.obs, Keys(), "transfer", SplitRules(max_heldout_fraction_per_covariate=0.5), 0)
        return PerturbationDataModule(cells, split, keys, **{"batch_size": 128} | options)

    return _make


@pytest.fixture(scope="module")
def module(make):
    return make()


def new(cls, module, **hparams):
    L.seed_everything(0, verbose=False)
    return cls(module.context, **hparams)


def moved(before, model):
    """Return the names of the parameters that changed."""
    return {name for name, value in model.named_parameters() if not torch.equal(before[name], value)}


def weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


class Watch(Callback):
    """Note what each training step changed."""

    def __init__(self):
        self.steps = []

    def on_train_batch_start(self, trainer, model, *_):
        self.before = weights(model)

    def on_train_batch_end(self, trainer, model, *_):
        changed = {"adversary" if name.startswith("adversary") else "generator" for name in moved(self.before, model)}
        self.steps.append((trainer.current_epoch, changed))


def watch(model, module, max_epochs):
    steps = Watch()
    fit(model, module, max_epochs=max_epochs, min_epochs=1, accelerator="cpu", callbacks=[steps])
    return steps.steps


class TestCPA:
    def test_warm_up_then_turns(self, make):
        module = make(batch_size=64)
        steps = watch(new(CPA, module, **SMALL_CPA, n_warmup_epochs=2, adv_steps=3), module, 4)
        warm_up = [changed for epoch, changed in steps if epoch < 2]
        after = [changed for epoch, changed in steps if epoch >= 2]
        assert warm_up == [{"generator"}] * len(warm_up)
        expected = [{"generator"} if i % 3 == 0 else {"adversary"} for i in range(len(after))]
        assert after == expected
        assert len(warm_up) == len(after) > 3

    def test_turns_go_on_across_epochs_of_one_batch(self, make):
        module = make(batch_size=10_000)
        steps = watch(new(CPA, module, **SMALL_CPA, n_warmup_epochs=1, adv_steps=2), module, 5)
        kinds = [changed for _, changed in steps]
        assert kinds == [{"generator"}, {"generator"}, {"adversary"}, {"generator"}, {"adversary"}]

    def test_without_adversary_only_the_generator_is_trained(self, module):
        model = new(CPA, module, **SMALL_CPA, n_warmup_epochs=1, use_adversary=False)
        assert not list(model.adversary.parameters())
        assert {frozenset(changed) for _, changed in watch(model, module, 3)} == {frozenset({"generator"})}

    def test_losses_are_their_formulas(self, make):
        module = make(TWO)
        model = new(CPA, module, **SMALL_CPA, kl_weight=0.5, adv_weight=2.0, penalty_weight=3.0).eval()
        batch = module.observed("train")[:50]
        cell = model.cell_encoder(batch.gene_expression)
        latent = cell.mean + model.perturbation_embedding(batch.perturbations)
        latent = latent + sum(
            one(batch.covariates[key]) for key, one in zip(TWO, model.covariate_embeddings, strict=True)
        )
        error = (F.softplus(model.decoder(latent)) - batch.gene_expression).square().sum(1).mean()
        kl = 0.5 * (cell.mean**2 + cell.log_variance.exp() - 1 - cell.log_variance).sum(1).mean()
        truths = [batch.perturbations, batch.covariates["cell_type"], batch.covariates["line"]]
        logits = [classifier(cell.mean) for classifier in model.adversary]
        told = sum(-(truth * one.log_softmax(1)).sum(1).mean() for truth, one in zip(truths, logits, strict=True))
        assert model.loss(batch)["loss"].item() == pytest.approx((error + 0.5 * kl).item(), rel=1e-5)
        assert model.generator_loss(batch)["loss"].item() == pytest.approx(
            (error + 0.5 * kl - 2 * told).item(), rel=1e-5
        )
        slopes = [torch.autograd.grad(one.sum(), cell.mean, retain_graph=True)[0] for one in logits]
        penalty = sum(slope.square().mean() for slope in slopes)
        assert model.adversary_loss(batch)["loss"].item() == pytest.approx((2 * told + 3 * penalty).item(), rel=1e-4)

    def test_generator_loss_grows_as_the_adversary_can_tell_less(self, module):
        """The sign: the encoder gains where the cross-entropy is high."""
        model = new(CPA, module, **SMALL_CPA, adv_weight=5.0).eval()
        batch = module.observed("train")[:50]
        told = model.loss(batch)["loss"] - model.generator_loss(batch)["loss"]
        assert told.item() > 0

    def test_adversary_step_has_no_gradient_in_the_generator(self, module):
        model = new(CPA, module, **SMALL_CPA)
        model.adversary_loss(module.observed("train")[:50])["loss"].backward()
        with_gradient = {name.split(".")[0] for name, value in model.named_parameters() if value.grad is not None}
        assert with_gradient == {"adversary"}

    def test_covariates_with_one_level_are_left_out(self, cells, make):
        one = cells[cells.obs["line"] == "b"].copy()
        split = split_cells(one.obs, Keys(), "transfer", SplitRules(max_heldout_fraction_per_covariate=0.5), 0)
        module = PerturbationDataModule(one, split, Keys(covariates=TWO))
        model = new(CPA, module, **SMALL_CPA)
        assert model.covariates == ["cell_type"]
        assert (len(model.covariate_embeddings), len(model.adversary)) == (1, 2)

    def test_adversary_makes_the_latent_cell_tell_less(self, cells, make):
        """A fresh classifier finds the perturbation in the latent cells less often where an adversary was at work."""
        module = make()
        hparams = SMALL_CPA | {"n_latent": 8, "kl_weight": 0.01, "n_warmup_epochs": 2, "lr": 3e-3}
        accuracies = {}
        for use_adversary in (True, False):
            model = new(CPA, module, **hparams, use_adversary=use_adversary, adv_weight=20.0, penalty_weight=0.1)
            trained = load_model(fit(model, module, max_epochs=40, patience=40, accelerator="cpu"))
            accuracies[use_adversary] = self.told(trained, module)
        chance = accuracies.pop("chance", 0)
        assert chance <= accuracies[True] < accuracies[False] - 0.05

    def told(self, model, module):
        from sklearn.linear_model import LogisticRegression

        batch = module.observed("train")[:]
        own = batch.perturbations.sum(dim=1) == 1
        with torch.no_grad():
            latent = model.cell_encoder(batch.gene_expression[own]).mean.numpy()
        truth = batch.perturbations[own].argmax(dim=1).numpy()
        half = len(truth) // 2
        return LogisticRegression(max_iter=2000).fit(latent[:half], truth[:half]).score(latent[half:], truth[half:])

    def test_too_few_steps_for_an_adversary(self, module):
        with pytest.raises(PerturbenchError, match="adv_steps is 1; use at least 2"):
            CPA(module.context, adv_steps=1)
        CPA(module.context, adv_steps=1, use_adversary=False)

    def test_gradients_are_clipped(self, module):
        model = new(CPA, module, **SMALL_CPA, n_warmup_epochs=0)
        norms = []

        class Norms(Callback):
            def on_before_optimizer_step(self, trainer, pl_module, optimizer):
                gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
                norms.append(torch.stack([g.norm() for g in gradients]).norm().item())

        fit(model, module, max_epochs=1, accelerator="cpu", gradient_clip_val=0.01, callbacks=[Norms()])
        assert norms
        assert max(norms) <= 0.01 * 1.001


class TestSAMSVAE:
    def batch(self, module):
        """Two cells of the first perturbation, one of the first and the second, one control."""
        codes = torch.zeros(4, 6)
        codes[0, 0] = codes[1, 0] = codes[2, 0] = codes[2, 1] = 1
        return module.observed("train")[:4]._replace(perturbations=codes)

    def test_kl_weights(self, module):
        model = new(SAMSVAE, module, **SMALL_SAMS, mask_prior_probability=0.2)
        model.n_training_cells[:] = torch.tensor([30.0, 20, 7, 7, 7, 7])
        with torch.no_grad():
            model.mask_logits.normal_()
        embeddings = Gaussian(torch.randn(6, 4), torch.randn(6, 4))
        p = torch.sigmoid(model.mask_logits)
        of_mask = (p * (p / 0.2).log() + (1 - p) * ((1 - p) / 0.8).log()).sum(1)
        of_embedding = 0.5 * (embeddings.mean**2 + embeddings.log_variance.exp() - 1 - embeddings.log_variance).sum(1)
        # Cells: t0, t0, t0 + t1, control.
        expected = (3 * of_embedding[0] / 30 + of_embedding[1] / 20) / 4 + 3 / 30 * of_mask[0] + 1 / 20 * of_mask[1]
        found = model.kl_of_perturbations(self.batch(module), embeddings)
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)

    def test_training_cells_are_counted(self, make):
        module = make()
        model = new(SAMSVAE, module, **SMALL_SAMS)
        loaded = load_model(fit(model, module, max_epochs=1, accelerator="cpu"))
        train = module.adata.obs.iloc[module.rows["train"]]["condition"].astype(str)
        for name, count in zip(module.context["perturbation_uniques"], loaded.n_training_cells, strict=True):
            assert count == train.map(lambda condition, name=name: name in condition.split("+")).sum()

    def test_mask_is_sparser_with_a_smaller_prior(self, module):
        probability = {}
        for prior in (0.001, 0.9):
            model = new(SAMSVAE, module, **SMALL_SAMS, mask_prior_probability=prior, lr=1e-2)
            trained = load_model(fit(model, module, max_epochs=30, accelerator="cpu"))
            probability[prior] = torch.sigmoid(trained.mask_logits).mean().item()
        assert probability[0.001] < probability[0.9] - 0.2

    def test_shift_is_the_sum_over_the_cells_perturbations(self, module):
        model = new(SAMSVAE, module, **SMALL_SAMS).eval()
        batch = self.batch(module)
        with torch.no_grad():
            mask, embeddings = model._perturbations()
            e = mask * embeddings.mean
            cell = model.cell_encoder(torch.cat([batch.controls, torch.zeros(4, 4)], dim=1)).mean
            shift = torch.stack([e[0], e[0], e[0] + e[1], torch.zeros(4)])
            expected = F.softplus(model.decoder(cell + shift))
            assert torch.allclose(model.predict(batch), expected, atol=1e-6)

    def test_simplified_has_neither_mask_nor_distribution(self, module):
        model = new(SAMSVAE, module, **SMALL_SAMS, sparse_additive_mechanism=False, embedding_distribution=False)
        batch = self.batch(module)
        assert model.mask_logits is None
        assert model.kl_of_perturbations(batch, Gaussian(torch.randn(6, 4), torch.randn(6, 4))).item() == 0
        model.loss(batch)["loss"].backward()
        assert all(value.grad is not None for value in model.parameters()), "no weight is left unused"

    @pytest.mark.parametrize("mean_field", [True, False])
    def test_mean_field_encoders_are_not_told(self, module, mean_field):
        model = new(SAMSVAE, module, **SMALL_SAMS, mean_field_encoding=mean_field)
        assert model.cell_encoder.body[0].in_features == 30 + (0 if mean_field else 4)
        assert model.embedding_encoder.body[0].in_features == 6 + (0 if mean_field else 4)

    def test_generative_prediction_does_not_see_the_cell(self, module):
        model = new(SAMSVAE, module, **SMALL_SAMS, generative_counterfactual=True).eval()
        batch = self.batch(module)
        with torch.no_grad():
            assert torch.equal(model.predict(batch), model.predict(batch._replace(controls=batch.controls + 1)))

    def test_gradients_reach_the_masks_of_the_batch_only(self, module):
        model = new(SAMSVAE, module, **SMALL_SAMS)
        model.loss(self.batch(module))["loss"].backward()
        reached = model.mask_logits.grad.abs().sum(dim=1) > 0
        assert reached.tolist() == [True, True, False, False, False, False]

    @pytest.mark.parametrize("prior", [0.0, 1.0, -1])
    def test_prior_must_be_a_probability(self, module, prior):
        with pytest.raises(ValueError, match="mask_prior_probability is"):
            SAMSVAE(module.context, mask_prior_probability=prior)


class TestBioLord:
    @pytest.mark.parametrize("covariates", [(), ("cell_type",), TWO])
    def test_penalty_is_of_the_levels_in_the_batch(self, make, covariates):
        module = make(covariates) if covariates else make()
        if not covariates:
            module = make(())
        model = new(BioLord, module, latent_dim=4, encoder_width=8, penalty_weight=10.0)
        rows = np.flatnonzero((module.adata.obs["cell_type"] == "state1").to_numpy()[module.rows["train"]])[:20]
        batch = module.observed("train")[rows]
        expected = sum(embedding[0].detach().square().sum() for embedding in model.covariate_embeddings)
        assert float(model.penalty(batch).detach()) == pytest.approx(float(expected), rel=1e-6)
        if covariates:
            model.penalty(batch).backward()
            for embedding in model.covariate_embeddings:
                assert (embedding.grad[0] == 2 * embedding[0]).all()
                assert not embedding.grad[1:].any()

    def test_penalty_is_weighted(self, module):
        batch = module.observed("train")[:20]
        one, ten = (new(BioLord, module, latent_dim=4, penalty_weight=weight).eval() for weight in (1.0, 10.0))
        difference = (ten.loss(batch)["loss"] - one.loss(batch)["loss"]).item()
        assert difference == pytest.approx(9 * one.penalty(batch).item(), rel=1e-4)

    def test_noise_is_of_training_alone(self, module):
        model, batch = new(BioLord, module, latent_dim=4, noise=1.0), module.observed("train")[:20]
        assert not torch.equal(model.loss(batch)["loss"], model.loss(batch)["loss"])
        model.eval()
        assert torch.equal(model.loss(batch)["loss"], model.loss(batch)["loss"])


class TestMask:
    def test_ones_are_as_frequent_as_their_probability(self):
        torch.manual_seed(0)
        mask = sample_mask(torch.logit(torch.tensor([0.1, 0.5, 0.9])).expand(20_000, 3), random=True)
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        assert mask.mean(dim=0).tolist() == pytest.approx([0.1, 0.5, 0.9], abs=0.02)

    def test_gradients_go_straight_through(self):
        logits = torch.zeros(200, requires_grad=True)
        sample_mask(logits, random=True).sum().backward()
        assert (logits.grad > 0).all()

    def test_mean_is_the_probability(self):
        logits = torch.randn(10)
        assert torch.equal(sample_mask(logits, random=False), torch.sigmoid(logits))

    def test_kl_is_torchs(self):
        logits, prior = torch.randn(20) * 3, 0.03
        expected = torch.distributions.kl_divergence(
            torch.distributions.Bernoulli(logits=logits), torch.distributions.Bernoulli(torch.tensor(prior))
        )
        assert torch.allclose(bernoulli_kl(logits, prior), expected, atol=1e-5)

    def test_latent_additive_masks_the_perturbation(self, module):
        model = new(LatentAdditive, module, latent_dim=4, encoder_width=8, sparse_additive_mechanism=True).eval()
        batch = module.counterfactuals()[:20]
        with torch.no_grad():
            mask = torch.sigmoid(model.mask_encoder(batch.perturbations))
            latent = model.cell_encoder(batch.controls) + mask * model.perturbation_encoder(batch.perturbations)
            assert torch.allclose(model.predict(batch), F.softplus(model.decoder(latent)), atol=1e-6)


@pytest.fixture(scope="module")
def embedded(cells):
    other = cells.copy()
    other.obsm["X_mine"] = np.random.default_rng(0).normal(size=(other.n_obs, 5)).astype(np.float32)
    split = split_cells(other.obs, Keys(), "transfer", SplitRules(max_heldout_fraction_per_covariate=0.5), 0)
    return PerturbationDataModule(other, split, Keys(), embedding_key="X_mine", max_control_cells=5)


class TestEmbeddings:
    @pytest.mark.parametrize("cls", [LatentAdditive, CPA])
    def test_stand_for_the_cell(self, embedded, cls):
        model = new(cls, embedded, use_embeddings=True)
        assert load_model(fit(model, embedded, max_epochs=1, accelerator="cpu")).training_record["n_embedding"] == 5
        model.eval()
        batch = embedded.counterfactuals()[:10]
        other_cells = batch._replace(controls=batch.controls + 1)
        other_embeddings = batch._replace(control_embeddings=batch.control_embeddings + 1)
        with torch.no_grad():
            before = model.predict(batch)
            assert before.shape == (10, 30)
            assert torch.equal(model.predict(other_cells), before)
            assert not torch.equal(model.predict(other_embeddings), before)

    def test_of_the_matched_control_in_training(self, embedded):
        """The latent additive model must not see the cell it predicts, not even embedded."""
        model = new(LatentAdditive, embedded, use_embeddings=True).eval()
        batch = embedded.observed("train")[:10]
        with torch.no_grad():
            before = model.predict(batch)
            assert torch.equal(model.predict(batch._replace(embeddings=batch.embeddings + 1)), before)
        assert not torch.equal(batch.embeddings, batch.control_embeddings)

    @pytest.mark.parametrize("cls", [LatentAdditive, CPA])
    def test_must_be_there(self, module, cls):
        with pytest.raises(
            PerturbenchError, match=r"with use_embeddings needs cell embeddings; set data\.embedding_key"
        ):
            cls(module.context, use_embeddings=True)


class TestBaselines:
    def pseudobulk(self, module, part="train"):
        train = module.adata[module.rows[part]]
        x = pd.DataFrame(train.X.toarray().astype(float), columns=train.var_names)
        means = x.groupby([train.obs["cell_type"].to_numpy(str), train.obs["condition"].to_numpy(str)]).mean()
        return means.sub(means.xs("control", level=1), level=0).drop("control", level=1)

    def fitted(self, cls, module, **hparams):
        return load_model(fit(new(cls, module, **hparams), module, max_epochs=1, accelerator="cpu"))

    def shifts(self, model, dataset):
        batch = dataset[:]
        shift = (model.predict(batch) - batch.controls).numpy()
        return {pair: shift[batch.groups.numpy() == row] for row, pair in enumerate(dataset.pairs)}

    def test_perturbation_mean_is_its_definition(self, module):
        effects = self.pseudobulk(module)
        model, dataset = self.fitted(PerturbationMean, module), module.counterfactuals()
        for (_, condition), found in self.shifts(model, dataset).items():
            expected = effects.xs(condition, level=1).mean()
            assert found == pytest.approx(np.tile(expected, (len(found), 1)), abs=1e-4)

    def test_additive_is_its_definition(self, cells):
        split = split_cells(cells.obs, Keys(), "combine", SplitRules(max_heldout_fraction_per_covariate=0.7), 0)
        module = PerturbationDataModule(cells, split, Keys(), max_control_cells=5)
        effects = self.pseudobulk(module)
        model, dataset = self.fitted(Additive, module), module.counterfactuals()
        assert any("+" in condition for _, condition in dataset.pairs)
        for ((state,), condition), found in self.shifts(model, dataset).items():
            expected = effects.loc[[(state, single) for single in condition.split("+")]].sum()
            assert found == pytest.approx(np.tile(expected, (len(found), 1)), abs=1e-4)

    def test_additive_takes_a_single_from_other_states(self, module):
        effects = self.pseudobulk(module)
        model, dataset = self.fitted(Additive, module), module.counterfactuals()
        for (_, condition), found in self.shifts(model, dataset).items():
            if "+" not in condition:
                expected = effects.xs(condition, level=1).mean()
                assert found[0] == pytest.approx(expected.to_numpy(), abs=1e-4)

    def test_ridge_without_penalty_and_with_every_component_is_the_training_effect(self, module):
        """With one-hot perturbations and full rank the model can say everything, here of the first state's effects."""
        effects = self.pseudobulk(module)
        model = self.fitted(Ridge, module, n_components=30, penalty=1e-9)
        response = effects.groupby(level=0).mean()
        singles = module.context["perturbation_uniques"]
        hot = np.array([[single in name.split("+") for single in singles] for _, name in effects.index], dtype=float)
        y = effects.to_numpy() - response.loc[effects.index.get_level_values(0)].to_numpy()
        expected = np.linalg.lstsq(hot, y, rcond=None)[0]
        found = (model.gene_embedding @ model.coefficients).T.numpy()
        projected = expected @ np.linalg.pinv(model.gene_embedding.numpy()).T @ model.gene_embedding.numpy().T
        assert found == pytest.approx(projected, abs=1e-2)

    def test_ridge_embeds_perturbed_genes(self, cells):
        """A perturbation that names a measured gene is embedded as the gene is."""
        renamed = cells.copy()
        renamed.obs["condition"] = [
            "+".join(name.replace("P", "G") if name != "control" else name for name in condition.split("+"))
            for condition in renamed.obs["condition"]
        ]
        split = split_cells(renamed.obs, Keys(), "transfer", SplitRules(max_heldout_fraction_per_covariate=0.5), 0)
        module = PerturbationDataModule(renamed, split, Keys(), max_control_cells=5)
        model = self.fitted(Ridge, module, n_components=4)
        embedded = model._embed_singles(model.gene_embedding.numpy())
        rows = [module.context["gene_names"].index(name) for name in module.context["perturbation_uniques"]]
        assert np.array_equal(embedded, model.gene_embedding.numpy()[rows])

    def test_control_cells_are_left_alone(self, module):
        batch = module.observed("train")[:]
        unperturbed = ~batch.perturbations.bool().any(dim=1)
        for cls in (PerturbationMean, Additive, Ridge):
            predicted = self.fitted(cls, module).predict(batch)
            assert torch.equal(predicted[unperturbed], batch.controls[unperturbed])
            assert not torch.equal(predicted[~unperturbed], batch.controls[~unperturbed])


def test_a_lower_learning_rate_survives_a_resumption(module, tmp_path, monkeypatch):
    """The plateau is counted before the state is saved: broken off or not, the same weights."""
    import perturbench.models.base as base

    class Impatient(base.ReduceLROnPlateau):
        def __init__(self, optimizer, **_):
            super().__init__(optimizer, factor=0.1, patience=0, threshold=0.9)

    monkeypatch.setattr(base, "ReduceLROnPlateau", Impatient)

    class Stop(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 3:
                raise RuntimeError("broken off")

    class Rates(Callback):
        def __init__(self):
            self.rates = []

        def on_train_epoch_start(self, trainer, pl_module):
            self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def train(folder, *callbacks, cls=LatentAdditive):
        options = {"max_epochs": 6, "accelerator": "cpu", "resume_dir": folder, "callbacks": callbacks}
        return fit(new(cls, module, lr=0.05), module, **options)

    for cls in (LatentAdditive, CPA):
        rates = Rates()
        straight = train(None, rates, cls=cls)
        assert rates.rates[-1] < rates.rates[0], "the learning rate fell"
        with pytest.raises(RuntimeError, match="broken off"):
            train(tmp_path / "folder", Stop(), cls=cls)
        again = Rates()
        resumed = train(tmp_path / "folder", again, cls=cls)
        assert again.rates == rates.rates[3:]
        for key, value in straight["state_dict"].items():
            assert torch.equal(resumed["state_dict"][key], value)
