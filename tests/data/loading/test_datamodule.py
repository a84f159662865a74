import logging
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from perturbench.data import PerturbationDataModule
from perturbench.data.loading.batches import BatchSampler, DeviceBatches
from perturbench.data.loading.cell_matrix import CellMatrix
from perturbench.data.splits import SplitRules, split_cells
from perturbench.errors import PerturbenchError


@pytest.fixture
def split(screen, keys):
    return split_cells(screen.obs, keys, "transfer", SplitRules(), 0)


@pytest.fixture
def make(screen, split, keys):
    return lambda **changes: PerturbationDataModule(**{"adata": screen, "split": split, "keys": keys} | changes)


def ids_of(loader):
    return [name for batch in loader for name in batch.ids]


@pytest.mark.parametrize(("n", "size"), [(10, 3), (9, 3), (2, 5), (1, 1)])
def test_sampler_gives_every_position_once(n, size):
    sampler = BatchSampler(n, size, shuffle=True)
    batches = [index.positions for index in sampler]
    assert len(batches) == len(sampler)
    assert max(map(len, batches)) <= size
    assert sorted(np.concatenate(batches)) == list(range(n))


def test_sampler_order_is_of_seed_and_epoch():
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


def test_parts_are_those_of_the_split(make, screen, split):
    module = make(batch_size=64)
    assert sorted(ids_of(module.train_dataloader())) == sorted(split.index[split == "train"])
    assert ids_of(module.val_dataloader()) == list(split.index[split == "val"])
    for part in ("train", "val", "test"):
        assert list(screen.obs_names[module.rows[part]]) == list(split.index[split == part])


def test_batches_have_the_size_asked_for(make, split):
    sizes = [len(batch.ids) for batch in make(batch_size=64).train_dataloader()]
    assert sizes[:-1] == [64] * (len(sizes) - 1)
    assert sum(sizes) == (split == "train").sum()


def test_matched_controls_are_of_the_same_part(make, screen, split):
    for part in ("train", "val"):
        own = screen[((split == part) & (screen.obs["condition"] == "control")).to_numpy()].X.toarray()
        controls = make().observed(part)[:].controls.numpy()
        assert {row.tobytes() for row in controls} <= {row.tobytes() for row in own}


def test_training_epochs_differ_and_repeat_by_seed(make):
    one, again = make(seed=3).train_dataloader(), make(seed=3).train_dataloader()
    first = ids_of(one)
    assert ids_of(again) == first
    one.sampler.set_epoch(1)
    assert ids_of(one) != first
    assert sorted(ids_of(one)) == sorted(first)
    assert ids_of(make(seed=4).train_dataloader()) != first


@pytest.mark.parametrize("controls", ["all", "part"])
def test_test_batches_are_the_counterfactuals_of_the_test_part(make, screen, split, controls):
    unused = split.index[(screen.obs["condition"] == "control") & (split == "train")][:5]
    module = make(split=split.drop(unused), prediction_controls=controls)
    parts = ["train", "val", "test"] if controls == "all" else ["test"]
    usable = screen.obs[(split.isin(parts) & (screen.obs["condition"] == "control")).to_numpy()].drop(
        unused, errors="ignore"
    )
    batches = list(module.test_dataloader())
    assert all(batch.gene_expression is None for batch in batches)
    for pair, ((state,), _) in enumerate(module.pairs("test")):
        names = [name for batch in batches for name, code in zip(batch.ids, batch.groups, strict=True) if code == pair]
        assert names == list(usable.index[usable["cell_type"] == state])


def test_predictions_are_compared_with_the_controls_they_start_from(make, screen, split):
    perturbed = split.index[(split == "test") & (screen.obs["condition"] != "control")]
    for controls in ("all", "part"):
        module = make(prediction_controls=controls)
        dataset = module.counterfactuals("test")
        reference = screen.obs_names[dataset.reference_rows]
        assert set(reference) == set(perturbed) | set(dataset[:].ids)
        assert set(reference) <= set(screen.obs_names[module.evaluation_rows("test")])


def test_unknown_prediction_controls(make):
    with pytest.raises(PerturbenchError, match="unknown controls 'own'; choose one of: all, part"):
        make(prediction_controls="own").test_dataloader()


def test_counterfactuals_of_any_part(make):
    module = make()
    assert set(module.counterfactuals("val").pairs) == set(module.pairs("val"))
    assert set(module.predict_dataloader("train").dataset.pairs) == set(module.pairs("train"))
    with pytest.raises(PerturbenchError, match="unknown part 'dev'; choose one of: test, train, val"):
        module.counterfactuals("dev")


def test_max_control_cells(make):
    module = make(max_control_cells=3)
    assert len(module.counterfactuals()) == 3 * len(module.pairs("test"))


def test_order_of_the_split_does_not_matter(make, split):
    shuffled = split.sample(frac=1, random_state=0)
    one, other = make(), make(split=shuffled)
    assert all(np.array_equal(one.rows[part], other.rows[part]) for part in one.rows)


def test_cells_without_label_are_not_used(make, split):
    unused = split[split == "train"].index[:50]
    for fewer in (split.drop(unused), split.mask(split.index.isin(unused))):
        module = make(split=fewer)
        assert not set(unused) & set(ids_of(module.train_dataloader()))
        assert len(module.rows["train"]) == (split == "train").sum() - 50


def test_context_is_of_training_cells_only(make, screen, split, keys, caplog):
    trained = screen[(split == "train").to_numpy()].obs["condition"].unique()
    singles = sorted({single for name in trained for single in keys.singles(name)})
    assert make().context["perturbation_uniques"] == singles

    single = next(name for name in singles if name in set(screen.obs["condition"]))
    has = screen.obs["condition"].map(lambda name: single in keys.singles(name)).to_numpy(dtype=bool)
    heldout = split.mask(has & (split == "train"), "test")
    with caplog.at_level(logging.WARNING):
        module = make(split=heldout)
    assert single not in module.context["perturbation_uniques"]
    assert (
        f"1 single perturbations are held out entirely; models see none instead, alone and in combinations: {single}"
        in (caplog.text)
    )

    caplog.clear()
    make(split=split.mask(has))
    assert "held out entirely" not in caplog.text, "cells that are not used are no matter"


def test_context_levels_are_of_training_cells_only(make, split, screen):
    unused = split.mask((screen.obs["cell_type"] == "state1").to_numpy())
    assert make(split=unused).context["covariate_uniques"] == {"cell_type": ["state2", "state3"]}


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_empty_part(make, split, part):
    with pytest.raises(PerturbenchError, match=f"the {part} part of the split has no cells"):
        make(split=split[split != part])


def test_strangers_in_the_split(make, split):
    strange = pd.concat([split, pd.Series("train", index=["nobody", "noone"])])
    with pytest.raises(PerturbenchError, match=r"names 2 of 1202 cells that the data does not have, first 'nobody'"):
        make(split=strange)


def test_cell_twice_in_the_split(make, split):
    with pytest.raises(PerturbenchError, match="cell0"):
        make(split=pd.concat([split, split[["cell0"]]]))


def test_bad_label(make, split):
    with pytest.raises(PerturbenchError, match="unknown split label 'ood'; choose one of: test, train, val"):
        make(split=split.replace("test", "ood"))


def test_part_without_controls(make, split, screen):
    bare = split.mask((screen.obs["condition"] == "control").to_numpy() & (split == "val").to_numpy())
    with pytest.raises(PerturbenchError, match="no control cells in"):
        make(split=bare).val_dataloader()


def test_missing_embedding(make):
    with pytest.raises(PerturbenchError, match="embedding 'X_pca' is not in obsm"):
        make(embedding_key="X_pca")


def test_no_covariates(screen):
    from perturbench.data.groups import Keys

    keys = Keys(covariates=())
    split = split_cells(screen.obs, keys, "combine", SplitRules(max_heldout_fraction_per_covariate=0.5), 0)
    module = PerturbationDataModule(screen, split, keys)
    batch = next(iter(module.train_dataloader()))
    assert batch.covariates == {}
    assert batch.controls.shape == batch.gene_expression.shape


def test_one_cell_batches(make):
    module = make(batch_size=1)
    assert next(iter(module.train_dataloader())).gene_expression.shape == (1, 60)
    assert isinstance(module.adata, ad.AnnData)


def on(module, device):
    """Set the module up as a trainer on that device does."""
    module.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))
    module.setup("fit")
    return module


def test_preloaded_cells_make_the_same_batches(make):
    host, preloaded, helped = (
        on(make(), "cpu"),
        on(make(preload_to_device=True, num_workers=2), "cpu"),
        make(num_workers=2),
    )
    assert host.cells.device is None
    assert preloaded.cells.device == torch.device("cpu")
    for epoch in range(2):
        loaders = [module.train_dataloader() for module in (host, preloaded, helped)]
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
        for one, *others in zip(*loaders, strict=True):
            for other in others:
                assert one.ids.tolist() == other.ids.tolist()
                for name in ("gene_expression", "controls", "perturbations"):
                    assert torch.equal(getattr(one, name), getattr(other, name))
    for one, other in zip(host.test_dataloader(), preloaded.test_dataloader(), strict=True):
        assert torch.equal(one.controls, other.controls)


def test_preloaded_cells_are_not_sent_to_workers(make):
    assert on(make(num_workers=2), "cpu").train_dataloader().num_workers == 2
    assert isinstance(on(make(num_workers=2, preload_to_device=True), "cpu").train_dataloader(), DeviceBatches)


@pytest.mark.parametrize(
    ("preload_to_device", "free", "placed"),
    [
        ("auto", 2 * 1200 * 60 * 4, True),
        ("auto", 2 * 1200 * 60 * 4 - 1, False),
        (True, 0, True),
        (False, 10**9, False),
    ],
)
def test_cells_go_to_a_gpu_where_they_fit(make, monkeypatch, preload_to_device, free, placed):
    places = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    monkeypatch.setattr(CellMatrix, "place", lambda self, device: places.append(device))
    module = on(make(preload_to_device=preload_to_device), "cuda:0")
    assert places == [torch.device("cuda:0") if placed else None]
    assert module.train_dataloader().pin_memory is not placed


def test_setup_without_a_trainer(make):
    module = make(preload_to_device=True)
    module.setup("fit")
    assert module.cells.device is None


def test_unknown_preloaded(make):
    with pytest.raises(PerturbenchError, match="unknown preload_to_device 'gpu'; choose one of: False, True, auto"):
        make(preload_to_device="gpu")
