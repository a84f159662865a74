import anndata as ad
import numpy as np
import pytest

from perturbench.config.sections import DataConfig, EmbeddingConfig, PreprocessingConfig, SplitterConfig
from perturbench.errors import PerturbenchError
from perturbench.pipelines.preprocessing.nodes import prepare_cells
from perturbench.pipelines.splitting.nodes import assign_split
from perturbench.provenance import Stamp

DATA = DataConfig(dataset="x", source={"path": "x"})
NO_EMBEDDING = (EmbeddingConfig(checkpoint="x"), {})


@pytest.fixture
def split(screen):
    return assign_split(screen, DATA, SplitterConfig(method="transfer"), "mine")[0]


def test_prepared_cells(screen, split):
    prepared = prepare_cells(
        screen, split, DATA, PreprocessingConfig(n_top_genes=20, n_de_genes=2), "mine", *NO_EMBEDDING
    )
    assert 20 <= prepared.n_vars < screen.n_vars
    assert np.allclose(np.expm1(prepared.X[:3].toarray()).sum(axis=1), 1e4, rtol=0.7)
    assert np.array_equal(prepared.layers["counts"].toarray(), screen[:, prepared.var_names].X.toarray())
    assert Stamp.read(prepared.uns).settings["preprocessing"]["fit_on"] == "all"


def test_fitted_on_training_cells_the_held_out_do_not_count(screen, split):
    config = PreprocessingConfig(n_top_genes=20, n_de_genes=2, fit_on="train")
    before = prepare_cells(screen, split, DATA, config, "mine", *NO_EMBEDDING)
    heldout = np.flatnonzero(split["split"] != "train")
    changed = screen.copy()
    counts = changed.X.toarray()
    counts[heldout] = np.random.default_rng(0).permutation(counts[heldout].T).T + 5
    changed.X = counts
    after = prepare_cells(changed, split, DATA, config, "mine", *NO_EMBEDDING)
    assert list(after.var_names) == list(before.var_names)


def test_no_gene_left_is_refused(screen, split):
    with pytest.raises(PerturbenchError, match=r"lower preprocessing\.min_cells"):
        prepare_cells(screen, split, DATA, PreprocessingConfig(min_cells=10**6), "mine", *NO_EMBEDDING)


def test_backed_cells_stay_on_disk(screen, split, tmp_path, monkeypatch):
    config = PreprocessingConfig(n_top_genes=20, n_de_genes=2)
    screen.write_h5ad(tmp_path / "curated.h5ad")
    backed = ad.read_h5ad(tmp_path / "curated.h5ad", backed="r")
    monkeypatch.setattr(ad.AnnData, "to_memory", lambda self: pytest.fail("the matrix was read whole"))
    from_file = prepare_cells(backed, split, DATA, config, "mine", *NO_EMBEDDING)
    in_memory = prepare_cells(screen, split, DATA, config, "mine", *NO_EMBEDDING)
    assert list(from_file.var_names) == list(in_memory.var_names)
    assert (from_file.X != in_memory.X).nnz == 0
