import optuna
import pytest

from perturbench.analysis import evaluate
from perturbench.data import PerturbationDataModule
from perturbench.data.splits import SplitRules, split_cells
from perturbench.errors import PerturbenchError
from perturbench.models import LinearAdditive
from perturbench.preprocessing import prepare
from perturbench.training.checkpoints import load_model
from perturbench.training.fitting import fit
from perturbench.training.prediction import predict
from perturbench.tuning.search_space import PruneOnValLoss, suggest, validation_metrics

METRICS = ["rmse_average", "rmse_rank_average", "cosine_logfc"]


@pytest.fixture
def trial():
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()


@pytest.fixture
def module(screen, keys):
    split = split_cells(screen.obs, keys, "transfer", SplitRules(max_heldout_fraction_per_covariate=0.5), 0)
    return PerturbationDataModule(prepare(screen, keys), split, keys, max_control_cells=20)


def test_every_kind_is_drawn_within_its_bounds(trial):
    space = {
        "lr": {"kind": "float", "low": 1e-5, "high": 1e-3, "log": True},
        "dropout": {"kind": "float", "low": 0.0, "high": 0.8, "step": 0.1},
        "n_layers": {"kind": "int", "low": 1, "high": 7, "step": 2},
        "latent_dim": {"kind": "categorical", "choices": [64, 128]},
    }
    suggested = suggest(trial, space)
    assert list(suggested) == list(space)
    assert 1e-5 <= suggested["lr"] <= 1e-3
    assert suggested["dropout"] * 10 == pytest.approx(round(suggested["dropout"] * 10))
    assert suggested["n_layers"] in (1, 3, 5, 7)
    assert suggested["latent_dim"] in (64, 128)
    assert trial.params == suggested


def test_what_was_found_is_suggested_again():
    space = {"lr": {"kind": "float", "low": 0.0, "high": 1.0}, "width": {"kind": "int", "low": 1, "high": 9}}
    assert suggest(optuna.trial.FixedTrial({"lr": 0.25, "width": 4}), space) == {"lr": 0.25, "width": 4}


def test_nothing_to_search(trial):
    assert suggest(trial, {}) == {}


@pytest.mark.parametrize("entry", [{"low": 0.0, "high": 1.0}, {"kind": "uniform", "low": 0.0, "high": 1.0}, {}])
def test_unknown_kind(trial, entry):
    with pytest.raises(
        PerturbenchError,
        match=r"search_space\.lr is .*; it needs a kind, one of float, int, categorical, and bounds or choices",
    ):
        suggest(trial, {"lr": entry})


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "float", "low": 0.0},
        {"kind": "float", "low": 1.0, "high": 0.0},
        {"kind": "float", "low": 0.0, "high": 1.0, "log": True},
        {"kind": "int", "low": 1, "high": 5, "choices": [1, 5]},
        {"kind": "categorical", "choices": []},
        {"kind": "categorical", "low": 1},
    ],
)
def test_arguments_that_optuna_does_not_take(trial, entry):
    with pytest.raises(PerturbenchError, match=r"search_space\.lr \{'kind': .* cannot be used: "):
        suggest(trial, {"lr": entry})


@pytest.mark.parametrize("entry", [0.1, "float", [1, 2], None])
def test_entry_that_is_no_mapping(trial, entry):
    with pytest.raises(PerturbenchError, match=r"search_space\.lr"):
        suggest(trial, {"lr": entry})


@pytest.mark.parametrize("controls", ["all", "part"])
def test_validation_metrics_are_evaluate_of_the_validation_part(screen, module, controls):
    module.prediction_controls = controls
    checkpoint = fit(LinearAdditive(module.context, lr=0.05), module, max_epochs=2, accelerator="cpu")
    found = validation_metrics(checkpoint, module, METRICS, accelerator="cpu")
    predicted = predict(load_model(checkpoint), module, "val", accelerator="cpu")
    observed = module.adata[module.evaluation_rows("val")]
    summary = evaluate({"m": predicted}, observed, metrics=METRICS, negative="clip").summary.loc["m"]
    assert found == pytest.approx(summary.to_dict())
    assert list(found) == METRICS
    assert (
        evaluate({"m": predicted}, observed, metrics=METRICS)
        .scores["perturbation"]
        .isin([name for _, name in module.pairs("val")])
        .all()
    )


def test_unknown_objective(module):
    with pytest.raises(PerturbenchError, match="unknown metric 'loss'; choose "):
        validation_metrics({}, module, ["loss"])


def test_hopeless_trial_is_pruned(module):
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=1e-9))
    trial = study.ask()
    with pytest.raises(optuna.TrialPruned, match="after epoch 1"):
        fit(LinearAdditive(module.context), module, max_epochs=3, accelerator="cpu", callbacks=[PruneOnValLoss(trial)])
    assert list(study.trials[0].intermediate_values) == [0]
