import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from perturbench.data import SingleCellPerturbationWithControls, batch_loader
from perturbench.data.loading.batches import BatchSampler


@pytest.mark.parametrize(("n", "size"), [(10, 3), (9, 3), (2, 5), (1, 1)])
def test_sampler_gives_every_position_once(n, size):
    sampler = BatchSampler(n, size, shuffle=True)
    batches = [index.positions for index in sampler]
    assert len(batches) == len(sampler)
    assert max(map(len, batches)) <= size
    assert sorted(np.concatenate(batches)) == list(range(n))


def test_sampler_order_depends_on_seed_and_epoch_only():
    def order(seed, epoch, shuffle=True):
        sampler = BatchSampler(100, 7, shuffle=shuffle, seed=seed)
        sampler.set_epoch(epoch)
        return np.concatenate([index.positions for index in sampler]).tolist()

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    assert order(1, 2, shuffle=False) == order(5, 6, shuffle=False) == list(range(100))


def test_sampler_changes_matches_each_epoch_of_training_only():
    def seed(epoch, shuffle):
        sampler = BatchSampler(4, 2, shuffle=shuffle, seed=5)
        sampler.set_epoch(epoch)
        return {index.seed for index in sampler}

    assert len(seed(0, True)) == 1
    assert seed(0, True) != seed(1, True)
    assert seed(0, False) == seed(1, False)


def test_workers_give_the_same_batches():
    n = 60
    obs = pd.DataFrame(
        {"condition": np.tile(["control", "A", "B+A"], 20), "cell_type": np.repeat(["s1", "s2"], 30)},
        index=[f"cell{i}" for i in range(n)],
    )
    adata = ad.AnnData(sp.csr_matrix(np.arange(1, 4 * n + 1, dtype=np.float32).reshape(n, 4)), obs=obs)
    dataset, _ = SingleCellPerturbationWithControls.from_anndata(adata, "condition", "+", ["cell_type"], "control")

    def batches(num_workers):
        return list(batch_loader(dataset, 16, shuffle=True, seed=3, num_workers=num_workers))

    alone, with_workers = batches(0), batches(2)
    assert len(alone) == len(with_workers) == 4
    for one, other in zip(alone, with_workers, strict=True):
        assert list(one.ids) == list(other.ids)
        for name in ("gene_expression", "controls", "perturbations"):
            assert torch.equal(getattr(one, name), getattr(other, name))
        assert torch.equal(one.covariates["cell_type"], other.covariates["cell_type"])


def test_loading_does_not_change_the_random_numbers_of_a_model():
    obs = pd.DataFrame({"condition": ["control", "A"], "cell_type": "s"}, index=["c0", "c1"])
    adata = ad.AnnData(np.ones((2, 3), np.float32), obs=obs)
    dataset, _ = SingleCellPerturbationWithControls.from_anndata(adata, "condition", "+", ["cell_type"], "control")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(batch_loader(dataset, 1))
    assert torch.equal(torch.rand(3), expected)
