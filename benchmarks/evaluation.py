"""Speed and memory of the evaluation, each against a plain baseline in the same run.

Run ``python benchmarks/evaluation.py`` (all rows) or name some: ``python benchmarks/evaluation.py rank means``.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp


def timed(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def peak_gib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def rank():
    """Pairwise matrix and rank of one metric, 236 perturbations x 5,000 genes."""
    from perturbench.analysis.metrics.ranks import merge_nearly_equal_rows, rank_of_matches
    from perturbench.analysis.metrics.registry import find_comparison

    rng = np.random.default_rng(0)
    observed = rng.normal(size=(236, 5000))
    predicted = observed + rng.normal(size=observed.shape)
    rmse = find_comparison("rmse")

    def ours():
        return rank_of_matches(rmse.matrix(observed, merge_nearly_equal_rows(predicted)), "lower")

    def plain(n=40):
        a, b = pd.DataFrame(predicted[:n]), pd.DataFrame(observed[:n])
        for i in a.index:
            for j in b.index:
                np.sqrt(np.mean(np.square(a.loc[i] - b.loc[j])))

    ours()
    seconds, _ = timed(ours)
    baseline, _ = timed(plain)
    return seconds, baseline * (236 / 40) ** 2, "per-pair pandas loop, 40 of 236 squared up"


def large_rank():
    """Pairwise matrix and rank, 525 perturbations x 15 states x 16,000 genes."""
    from perturbench.analysis.metrics.ranks import merge_nearly_equal_rows, rank_of_matches
    from perturbench.analysis.metrics.registry import find_comparison

    rmse, total = find_comparison("rmse"), 0.0
    for state in range(15):
        observed = np.random.default_rng(state).normal(size=(525, 16000))
        predicted = observed[::-1].copy()
        seconds, _ = timed(
            lambda a=observed, b=predicted: rank_of_matches(rmse.matrix(a, merge_nearly_equal_rows(b)), "lower")
        )
        total += seconds
    from scipy.spatial.distance import cdist

    baseline, _ = timed(cdist, predicted, observed)
    return total, 15 * baseline, f"scipy cdist, one state x 15; peak memory {peak_gib():.1f} GiB"


def csr(n_cells, n_genes, density, seed=0):
    rng = np.random.default_rng(seed)
    per_cell = int(n_genes * density)
    indices = np.sort(rng.integers(0, n_genes, (n_cells, per_cell), dtype=np.int32), axis=1).ravel()
    indptr = np.arange(n_cells + 1, dtype=np.int64) * per_cell
    values = rng.random(n_cells * per_cell, dtype=np.float32)
    return sp.csr_matrix((values, indices, indptr), shape=(n_cells, n_genes))


def means():
    """Group means of 90,000 x 5,000 CSR at 10% density, 236 groups."""
    import anndata as ad
    import scanpy as sc

    from perturbench.data.group_sums import group_means

    x = csr(90_000, 5_000, 0.1)
    codes = np.random.default_rng(0).integers(0, 236, x.shape[0])
    adata = ad.AnnData(x, obs=pd.DataFrame({"g": pd.Categorical(codes)}, index=np.arange(len(codes)).astype(str)))
    before = peak_gib()
    seconds, _ = timed(group_means, adata, codes, 236)
    more = peak_gib() - before
    baseline, _ = timed(lambda: sc.get.aggregate(adata, "g", "mean"))
    size = (x.data.nbytes + x.indices.nbytes) / 2**30
    return seconds, baseline, f"scanpy.get.aggregate; {more:.2f} GiB more than the matrix of {size:.2f}"


def test_loop():
    """Test loop of linear additive, 478 groups x 670 controls x 4,000 genes."""
    import anndata as ad
    import lightning as L
    import torch

    from perturbench.data import Keys, PerturbationDataModule
    from perturbench.models import LinearAdditive

    n_controls, n_groups, n_genes = 670, 478, 4000
    n_cells = n_controls + 3 * n_groups + 20
    names = [f"P{i}" for i in range(n_groups)]
    condition = ["control"] * (n_controls + 20) + names * 3
    part = ["test"] * n_controls + ["train"] * 10 + ["val"] * 10 + ["train"] * n_groups * 2 + ["test"] * n_groups
    part[-n_groups] = "val"
    obs = pd.DataFrame({"condition": condition}, index=np.arange(n_cells).astype(str))
    adata = ad.AnnData(csr(n_cells, n_genes, 0.1), obs=obs)
    split = pd.Series(part, obs.index)
    module = PerturbationDataModule(adata, split, Keys(covariates=()), batch_size=2048, prediction_controls="part")
    model = LinearAdditive(module.context).eval()
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, inference_mode=True
    )
    seconds, _ = timed(lambda: trainer.test(model, module, verbose=False))

    @torch.no_grad()
    def plain(n=20):
        controls = torch.from_numpy(adata.X[:n_controls].toarray())
        frames = []
        for row in range(n):
            hot = torch.zeros(n_controls, n_groups)
            hot[:, row] = 1
            predicted = torch.nn.functional.softplus(controls + model.effect(hot))
            frames.append(pd.DataFrame(predicted.numpy()).mean())
        return frames

    baseline, _ = timed(plain)
    note = f"a loop over groups with pandas means, 20 x 23.9; peak memory {peak_gib():.1f} GiB"
    return seconds, baseline * n_groups / 20, note


def screen():
    """Simulate 11,000 cells x 2,000 genes x 100 perturbations, observed and predicted."""
    import anndata as ad

    rng = np.random.default_rng(0)
    codes = rng.integers(0, 110, 11_000)
    codes[codes > 100] = 0
    effects = rng.normal(0, 0.3, (101, 2000)) * (rng.random((101, 2000)) < 0.05)
    effects[0] = 0
    counts = rng.poisson(np.exp(rng.normal(-1, 1, 2000) + effects[codes])).astype(np.float32)
    x = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    names = np.array(["control", *(f"P{i}" for i in range(100))])
    obs = pd.DataFrame({"condition": pd.Categorical(names[codes]), "cell_type": "a"}, np.arange(11_000).astype(str))
    observed = ad.AnnData(sp.csr_matrix(x), obs=obs)
    predicted = ad.AnnData(np.abs(x + rng.normal(0, 0.1, x.shape)).astype(np.float32), obs=obs)[codes > 0].copy()
    return observed, predicted


def scanpy_seconds(observed):
    """Time scanpy's rank-sum test of 2 of the 100 perturbations, times 50; its compilation is not counted."""
    import scanpy as sc

    few = observed[observed.obs["condition"].isin(["control", "P0", "P1"])].copy()
    few.obs["condition"] = few.obs["condition"].cat.remove_unused_categories()
    few.uns["log1p"] = {"base": None}

    def test():
        sc.tl.rank_genes_groups(few, "condition", reference="control", method="wilcoxon", tie_correct=True)

    test()
    return 50 * timed(test)[0]


def rank_sum():
    """Rank-sum test of 100 perturbations x 2,000 genes, 11,000 cells."""
    from perturbench.analysis.metrics.rank_sum import rank_sum as ours
    from perturbench.analysis.profiles import Reference
    from perturbench.data.groups import Keys

    observed, _ = screen()
    ours(Reference(observed[:2000].copy(), Keys()), Reference(observed[:2000].copy(), Keys()))  # imports
    reference = Reference(observed, Keys())
    seconds, _ = timed(ours, reference, reference)
    note = "scanpy, 2 of 100 perturbations x 50"
    try:
        from pdex import pdex
    except ImportError:
        note += "; pdex is not installed"
    else:
        pdex(observed[:2000].copy(), "condition", is_log1p=True, reference="control")  # compiles
        note += f"; pdex {timed(lambda: pdex(observed, 'condition', is_log1p=True, reference='control'))[0]:.2f} s"
    return seconds, scanpy_seconds(observed), note


def profile(name):
    """Profile ``{name}`` on 11,000 cells x 2,000 genes x 100 perturbations, whole process."""
    observed, predicted = screen()
    with tempfile.TemporaryDirectory() as folder:
        observed.write_h5ad(Path(folder) / "observed.h5ad")
        predicted.write_h5ad(Path(folder) / "predicted.h5ad")
        files = ["--predictions", f"{folder}/predicted.h5ad", "--reference", f"{folder}/observed.h5ad"]
        command = [sys.executable, "-m", "perturbench", "evaluate", *files, "--metrics", name]
        seconds, _ = timed(lambda: subprocess.run(command, check=True, capture_output=True))
    return (
        seconds,
        2 * scanpy_seconds(observed),
        "scanpy's rank-sum alone on both sides, 2 of 100 perturbations x 50 x 2",
    )


ROWS = {
    "rank": rank,
    "large_rank": large_rank,
    "means": means,
    "test_loop": test_loop,
    "rank_sum": rank_sum,
    "profile_all": lambda: profile("all"),
    "profile_paper": lambda: profile("paper"),
}
LIMITS = {
    "rank": 0.1,
    "large_rank": 30,
    "means": 1,
    "test_loop": 10,
    "rank_sum": 2,
    "profile_all": 15,
    "profile_paper": 6,
}


def main(names):
    print(f"{'work':14} {'seconds':>8} {'limit':>6} {'baseline':>9} {'ratio':>8}  baseline is")
    for name in names or ROWS:
        seconds, baseline, note = ROWS[name]()
        ratio = baseline / seconds
        print(f"{name:14} {seconds:8.3f} {LIMITS[name]:6.1f} {baseline:9.2f} {ratio:7.1f}x  {note}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1:])
    else:  # a process each, so that peaks of memory are their own
        for number, row in enumerate(ROWS):
            lines = subprocess.run([sys.executable, __file__, row], capture_output=True, text=True, check=True).stdout
            print("".join(lines.splitlines(keepends=True)[number > 0 :]), end="", flush=True)
