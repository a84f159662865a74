import logging
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pytest
import torch

from perturbench.data import PerturbationDataModule
from perturbench.data.loading.batches import DeviceBatches
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


def test_loaders_have_the_cells_of_their_parts(make, screen, split):
    module = make(batch_size=64)
    assert sorted(ids_of(module.train_dataloader())) == sorted(split.index[split == "train"])
    assert ids_of(module.val_dataloader()) == list(split.index[split == "val"])
    for part in ("train", "val", "test"):
        assert list(screen.obs_names[module.rows[part]]) == list(split.index[split == part])


def test_control_cells_are_examples_only_if_asked_for(make, screen, split):
    is_control = (screen.obs["condition"] == "control").to_numpy()
    module = make(train_on_controls=False, batch_size=64)
    for part, loader in (("train", module.train_dataloader()), ("val", module.val_dataloader())):
        in_part = (split == part).to_numpy()
        assert sorted(ids_of(loader)) == sorted(screen.obs_names[in_part & ~is_control])
        controls = {row.tobytes() for row in screen[in_part & is_control].X.toarray()}
        matched = [row.tobytes() for batch in loader for row in batch.controls.numpy()]
        assert matched
        assert set(matched) <= controls
    assert module.context == make().context
    assert len(module.counterfactuals("test")) == len(make().counterfactuals("test"))


def test_batches_have_the_requested_size(make, split):
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
def test_test_loader_has_the_counterfactuals_of_the_test_part(make, screen, split, controls):
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


def test_context_has_perturbations_of_training_cells_only(make, screen, split, keys, caplog):
    trained = screen[(split == "train").to_numpy()].obs["condition"].unique()
    singles = sorted({single for name in trained for single in keys.singles(name)})
    assert make().context["perturbation_uniques"] == singles

    single = next(name for name in singles if name in set(screen.obs["condition"]))
    has = screen.obs["condition"].map(lambda name: single in keys.singles(name)).to_numpy(dtype=bool)
    heldout = split.mask(has & (split == "train"), "test")
    with caplog.at_level(logging.WARNING):
        module = make(split=heldout)
    assert single not in module.context["perturbation_uniques"]
    message = f"1 single perturbations have no training cells; models ignore them, alone and in combinations: {single}"
    assert message in caplog.text

    caplog.clear()
    make(split=split.mask(has))
    assert "no training cells" not in caplog.text, "perturbations of unused cells do not matter"


def test_context_has_covariate_values_of_training_cells_only(make, split, screen):
    unused = split.mask((screen.obs["cell_type"] == "state1").to_numpy())
    assert make(split=unused).context["covariate_uniques"] == {"cell_type": ["state2", "state3"]}


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_empty_part(make, split, part):
    with pytest.raises(PerturbenchError, match=f"the {part} part of the split has no cells"):
        make(split=split[split != part])


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


def set_up_on(module, device):
    """Set up the module as a trainer on that device does."""
    module.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))
    module.setup("fit")
    return module


def test_preloaded_cells_give_the_same_batches(make):
    host, preloaded, with_workers = (
        set_up_on(make(), "cpu"),
        set_up_on(make(preload_to_device=True, num_workers=2), "cpu"),
        make(num_workers=2),
    )
    assert host.cells.device is None
    assert preloaded.cells.device == torch.device("cpu")
    for epoch in range(2):
        loaders = [module.train_dataloader() for module in (host, preloaded, with_workers)]
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
        for one, *others in zip(*loaders, strict=True):
            for other in others:
                assert other.ids is None or one.ids.tolist() == other.ids.tolist()
                for name in ("gene_expression", "controls", "perturbations"):
                    assert torch.equal(getattr(one, name), getattr(other, name))
    for one, other in zip(host.test_dataloader(), preloaded.test_dataloader(), strict=True):
        assert torch.equal(one.controls, other.controls)
        assert one.ids.tolist() == other.ids.tolist()


def test_preloaded_cells_need_no_workers(make):
    assert set_up_on(make(num_workers=2), "cpu").train_dataloader().num_workers == 2
    assert isinstance(set_up_on(make(num_workers=2, preload_to_device=True), "cpu").train_dataloader(), DeviceBatches)


@pytest.mark.parametrize(
    ("preload_to_device", "free", "placed"),
    [
        ("auto", 2 * 1200 * 60 * 4, True),
        ("auto", 2 * 1200 * 60 * 4 - 1, False),
        (True, 0, True),
        (False, 10**9, False),
    ],
)
def test_cells_are_preloaded_to_a_gpu_if_they_fit(make, monkeypatch, preload_to_device, free, placed):
    places = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    monkeypatch.setattr(CellMatrix, "place", lambda self, device: places.append(device))
    module = set_up_on(make(preload_to_device=preload_to_device), "cuda:0")
    assert places == [torch.device("cuda:0") if placed else None]
    assert module.train_dataloader().pin_memory is not placed


def test_setup_without_a_trainer(make):
    module = make(preload_to_device=True)
    module.setup("fit")
    assert module.cells.device is None


def test_unknown_preload_to_device(make):
    with pytest.raises(PerturbenchError, match="unknown preload_to_device 'gpu'; choose one of: False, True, auto"):
        make(preload_to_device="gpu")
