"""Speed of splits at the size of Jiang 2024, against a plain pandas baseline in the same run.

1,600,000 cells, 30 states, 220 perturbations. Run ``python benchmarks/splitting.py`` (all rows) or name some:
``python benchmarks/splitting.py transfer unseen``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from perturbench.data.groups import Groups, Keys
from perturbench.data.splits import SplitRules, check_split, read_split, split_cells, split_checks, split_summary

N_CELLS, N_LINES, N_TREATMENTS, N_PERTURBATIONS = 1_600_000, 6, 5, 220
KEYS = Keys(covariates=("cell_type", "treatment"))
LIMIT = 5.0


def timed(function, *arguments, **options):
    start = time.perf_counter()
    result = function(*arguments, **options)
    return time.perf_counter() - start, result


def screen():
    """Draw perturbation and state of every cell; one in ten is a control."""
    rng = np.random.default_rng(0)
    condition = rng.integers(1, N_PERTURBATIONS + 1, N_CELLS)
    condition[rng.random(N_CELLS) < 0.1] = 0
    columns = {
        "condition": (condition, ["control", *(f"P{i}" for i in range(N_PERTURBATIONS))]),
        "cell_type": (rng.integers(0, N_LINES, N_CELLS), [f"line{i}" for i in range(N_LINES)]),
        "treatment": (rng.integers(0, N_TREATMENTS, N_CELLS), [f"drug{i}" for i in range(N_TREATMENTS)]),
    }
    obs = {name: pd.Categorical.from_codes(codes, levels) for name, (codes, levels) in columns.items()}
    return pd.DataFrame(obs, index=[f"cell{i}" for i in range(N_CELLS)])


def per_pair(obs, n_pairs, work):
    """Time a loop that selects the cells of one (state, perturbation) pair after the other, scaled to all pairs."""
    pairs = obs.drop_duplicates(subset=["condition", "cell_type", "treatment"])
    few = pairs.sample(n_pairs, random_state=0)[["condition", "cell_type", "treatment"]]
    start = time.perf_counter()
    for condition, line, treatment in few.itertuples(index=False):
        work((obs["condition"] == condition) & (obs["cell_type"] == line) & (obs["treatment"] == treatment))
    return (time.perf_counter() - start) * len(pairs) / n_pairs


def rows(names):
    """Yield what was timed, its seconds and those of the baseline."""
    obs = screen()
    methods = {
        "transfer": SplitRules(),
        "manual": SplitRules(
            max_heldout_fraction_per_covariate=0.7,
            heldout_states=[{"cell_type": f"line{i}", "treatment": f"drug{j}"} for i in range(4) for j in range(3)],
        ),
        "unseen": SplitRules(),
    }
    split = split_cells(obs, KEYS, "transfer", SplitRules(), 0)
    groups = Groups.from_obs(obs, KEYS)
    labels = pd.Series("train", index=obs.index)

    def label(mask):
        labels[mask.to_numpy()] = "val"

    for name, rules in methods.items():
        if name in names or not names:
            seconds, _ = timed(split_cells, obs, KEYS, name, rules, 0)
            yield name, seconds, per_pair(obs, 40, label), "label pair after pair by a mask, 40 pairs scaled to all"
    if "csv" in names or not names:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "split.csv"
            split.to_csv(path)
            seconds, _ = timed(read_split, path, obs, KEYS)
            baseline, _ = timed(lambda: pd.read_csv(path, index_col=0).loc[obs.index])
        yield "csv", seconds, baseline, "pandas.read_csv and loc, unchecked"
    for name, function in (("check_split", check_split), ("split_checks", split_checks), ("summary", split_summary)):
        if name in names or not names:
            seconds, _ = timed(function, split, groups)
            baseline = per_pair(obs, 40, lambda mask: split[mask.to_numpy()].value_counts())
            yield name, seconds, baseline, "count the labels of pair after pair, 40 pairs scaled to all"


def main(names):
    print(f"{'work':14} {'seconds':>8} {'limit':>6} {'baseline':>9} {'ratio':>8}  baseline is")
    for name, seconds, baseline, note in rows(names):
        print(f"{name:14} {seconds:8.3f} {LIMIT:6.1f} {baseline:9.2f} {baseline / seconds:7.1f}x  {note}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
