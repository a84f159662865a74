"""The observed side: what it refuses, and how it may be stored."""

import anndata as ad
import numpy as np
import pytest
from tests.analysis.predictions import KEYS

from perturbench.analysis import evaluate
from perturbench.analysis.profiles import Prediction, Reference
from perturbench.data import group_sums
from perturbench.errors import PerturbenchError


def test_gene_order_of_the_reference_does_not_matter(observed, predicted):
    turned = observed[:, ::-1].copy()
    one, other = evaluate({"m": predicted}, observed), evaluate({"m": predicted}, turned)
    assert other.summary.to_numpy() == pytest.approx(one.summary.to_numpy())


def test_backed_reference(observed, predicted, tmp_path):
    observed.write_h5ad(tmp_path / "reference.h5ad")
    backed = ad.read_h5ad(tmp_path / "reference.h5ad", backed="r")
    result = evaluate({"m": predicted}, backed)
    backed.file.close()
    assert result.summary.equals(evaluate({"m": predicted}, observed).summary)


@pytest.mark.parametrize("name", ["control", "A"])
def test_observations_that_are_not_finite(observed, predicted, name):
    row = np.flatnonzero(observed.obs["condition"] == name)[0]
    x = observed.X.toarray()
    x[row, 3] = np.nan
    observed.X = x
    with pytest.raises(PerturbenchError, match="NaN"):
        evaluate({"m": predicted}, observed)


@pytest.mark.parametrize("name", ["model", "value"])
def test_covariate_named_like_a_column_of_the_scores(observed, predicted, name):
    for adata in (observed, predicted):
        adata.obs[name] = adata.obs["cell_type"]
    with pytest.raises(PerturbenchError, match=name):
        evaluate({"m": predicted}, observed, covariate_keys=[name])


def test_reference_without_controls(observed, predicted):
    keep = ~((observed.obs["condition"] == "control") & (observed.obs["cell_type"] == "t"))
    with pytest.raises(PerturbenchError, match=r"the reference has no control cells \('control'\) in: .*t"):
        evaluate({"m": predicted}, observed[keep.to_numpy()])


def test_reference_without_perturbed_cells(observed, predicted):
    with pytest.raises(PerturbenchError, match="the reference has no perturbed cells"):
        evaluate({"m": predicted}, observed[(observed.obs["condition"] == "control").to_numpy()])


def test_duplicated_genes_are_refused(cells, reference):
    twice = cells[:, [*range(cells.n_vars), 0]].copy()
    with pytest.raises(PerturbenchError, match="'m' has gene names that occur more than once"):
        Prediction.from_adata(twice, reference, "m")
    with pytest.raises(PerturbenchError, match="the reference has gene names that occur more than once"):
        Reference(twice, KEYS)


@pytest.mark.parametrize("n_rows", [1, 7, 100000])
def test_the_size_of_blocks_does_not_matter(cells, monkeypatch, n_rows):
    monkeypatch.setattr(group_sums.blocks, "__defaults__", (n_rows,))
    few = cells[:300].copy()
    small = Reference(few, KEYS)
    monkeypatch.setattr(group_sums.blocks, "__defaults__", (8192,))
    whole = Reference(few, KEYS)
    assert small.means == pytest.approx(whole.means, abs=1e-12)
    assert small.moments.squares == pytest.approx(whole.moments.squares, abs=1e-9)
