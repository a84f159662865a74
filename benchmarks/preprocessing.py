"""Speed and memory of preprocessing, read from a file in blocks, each size in a process of its own.

Run ``python benchmarks/preprocessing.py`` (all sizes) or name some: ``python benchmarks/preprocessing.py main small``.
Memory is what a process needed at most beyond its libraries. The baseline is scanpy's own functions, with the matrix in
memory, on a sixth of the cells; the ratio is that of their seconds to ours on the same sixth, in the same run.
"""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.io import sparse_dataset, write_elem

N_STATES, N_PERTURBATIONS, DENSITY, ROWS, SHARE = 3, 100, 0.05, 4096, 6
SIZES = {
    "main": (180_000, 20_000),
    "small": (75_000, 15_000),
    "medium": (150_000, 15_000),
    "large": (300_000, 15_000),
}
#: Seconds, and GiB or (for the first) multiples of the matrix.
LIMITS = {"main": (240, "1.6 x"), "small": (240, "8 GiB"), "medium": (240, "8 GiB"), "large": (240, "8 GiB")}


def annotations(n_cells):
    """Draw state and perturbation of every cell; one in ten is a control."""
    rng = np.random.default_rng(0)
    condition = rng.integers(1, N_PERTURBATIONS + 1, n_cells)
    condition[rng.random(n_cells) < 0.1] = 0
    columns = {
        "condition": (condition, ["control", *(f"P{i}" for i in range(N_PERTURBATIONS))]),
        "cell_type": (rng.integers(0, N_STATES, n_cells), [f"line{i}" for i in range(N_STATES)]),
    }
    obs = {name: pd.Categorical.from_codes(codes, levels) for name, (codes, levels) in columns.items()}
    return pd.DataFrame(obs, index=[f"cell{i}" for i in range(n_cells)])


def block(rng, chances, means, codes):
    """Draw counts of cells; ``chances`` that a gene is seen and ``means`` beyond 1 of those seen, per group."""
    seen = sp.csr_matrix(rng.random((len(codes), chances.shape[1]), dtype=np.float32) < chances[codes])
    counts = 1 + rng.poisson(means[seen.indices])
    return sp.csr_matrix((counts.astype(np.float32), seen.indices, seen.indptr), shape=seen.shape)


def write(path, n_cells, n_genes):
    """Write random counts whose genes differ in how often they are seen, and respond to few perturbations."""
    rng = np.random.default_rng(1)
    obs = annotations(n_cells)
    usual = rng.lognormal(sigma=1, size=n_genes)
    chances = np.tile(usual, (N_PERTURBATIONS + 1, 1))
    responsive = rng.choice(n_genes, n_genes // 10, replace=False)
    for row in chances[1:]:
        row[rng.choice(responsive, 50)] *= 3
    chances = np.minimum(chances * DENSITY / usual.mean(), 0.9).astype(np.float32)
    codes, means = obs["condition"].cat.codes.to_numpy(), rng.gamma(0.5, size=n_genes)
    var = pd.DataFrame(index=[f"G{i}" for i in range(n_genes)])
    first = block(rng, chances, means, codes[:ROWS])
    ad.AnnData(first, obs=obs[:ROWS], var=var).write_h5ad(path, compression="gzip")
    with h5py.File(path, "r+") as file:
        matrix = sparse_dataset(file["X"])
        for start in range(ROWS, n_cells, ROWS):
            matrix.append(block(rng, chances, means, codes[start : start + ROWS]))
        write_elem(file, "obs", obs)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measured(work, few, path):
    """Run ``work`` on the file, after a first time on a few cells: imports and compilation are not counted."""
    work(few)
    before, start, start_cpu = peak(), time.perf_counter(), cpu_seconds()
    facts = work(path)
    facts |= {"seconds": time.perf_counter() - start, "cpu": cpu_seconds() - start_cpu, "peak": peak() - before}
    print(json.dumps(facts))


def ours(path):
    """Do what the pipeline does: load backed, prepare, save compressed."""
    from perturbench.data import Keys
    from perturbench.datasets import AnnDataDataset
    from perturbench.preprocessing import prepare

    curated = AnnDataDataset(filepath=str(path), load_args={"backed": "r"}).load()
    prepared = prepare(curated, Keys())
    start = time.perf_counter()
    AnnDataDataset(filepath=str(path.with_name("prepared.h5ad"))).save(prepared)
    saving = time.perf_counter() - start
    values = curated.X.group["data"].shape[0]
    return {"matrix": values * 8 / 2**30, "saving": saving, "genes": prepared.n_vars}


def scanpys(path):
    """Select the same genes with scanpy's functions, in memory."""
    import scanpy as sc

    adata = ad.read_h5ad(path)
    sc.pp.filter_genes(adata, min_cells=10)
    sc.pp.highly_variable_genes(
        adata, flavor="seurat_v3", n_top_genes=min(4000, adata.n_vars // 2), batch_key="cell_type"
    )
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=10_000)
    sc.pp.log1p(adata)
    kept = set(adata.var_names[adata.var["highly_variable"]])
    for _, cells in adata.obs.groupby("cell_type", observed=True):
        state = adata[cells.index].copy()
        sc.tl.rank_genes_groups(state, "condition", reference="control", rankby_abs=True, n_genes=25)
        names = state.uns["rank_genes_groups"]["names"]
        kept |= {gene for group in names.dtype.names for gene in names[group]}
    chosen = adata[:, adata.var_names.isin(kept)].copy()
    chosen.write_h5ad(path.with_name("scanpys.h5ad"), compression="gzip")
    return {"genes": chosen.n_vars}


def child(*arguments):
    command = [sys.executable, "-W", "ignore", __file__, "--child", *map(str, arguments)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout or "{}")


def row(name):
    """Return what all cells take us, and what a sixth of them takes us and scanpy."""
    n_cells, n_genes = SIZES[name]
    with tempfile.TemporaryDirectory() as folder:
        few, share, path = (Path(folder) / f"{size}.h5ad" for size in ("few", "share", "all"))
        child("write", few, 5000, 500)
        child("write", share, n_cells // SHARE, n_genes)
        both = [child(which, few, share) for which in ("ours", "scanpys")]
        share.unlink()
        child("write", path, n_cells, n_genes)
        return child("ours", few, path), *both


def main(names):
    titles = ("seconds", "CPU", "limit", "a sixth", "baseline", "ratio", "peak GiB", "matrix", "multiple", "limit")
    print(f"{'size':7}" + "".join(f"{title:>9}" for title in titles))
    memory = {}
    for name in names or SIZES:
        whole, ours_of_share, baseline = row(name)
        n_cells, n_genes = SIZES[name]
        memory[n_cells, n_genes] = whole["peak"]
        limit, most = LIMITS[name]
        print(
            f"{name:7}{whole['seconds']:9.1f}{whole['cpu']:9.1f}{limit:9}{ours_of_share['seconds']:9.1f}"
            f"{baseline['seconds']:9.1f}{baseline['seconds'] / ours_of_share['seconds']:8.1f}x{whole['peak']:9.2f}"
            f"{whole['matrix']:9.2f}{whole['peak'] / whole['matrix']:9.2f}{most:>9}  {n_cells:,} x {n_genes:,}, "
            f"{whole['genes']} genes kept, saving took {whole['saving']:.1f} s; of a sixth, "
            f"CPU {ours_of_share['cpu']:.1f} against {baseline['cpu']:.1f} s, peak {ours_of_share['peak']:.2f} against "
            f"{baseline['peak']:.2f} GiB",
            flush=True,
        )
    grown = sorted((n_cells, gib) for (n_cells, n_genes), gib in memory.items() if n_genes == SIZES["large"][1])
    for (fewer, less), (more, gib) in itertools.pairwise(grown):
        print(f"{fewer:,} to {more:,} cells: {(gib - less) / (more - fewer) * 1e5:.2f} GiB more per 100,000 cells")


if __name__ == "__main__":
    if sys.argv[1:2] != ["--child"]:
        main(sys.argv[1:])
    elif sys.argv[2] == "write":
        write(Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    else:
        measured({"ours": ours, "scanpys": scanpys}[sys.argv[2]], Path(sys.argv[3]), Path(sys.argv[4]))
