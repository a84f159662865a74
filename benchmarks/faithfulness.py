"""Our trainings beside those of the published code, on the same cells, split, hyperparameters and number of seeds.

Run ``python benchmarks/faithfulness.py`` (six minutes on one core), or name configurations: ``python
benchmarks/faithfulness.py norman19_devel/cpa mcfaline23_devel/cpa``. Hyperparameters that follow as ``name=value``,
and ``train_on_controls=true`` and ``seeds=8``, replace those of the configurations. The configurations, the splits
and the published code's scores lie in the shared folder ``oracle/training``; our preprocessing log-normalises the
cells. As there, the best epoch is that with the lowest validation loss, predictions start from the control cells of
the evaluated part, and scores are of the validation and test pairs together.

``worse`` is how much worse ours is than the published code, in standard deviations over seeds (the root mean square of
both standard deviations); below 0, ours is better.
"""

from __future__ import annotations

import json
import os
import sys
from functools import cache
from pathlib import Path

import anndata as ad
import lightning as L
import numpy as np
import pandas as pd
import torch
import yaml

from perturbench.analysis import evaluate
from perturbench.data import PerturbationDataModule
from perturbench.data.groups import Keys
from perturbench.data.labels import evaluation_rows
from perturbench.preprocessing import prepare
from perturbench.training import build_model, fit, load_model, predict

SHARED = Path(os.environ.get("PERTURBENCH_SHARED", "../shared"))
KEYS = Keys()
METRICS = ["rmse_average", "cosine_logfc", "rmse_rank_average", "cosine_rank_logfc"]
#: Metrics of which a larger value is better.
SIMILARITIES = {"cosine_logfc"}
#: Where each model of a configuration lies.
TARGETS = {
    "linear_additive": "perturbench.models.linear_additive.LinearAdditive",
    "latent_additive": "perturbench.models.latent_additive.LatentAdditive",
    "decoder_only": "perturbench.models.decoder_only.DecoderOnly",
    "cpa": "perturbench.models.cpa.CPA",
    "sams_vae": "perturbench.models.sams_vae.SAMSVAE",
    "biolord": "perturbench.models.biolord.BioLord",
}


def configurations() -> dict[str, dict]:
    """Return model, hyperparameters and epochs of each configuration with published scores, by ``data/name``."""
    found = json.loads((SHARED / "oracle/training/hyperparameters.json").read_text())
    scored = {f"{row.data}/{row.model}" for row in published().itertuples()}
    every = {f"{data}/{name}": one for data, models in found.items() for name, one in models.items()}
    return {name: one for name, one in every.items() if name in scored}


@cache
def published() -> pd.DataFrame:
    """Return mean and standard deviation over seeds of what the published code reaches."""
    return pd.read_csv(SHARED / "oracle/training/published_code.csv")


@cache
def cells(data: str) -> tuple[ad.AnnData, pd.Series]:
    """Return log-normalised cells with 30 principal components in ``obsm``, and their split."""
    prepared = prepare(ad.read_h5ad(SHARED / f"data/{data}.h5ad"), KEYS)
    x = prepared.X.toarray().astype(np.float64)
    x -= x.mean(axis=0)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    prepared.obsm["X_pca"] = (u[:, :30] * s[:30]).astype(np.float32)
    path = SHARED / f"oracle/training/{data}_split.csv"
    return prepared, pd.read_csv(path, header=None, index_col=0)[1]


def as_published(one: dict) -> dict:
    """Return the hyperparameters of a configuration with the meaning that they have in the published code."""
    hparams = dict(one["hyperparameters"])
    if "n_warmup_epochs" in hparams:
        # The published code warms up one epoch longer, and begins to count batches anew in each epoch.
        hparams |= {"n_warmup_epochs": hparams["n_warmup_epochs"] + 1}
    if one["model"] == "cpa":
        hparams |= {"restart_adv_steps": True, "adversary_in_val_loss": True}
    # In the published code, control cells are no examples of the models that need matched control cells.
    return hparams | {"train_on_controls": one["model"] in ("cpa", "sams_vae", "biolord")}


def scores(data: str, one: dict, seed: int, changes: dict, max_epochs: int | None = None) -> pd.Series:
    """Train one configuration with one seed, and return its mean scores over the validation and test pairs."""
    prepared, split = cells(data)
    hparams = as_published(one) | changes
    train_on_controls = hparams.pop("train_on_controls")
    embedding = "X_pca" if hparams.get("use_embeddings") else None
    datamodule = PerturbationDataModule(
        prepared,
        split,
        KEYS,
        batch_size=256,
        seed=seed,
        train_on_controls=train_on_controls,
        prediction_controls="part",
        max_control_cells=1000,
        embedding_key=embedding,
    )
    L.seed_everything(seed, verbose=False)
    model = build_model(TARGETS[one["model"]], datamodule.context, hparams)
    epochs = max_epochs or one["epochs"]
    best = fit(model, datamodule, max_epochs=epochs, patience=epochs, accelerator="cpu", seed=seed)
    trained = load_model(best)
    parts = ("val", "test")
    predicted = ad.concat(
        {part: predict(trained, datamodule, part, accelerator="cpu") for part in parts}, index_unique="-"
    )
    rows = np.unique(
        np.concatenate([evaluation_rows(datamodule._labels, datamodule.groups, part, "all") for part in parts])
    )
    observed = prepared[rows]
    return evaluate({"model": predicted}, observed, metrics=METRICS, negative="clip").summary.loc["model", METRICS]


def compare(
    name: str, changes: dict | None = None, seeds: int | None = None, max_epochs: int | None = None
) -> pd.DataFrame:
    """Return one row per metric of a configuration: ours, the published, and how much worse ours is.

    ``seeds`` and ``max_epochs`` are those of the published code unless given.
    """
    one, data = configurations()[name], name.split("/")[0]
    [row] = [row for row in published().to_dict("records") if f"{row['data']}/{row['model']}" == name]
    runs = pd.DataFrame([scores(data, one, seed, changes or {}, max_epochs) for seed in range(seeds or row["seeds"])])
    table = pd.DataFrame({"ours": runs.mean().round(4), "sd": runs.std().round(4)})
    table["published"] = [row[f"{metric}_mean"] for metric in METRICS]
    table["published sd"] = [row[f"{metric}_std"] for metric in METRICS]
    sign = np.array([-1 if metric in SIMILARITIES else 1 for metric in METRICS])
    spread = np.sqrt((table["sd"] ** 2 + table["published sd"] ** 2) / 2)
    # A difference of 0 is none, also where all seeds agree.
    table["worse"] = (sign * (table["ours"] - table["published"]) / spread).fillna(0.0)
    return table


def line(name: str, table: pd.DataFrame) -> str:
    """Return the scores of a configuration as one line: ours, the published, and how much worse ours is."""
    cells = [
        f"{row.ours:.3f}±{row.sd:.3f} {row.published:.3f}±{row._4:.3f} {row.worse:+5.1f}" for row in table.itertuples()
    ]
    return "  ".join([f"{name:<34}", *cells])


def main(arguments: list[str]) -> None:
    changes = {key: yaml.safe_load(value) for key, _, value in (a.partition("=") for a in arguments if "=" in a)}
    seeds = changes.pop("seeds", None)
    names = [argument for argument in arguments if "=" not in argument] or list(configurations())
    torch.set_num_threads(1)
    print("  ".join(["configuration".ljust(34), *(metric.ljust(29) for metric in METRICS)]))
    print("  ".join([" " * 34, *(["ours        published   worse"] * len(METRICS))]))
    for name in names:
        print(line(name, compare(name, changes, seeds)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
