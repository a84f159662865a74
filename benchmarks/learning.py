"""What each model learns from a simulated screen whose true effects are known.

Run ``python benchmarks/learning.py`` (all models of the project) or name some. Singles, controls and 30% of the doubles
of two states are for training; the scores are of held-out doubles. Hyperparameters are the project's defaults.
"""

from __future__ import annotations

import sys
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd

from perturbench.analysis import Prediction, Reference, collapse_diagnostics, evaluate
from perturbench.data import PerturbationDataModule, simulate
from perturbench.data.groups import Keys
from perturbench.data.splits import SplitRules, split_cells
from perturbench.preprocessing import prepare

KEYS = Keys()
METRICS = ["rmse_average", "rmse_rank_average", "cosine_logfc"]
#: A change of this much in log1p CP10k is a strong effect.
STRONG = 0.5


def screen(seed=0):
    """Return a prepared screen, its split, and the true effect of each held-out double, ``(n_pairs, n_genes)``."""
    raw = simulate(
        n_cells=6000,
        n_genes=100,
        n_states=2,
        n_singles=10,
        n_doubles=14,
        effect_size=1.5,
        effect_fraction=0.15,
        interaction_size=0.2,
        seed=seed,
    )
    rules = SplitRules(max_heldout_fraction_per_covariate=0.7)
    split = split_cells(raw.obs, KEYS, "combine", rules, seed)
    return prepare(raw, KEYS, n_top_genes=100, n_de_genes=0), split


def true_changes(cells, pairs):
    """Return what the simulated effects change in the controls' mean, log1p CP10k, ``(n_pairs, n_genes)``."""
    effects, interactions = cells.varm["effects"], cells.varm["interactions"]
    changes = []
    for (state,), double in pairs:
        own = (cells.obs["condition"] == "control") & (cells.obs["cell_type"] == state)
        control = np.expm1(cells.X[own.to_numpy()].toarray()).mean(axis=0)
        effect = effects[double.split("+")].sum(axis=1) + interactions[double]
        rate = control * np.exp(effect.to_numpy())
        changes.append(np.log1p(rate * control.sum() / rate.sum()) - np.log1p(control))
    return np.array(changes)


def train(target, hparams, datamodule, seed=0, **options):
    """Return the predicted cells of the test part."""
    from perturbench.training import build_model, fit, load_model, predict

    L.seed_everything(seed, verbose=False)
    model = build_model(target, datamodule.context, hparams)
    options = {"max_epochs": 150, "patience": 30, "accelerator": "cpu", "seed": seed} | options
    return predict(load_model(fit(model, datamodule, **options)), datamodule, accelerator="cpu")


def learn(models, seed=0, **options):
    """Return a table of scores, one row per model; ``models`` has targets and hyperparameters by name.

    ``similarity`` is the mean cosine between the effects predicted for different perturbations, 1 if collapsed;
    ``signs`` the share of strong true effects whose sign is predicted.
    """
    cells, split = screen(seed)
    datamodule = PerturbationDataModule(cells, split, KEYS, batch_size=256, seed=seed, max_control_cells=200)
    predictions = {name: train(*model, datamodule, seed, **options) for name, model in models.items()}
    observed = cells[datamodule.evaluation_rows("test")]
    table = evaluate(predictions, observed, metrics=METRICS, negative="clip").summary
    pairs = datamodule.pairs("test")
    truth = true_changes(cells, pairs)
    strong = np.abs(truth) >= STRONG
    reference = Reference(observed, KEYS)
    for name, predicted in predictions.items():
        collapse = collapse_diagnostics(reference, Prediction.from_adata(predicted, reference, name, "clip"))
        table.loc[name, "similarity"] = collapse.mean_similarity_predicted
        change = np.array([mean_of(predicted, pair) - mean_of(observed, (pair[0], "control")) for pair in pairs])
        table.loc[name, "signs"] = (np.sign(change) == np.sign(truth))[strong].mean()
    return table


def mean_of(cells, pair):
    (state,), condition = pair
    own = (cells.obs["condition"] == condition) & (cells.obs["cell_type"] == state)
    return np.asarray(cells.X[own.to_numpy()].mean(axis=0)).ravel()


def of_the_project(names=()):
    """Return target and default hyperparameters of the project's models that need no embeddings and no extra."""
    from kedro.framework.project import settings
    from kedro.framework.startup import bootstrap_project

    root = Path(__file__).parents[1]
    bootstrap_project(root)
    chosen = names or sorted(path.stem for path in (root / "conf/base/parameters/models").glob("*.yml"))
    models = {}
    for name in chosen:
        loader = settings.CONFIG_LOADER_CLASS(
            conf_source=str(root / "conf"), runtime_params={"model": name}, **settings.CONFIG_LOADER_ARGS
        )
        parameters = loader["parameters"]
        if names or not (parameters["hparams"].get("use_embeddings") or name == "gears"):
            models[name] = (parameters["model_target"], parameters["hparams"])
    return models


def main(names):
    pd.options.display.float_format = "{:.3f}".format
    table = learn(of_the_project(names))
    print(table.sort_values("rmse_average").to_string())


if __name__ == "__main__":
    main(sys.argv[1:])
