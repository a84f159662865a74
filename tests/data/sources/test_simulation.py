import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from perturbench.data import simulate
from perturbench.data.curation import Layout, curate_file, standardise
from perturbench.data.groups import Keys
from perturbench.errors import PerturbenchError

SMALL = {"n_cells": 400, "n_genes": 30, "n_states": 2, "n_singles": 4, "n_doubles": 2}


def test_size():
    adata = simulate(**SMALL)
    assert adata.shape == (400, 30)
    names = set(adata.obs["condition"])
    assert sorted(name for name in names if "+" not in name and name != "control") == ["P1", "P2", "P3", "P4"]
    assert sum("+" in name for name in names) == 2
    assert set(adata.obs["cell_type"]) == {"state1", "state2"}
    assert adata.varm["effects"].shape == (30, 4)
    assert adata.varm["interactions"].shape == (30, 2)


def test_counts_are_standard():
    adata = simulate(**SMALL)
    assert sp.isspmatrix_csr(adata.X)
    assert adata.X.dtype == np.float32
    result = standardise(adata, Keys())
    assert list(result.obs["condition"]) == list(adata.obs["condition"])


def test_every_perturbation_has_three_cells_in_every_state():
    adata = simulate(n_cells=42, n_genes=5, n_states=2, n_singles=4, n_doubles=2)
    assert (adata.obs.groupby(["condition", "cell_type"], observed=False).size() == 3).all()


def test_control_fraction():
    adata = simulate(**SMALL | {"n_cells": 4000}, control_fraction=0.4)
    assert (adata.obs["condition"] == "control").mean() == pytest.approx(0.4, abs=0.03)


def test_mean_depth_scales_the_counts():
    shallow, deep = (np.asarray(simulate(**SMALL, mean_depth=depth).X.sum(axis=1)).mean() for depth in (300.0, 3000.0))
    assert deep / shallow == pytest.approx(10, rel=0.05)
    assert deep == pytest.approx(3000, rel=0.1)


def test_dispersion_is_the_variance_beyond_poisson():
    flat = {"n_genes": 20, "effect_size": 0.0, "interaction_size": 0.0, "n_states": 1}
    for dispersion in (0.0, 0.5):
        adata = simulate(**SMALL | flat | {"n_cells": 6000}, dispersion=dispersion, mean_depth=2000.0)
        x = adata.X.toarray()
        share = x / x.sum(axis=1, keepdims=True)
        strong = x.mean(axis=0) > 20
        spread = (share.std(axis=0) / share.mean(axis=0))[strong]
        assert strong.any()
        assert np.median(spread) == pytest.approx({0.0: 0.15, 0.5: 0.68}[dispersion], abs=0.12)


def test_dropout_loses_weak_genes_more_often():
    sizes = SMALL | {"n_cells": 3000, "n_states": 1, "effect_size": 0.0, "interaction_size": 0.0}
    whole, lossy = simulate(**sizes), simulate(**sizes, dropout_midpoint=20.0)
    mean = np.asarray(whole.X.mean(axis=0)).ravel()
    kept = np.asarray(lossy.X.mean(axis=0)).ravel() / mean
    assert kept == pytest.approx(mean / (mean + 20.0), abs=0.08)
    assert (lossy.X.data > 0).all()


def test_blocks_do_not_change_the_screen(monkeypatch):
    whole = simulate(**SMALL)
    monkeypatch.setattr("perturbench.data.sources.simulation._BLOCK_VALUES", 30 * 7)
    parts = simulate(**SMALL)
    assert (whole.X != parts.X).nnz == 0


def test_memory_is_that_of_the_counts_and_a_block(monkeypatch):
    monkeypatch.setattr("perturbench.data.sources.simulation._BLOCK_VALUES", 2**19)
    sizes = {"n_cells": 1000, "n_genes": 20_000, "n_states": 2, "n_singles": 6, "n_doubles": 2, "mean_depth": 300.0}
    tracemalloc.start()
    adata = simulate(**sizes, dispersion=0.1, dropout_midpoint=0.01)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    sparse, dense = adata.X.nnz * 8, 1000 * 20_000 * 8
    assert peak < 2 * sparse + 6 * 2**22 + 5 * 9 * 20_000 * 8 < dense / 2


def test_effects_survive_the_file(tmp_path):
    adata = simulate(**SMALL)
    adata.write_h5ad(tmp_path / "screen.h5ad")
    curated = curate_file(tmp_path / "screen.h5ad", [Layout("own")], Keys())
    assert curated.varm["effects"].equals(adata.varm["effects"])


def test_same_seed_same_screen():
    one, same, other = (simulate(**SMALL, seed=seed) for seed in (1, 1, 2))
    assert (one.X != same.X).nnz == 0
    assert one.obs.equals(same.obs)
    assert one.varm["effects"].equals(same.varm["effects"])
    assert (one.X != other.X).nnz > 0
    assert not one.varm["effects"].equals(other.varm["effects"])


def test_strong_effects_are_seen_in_pseudobulks():
    adata = simulate(n_cells=4000, n_genes=50, n_states=2, n_singles=4, n_doubles=1, effect_size=2.0, seed=3)
    x = adata.X.toarray()
    share = np.log(1e-4 + x / x.sum(axis=1, keepdims=True))
    condition = adata.obs["condition"].to_numpy()
    for state in ("state1", "state2"):
        here = (adata.obs["cell_type"] == state).to_numpy()
        control = share[here & (condition == "control")].mean(axis=0)
        for name, effect in adata.varm["effects"].items():
            seen = share[here & (condition == name)].mean(axis=0) - control
            moved = seen - np.median(seen)  # counts are relative: what one gene gains the others lose
            strong = np.abs(effect.to_numpy()) > 1.5
            assert strong.any()
            assert (np.sign(moved[strong]) == np.sign(effect[strong])).all()
            assert np.abs(moved[effect == 0]).mean() < 0.3 * np.abs(moved[strong]).mean()


def test_doubles_add_up_without_interaction():
    adata = simulate(**SMALL | {"n_cells": 4000}, interaction_size=0.0, mean_depth=20000.0, effect_size=1.5, seed=1)
    assert (adata.varm["interactions"] == 0).all().all()
    x = adata.X.toarray()
    here = (adata.obs["cell_type"] == "state1").to_numpy()
    condition = adata.obs["condition"].to_numpy()

    def effect(name):
        rate, base = (x[here & (condition == key)].mean(axis=0) for key in (name, "control"))
        change = np.log(rate + 1e-3) - np.log(base + 1e-3)
        return change - np.median(change)

    for double in adata.varm["interactions"]:
        one, other = double.split("+")
        together, apart = effect(double), effect(one) + effect(other)
        assert np.corrcoef(together, apart)[0, 1] > 0.95


def test_without_doubles():
    adata = simulate(**SMALL | {"n_doubles": 0})
    assert set(adata.obs["condition"]) == {"control", "P1", "P2", "P3", "P4"}


def test_too_few_cells():
    with pytest.raises(PerturbenchError, match="n_cells=41 is too few for 14 groups; use at least 42"):
        simulate(**SMALL | {"n_cells": 41})


def test_too_many_doubles():
    with pytest.raises(PerturbenchError, match="n_doubles=7 of n_singles=4: at most 6 pairs exist"):
        simulate(**SMALL | {"n_doubles": 7})
