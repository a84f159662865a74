"""scGPT embeddings equal a slow calculation by hand and depend on the cell alone."""

import json
import logging

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from perturbench.errors import PerturbenchError
from perturbench.preprocessing.embeddings import read_checkpoint, scgpt_embeddings

GENES = [f"G{number}" for number in range(1, 41)]


@pytest.fixture
def cells():
    """50 cells of 40 known and 10 unknown genes with ties, from nearly empty to nearly full."""
    draw = np.random.default_rng(0)
    counts = draw.negative_binomial(1, 0.3, (50, 50)) * (draw.random((50, 50)) < np.linspace(0.1, 1, 50)[:, None])
    adata = ad.AnnData(sp.csr_matrix(counts.astype(np.float32)))
    adata.var_names = [*GENES, *(f"unknown{number}" for number in range(10))]
    adata.obs_names = [f"cell{number}" for number in range(50)]
    return adata


@pytest.fixture
def checkpoint(scgpt_checkpoint):
    return read_checkpoint(scgpt_checkpoint(GENES))


def layer_norm(x, weights, name):
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def by_hand(genes, values, weights, n_heads=4, n_layers=2):
    """One cell through scGPT, one head at a time, in float64; genes and values include <cls>."""
    tokens = layer_norm(weights["encoder.embedding.weight"][genes], weights, "encoder.enc_norm")
    hidden = np.maximum(linear(np.array(values)[:, None], weights, "value_encoder.linear1"), 0)
    x = tokens + layer_norm(linear(hidden, weights, "value_encoder.linear2"), weights, "value_encoder.norm")
    for number in range(n_layers):
        layer = f"transformer_encoder.layers.{number}"
        qkv = x @ weights[f"{layer}.self_attn.Wqkv.weight"].T + weights[f"{layer}.self_attn.Wqkv.bias"]
        heads = []
        for q, k, v in zip(*(np.split(part, n_heads, axis=1) for part in np.split(qkv, 3, axis=1)), strict=True):
            attention = np.exp(q @ k.T / np.sqrt(q.shape[1]))
            heads.append(attention / attention.sum(axis=1, keepdims=True) @ v)
        x = layer_norm(
            x + linear(np.concatenate(heads, axis=1), weights, f"{layer}.self_attn.out_proj"), weights, f"{layer}.norm1"
        )
        hidden = np.maximum(linear(x, weights, f"{layer}.linear1"), 0)
        x = layer_norm(x + linear(hidden, weights, f"{layer}.linear2"), weights, f"{layer}.norm2")
    return x[0] / np.linalg.norm(x[0])


@pytest.mark.parametrize("flash", [True, False])
def test_equal_to_a_calculation_by_hand(scgpt_checkpoint, flash):
    counts = np.array([[0, 7, 3, 0, 12, 1, 5]], dtype=np.float32)  # no ties, so that no bin is drawn
    adata = ad.AnnData(counts)
    adata.var_names = ["G9", "G4", "other", "G7", "G1", "G2", "G30"]
    expressed = np.array([7.0, 12.0, 1.0, 5.0])
    bins = np.digitize(expressed, np.quantile(expressed, np.linspace(0, 1, 50)))
    folder = scgpt_checkpoint(GENES)
    weights = {name: tensor.double().numpy() for name, tensor in torch.load(folder / "best_model.pt").items()}
    expected = by_hand([41, 3, 0, 1, 29], [-2, *bins], weights)
    found = scgpt_embeddings(adata, read_checkpoint(scgpt_checkpoint(GENES, flash=flash)), device="cpu")
    assert found.shape == (1, 16)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_embeddings_have_unit_length_and_differ_between_cells(cells, checkpoint):
    found = scgpt_embeddings(cells, checkpoint, device="cpu")
    assert found.shape == (50, 16)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert np.abs(found[1:] - found[:-1]).max(axis=1).min() > 1e-3


@pytest.mark.parametrize("max_length", [1200, 8])
def test_a_cells_embedding_depends_on_the_cell_alone(cells, checkpoint, max_length):
    """Other cells, batches, the order of cells and genes, and genes without counts do not matter."""
    draw = np.random.default_rng(1)

    def embed(adata, **options):
        return scgpt_embeddings(adata, checkpoint, max_length=max_length, device="cpu", **options)

    expected = embed(cells)
    assert np.array_equal(embed(cells), expected)
    np.testing.assert_allclose(embed(cells, batch_size=3), expected, atol=1e-5)
    np.testing.assert_allclose(embed(cells[17:19]), expected[17:19], atol=1e-5)
    order = draw.permutation(50)
    np.testing.assert_allclose(embed(cells[order]), expected[order], atol=1e-5)
    np.testing.assert_allclose(embed(cells[:, draw.permutation(50)]), expected, atol=1e-5)
    silent = ad.concat([cells[:, :30], ad.AnnData(np.zeros((50, 10)), cells.obs, cells.var[30:40])], axis="var")
    np.testing.assert_allclose(embed(silent[:, :30]), embed(silent), atol=1e-5)
    np.testing.assert_allclose(embed(cells[:, GENES]), expected, atol=1e-5)


def test_size_of_chunks_does_not_matter(cells, checkpoint, monkeypatch):
    expected = scgpt_embeddings(cells, checkpoint, device="cpu")
    monkeypatch.setattr("perturbench.preprocessing.embeddings.scgpt._CHUNK", 7)
    np.testing.assert_allclose(scgpt_embeddings(cells, checkpoint, device="cpu"), expected, atol=1e-5)


def test_another_seed_draws_another_sample_of_genes(cells, checkpoint):
    first, second = (scgpt_embeddings(cells, checkpoint, max_length=8, seed=seed, device="cpu") for seed in (0, 1))
    assert np.abs(first - second).max() > 1e-2


def test_backed_cells_get_the_same_embeddings_as_cells_in_memory(cells, checkpoint, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    expected = scgpt_embeddings(cells, checkpoint, device="cpu")
    assert np.array_equal(scgpt_embeddings(backed, checkpoint, device="cpu"), expected)
    cells.X = cells.X.toarray()
    assert np.array_equal(scgpt_embeddings(cells, checkpoint, device="cpu"), expected)


def test_cells_without_known_genes_are_reported_and_get_the_same_embedding(cells, checkpoint, caplog):
    x = cells.X.toarray()
    x[[3, 30], :40] = 0
    cells.X = sp.csr_matrix(x)
    found = scgpt_embeddings(cells, checkpoint, device="cpu")
    assert "2 cells have no counts of genes that scGPT knows" in caplog.text
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[3], found[30], atol=1e-6)


def test_genes_outside_the_vocabulary_are_counted(cells, checkpoint, caplog):
    with caplog.at_level(logging.INFO, "perturbench"):
        scgpt_embeddings(cells, checkpoint, device="cpu")
    assert "40 of 50 genes are in the vocabulary of scGPT; not in it: unknown0, unknown1" in caplog.text


def test_symbols_in_a_column(cells, checkpoint):
    expected = scgpt_embeddings(cells, checkpoint, device="cpu")
    cells.var["symbol"] = cells.var_names.astype(str)
    cells.var_names = [f"ENSG{number}" for number in range(50)]
    with pytest.raises(
        PerturbenchError, match=r"none of the 50 genes is in the vocabulary of scGPT: ENSG0.*such as G1, G2"
    ):
        scgpt_embeddings(cells, checkpoint, device="cpu")
    with pytest.raises(PerturbenchError, match=r"gene_key 'symbols' is not a column of var; columns are: symbol\."):
        scgpt_embeddings(cells, checkpoint, gene_key="symbols", device="cpu")
    assert np.array_equal(scgpt_embeddings(cells, checkpoint, gene_key="symbol", device="cpu"), expected)


def test_unknown_device(cells, checkpoint):
    with pytest.raises(PerturbenchError, match=r"embedding\.device 'gpu' cannot be used: .*; choose auto, cpu"):
        scgpt_embeddings(cells, checkpoint, device="gpu")


def test_missing_files_are_named(scgpt_checkpoint):
    folder = scgpt_checkpoint(GENES)
    (folder / "best_model.pt").unlink()
    message = r"scGPT_tiny' lacks best_model\.pt; it needs vocab\.json, args\.json, best_model\.pt.*scGPT_human"
    with pytest.raises(PerturbenchError, match=message):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("args.json", "{", "args.json' cannot be read as JSON"),
        ("args.json", "[]", "args.json' must hold a JSON object"),
        ("args.json", '{"embsize": 16}', "args.json' lacks nheads, d_hid, nlayers, pad_token, pad_value"),
        ("vocab.json", '{"<pad>": 0, "G1": 1}', "vocab.json' lacks the special tokens <cls>"),
        ("vocab.json", '{"<pad>": 0, "<cls>": 1, "G1": "x"}', "vocab.json' must give each gene a whole number"),
        ("vocab.json", '{"<pad>": 0, "<cls>": 1}', r"embedding.weight \(43, 16\), expected \(2, 16\)"),
        ("best_model.pt", "no weights", "best_model.pt' cannot be read as a state dict"),
    ],
)
def test_broken_files_are_named(scgpt_checkpoint, file, content, message):
    folder = scgpt_checkpoint(GENES)
    (folder / file).write_text(content)
    with pytest.raises(PerturbenchError, match=message):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nheads": 3}, "embsize 16 must be a multiple of nheads 3"),
        ({"nlayers": "2"}, "'nlayers': '2'.* must be whole numbers of at least 1"),
        ({"nlayers": 3}, "best_model.pt' lacks 12 of 45 parameters: transformer_encoder.layers.2"),
        ({"d_hid": 32}, r"does not fit .*linear1.weight \(24, 16\), expected \(32, 16\)"),
        ({"pad_value": "none"}, "pad_value 'none' must be a number"),
    ],
)
def test_arguments_that_do_not_fit_are_named(scgpt_checkpoint, arguments, message):
    with pytest.raises(PerturbenchError, match=message):
        read_checkpoint(scgpt_checkpoint(GENES, **arguments))


def test_weights_that_are_not_a_state_dict(scgpt_checkpoint):
    folder = scgpt_checkpoint(GENES)
    torch.save([torch.zeros(2)], folder / "best_model.pt")
    with pytest.raises(PerturbenchError, match="cannot be read as a state dict"):
        read_checkpoint(folder)


def test_only_the_encoders_are_read(scgpt_checkpoint):
    folder = scgpt_checkpoint(GENES)
    arguments = json.loads((folder / "args.json").read_text())
    del arguments["n_layers_cls"], arguments["dropout"]
    (folder / "args.json").write_text(json.dumps(arguments))
    weights = torch.load(folder / "best_model.pt")
    torch.save({name: t for name, t in weights.items() if "decoder" not in name}, folder / "best_model.pt")
    assert not any("decoder" in name for name in read_checkpoint(folder).network.state_dict())
