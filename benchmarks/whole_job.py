"""CPU seconds and peak memory of a whole job, next to a plain torch loop on the same data in the same run.

The job is ``kedro run --pipelines=modeling,evaluation`` on prepared cells: start, read, train, predict, score. It runs
with few and with more epochs, which separates the fixed cost from that of an epoch. The torch loop trains the same
network with the same batches per epoch, predicts the same cells, writes them, and scores their means; it imports torch,
anndata and nothing else. All processes have one thread. The database of MLflow exists before the first job::

    python benchmarks/whole_job.py
    python benchmarks/whole_job.py --cells 100000 --genes 5000 --epochs 1 3 --repeats 1
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from typing import NamedTuple

import numpy as np
import yaml
from startup import copied

MODEL = "latent_additive"
#: Most CPU seconds of the fixed part of our job and most MiB of memory, for 20,000 x 2,000 on a current server.
LIMITS = {"tracking off": (12.0, 1331.0), "tracking on": (16.0, 1331.0)}
PREPARED, SPLIT = "data/03_primary/simulated/prepared.h5ad", "data/05_model_input/simulated/split.parquet"


class Cost(NamedTuple):
    """CPU seconds of a process and its children, and its peak memory in MiB."""

    cpu: float
    memory: float


def cost_of(arguments, folder, variables):
    """Run a command; return its cost."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", **variables}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(arguments)} failed:\n{output.read().decode()}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def kedro(folder, pipelines, parameters="", tracking="off"):
    """Run pipelines on the simulated cells; return the cost."""
    params = f"task=simulated,model={MODEL}{parameters}"
    variables = {"PYTHONPATH": str(folder / "src"), "PERTURBENCH_TRACKING": tracking}
    arguments = ["-m", "kedro", "run", f"--pipelines={pipelines}", f"--params={params}"]
    return cost_of([sys.executable, *arguments], folder, variables)


def job(folder, epochs, tracking):
    """Train, predict and score with so many epochs; return the cost."""
    for path in ("data/06_models", "data/07_model_output", "data/08_reporting/simulated/scores"):
        subprocess.run(["rm", "-rf", str(folder / path)], check=True)
    parameters = f",trainer.max_epochs={epochs},trainer.min_epochs={epochs}"
    return kedro(folder, "modeling,evaluation", parameters, tracking)


def plain(folder, epochs):
    """Run the torch loop of this file in a new process; return the cost."""
    return cost_of([sys.executable, __file__, "--plain", str(epochs)], folder, {})


def torch_loop(epochs):
    """Train the network of ``latent_additive``, predict the test pairs, write the cells, and score their means."""
    import anndata as ad
    import pandas as pd
    import torch
    from torch import nn

    adata = ad.read_h5ad(PREPARED)
    part = pd.read_parquet(SPLIT)["split"].reindex(adata.obs_names).to_numpy()
    x, condition, state = adata.X.tocsr(), adata.obs["condition"].to_numpy(), adata.obs["cell_type"].to_numpy()
    names = sorted({single for name in set(condition) - {"control"} for single in name.split("+")})
    encoded = {name: np.isin(names, name.split("+")).astype(np.float32) for name in set(condition)}
    controls = {name: np.flatnonzero((condition == "control") & (state == name)) for name in set(state)}
    rng = np.random.default_rng(0)

    def mlp(n_input, n_output):
        layers = [nn.Linear(n_input, 128)]
        for _ in range(2):
            layers += [nn.Linear(128, 128), nn.LayerNorm(128, elementwise_affine=False), nn.ReLU(), nn.Dropout(0.1)]
        return nn.Sequential(*layers, nn.Linear(128, n_output))

    torch.manual_seed(0)
    cells, perturbations, decoder = mlp(adata.n_vars, 32), mlp(len(names), 32), mlp(32, adata.n_vars)
    network = nn.ModuleList([cells, perturbations, decoder])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-8, fused=True)

    def dense(rows):
        return torch.from_numpy(x[rows].toarray())

    def predict(control_rows, conditions):
        multi_hot = torch.from_numpy(np.stack([encoded[name] for name in conditions]))
        return nn.functional.softplus(decoder(cells(dense(control_rows)) + perturbations(multi_hot)))

    def loss(rows):
        matched = np.array([rng.choice(controls[state[row]]) for row in rows])
        return nn.functional.mse_loss(predict(matched, condition[rows]), dense(rows))

    train, val = np.flatnonzero(part == "train"), np.flatnonzero(part == "val")
    for _ in range(epochs):
        network.train()
        for rows in np.split(rng.permutation(train), range(256, len(train), 256)):
            optimizer.zero_grad()
            loss(rows).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            losses = [loss(rows).item() for rows in np.split(val, range(256, len(val), 256))]
    assert np.isfinite(losses).all()
    tested = (part == "test") & (condition != "control")
    pairs = sorted(set(zip(state[tested], condition[tested], strict=True)))
    # As many control cells per state as prediction.max_control_cells.
    starts = [controls[name][:1000] for name, _ in pairs]
    rows, of_pair = np.concatenate(starts), np.repeat(np.arange(len(pairs)), [len(some) for some in starts])
    predicted = np.empty((len(rows), adata.n_vars), np.float32)
    with torch.no_grad():
        for here in np.split(np.arange(len(rows)), range(256, len(rows), 256)):
            predicted[here] = predict(rows[here], [pairs[pair][1] for pair in of_pair[here]]).numpy()
    labels = pd.DataFrame([pairs[pair] for pair in of_pair], columns=["cell_type", "condition"]).astype("category")
    labels.index = [f"cell{number}" for number in range(len(labels))]
    ad.AnnData(predicted, obs=labels, var=adata.var[[]]).write_h5ad("plain.h5ad")
    scores = []
    for pair, (name, perturbation) in enumerate(pairs):
        control = x[controls[name]].mean(axis=0).A1
        observed = x[(state == name) & (condition == perturbation)].mean(axis=0).A1
        mean = predicted[of_pair == pair].mean(axis=0)
        one, other = mean - control, observed - control
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        scores.append([np.sqrt(np.mean((mean - observed) ** 2)), cosine])
    print(np.mean(scores, axis=0))


def measure(folder, few, many, repeats):
    """Return the least cost of each kind of job, with few and with many epochs."""
    kinds = {
        "torch loop": lambda epochs: plain(folder, epochs),
        "tracking off": lambda epochs: job(folder, epochs, "off"),
        "tracking on": lambda epochs: job(folder, epochs, "on"),
    }
    # They take turns, so that other work on the machine slows all of them.
    turns = [{kind: (run(few), run(many)) for kind, run in kinds.items()} for _ in range(repeats)]
    return {
        kind: tuple(Cost(*map(min, zip(*(turn[kind][part] for turn in turns), strict=True))) for part in (0, 1))
        for kind in kinds
    }


def table(costs, few, many):
    """Print the fixed cost, that of an epoch and the peak memory of each kind of job; return fixed cost and memory."""
    print(f"{'':14}{'fixed CPU s':>14}{'CPU s / epoch':>16}{'peak MiB':>12}{'fixed, ratio':>14}{'epoch, ratio':>14}")
    rows = {}
    for kind, (low, high) in costs.items():
        epoch = (high.cpu - low.cpu) / (many - few)
        rows[kind] = (low.cpu - few * epoch, epoch, max(low.memory, high.memory))
        ratios = [ours / plain for ours, plain in zip(rows[kind][:2], rows["torch loop"][:2], strict=True)]
        print(f"{kind:14}{rows[kind][0]:14.1f}{epoch:16.2f}{rows[kind][2]:12.0f}{ratios[0]:14.1f}{ratios[1]:14.1f}")
    return {kind: (fixed, memory) for kind, (fixed, _, memory) in rows.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--epochs", type=int, nargs=2, default=[1, 5], metavar=("FEW", "MANY"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plain", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain is not None:
        torch_loop(options.plain)
        return
    with copied() as folder:
        size = {"n_cells": options.cells, "n_genes": options.genes, "n_singles": 24, "n_doubles": 12, "mean_depth": 400}
        local = {"tasks": {"simulated": {"data": {"source": {"simulation": size}}}}}
        (folder / "conf/local/parameters.yml").write_text(yaml.safe_dump(local))
        kedro(folder, "ingestion,splitting,preprocessing")
        job(folder, 1, "on")  # MLflow creates its database
        rows = table(measure(folder, *options.epochs, options.repeats), *options.epochs)
    if (options.cells, options.genes) == (20_000, 2_000):
        over = [kind for kind, limits in LIMITS.items() if any(map(float.__gt__, rows[kind], limits))]
        if over:
            sys.exit(f"over the limit: {', '.join(f'{kind} {LIMITS[kind]} (CPU s, MiB)' for kind in over)}")


if __name__ == "__main__":
    main()
