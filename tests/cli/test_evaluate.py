"""``perturbench evaluate``: for people with an h5ad and no project."""

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

from perturbench.analysis import evaluate
from perturbench.cli.main import main
from perturbench.preprocessing.preparation import prepare


@pytest.fixture
def files(screen, keys, tmp_path):
    cells = prepare(screen, keys)
    cells.write_h5ad(tmp_path / "observed.h5ad")
    predicted = cells[cells.obs["condition"] != "control"].copy()
    predicted.X = np.abs(predicted.X.toarray() + np.random.default_rng(0).normal(0, 0.3, predicted.shape))
    predicted.write_h5ad(tmp_path / "mine.h5ad")
    return tmp_path, cells, predicted


def call(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def test_table_parquet_and_page(files):
    folder, cells, predicted = files
    paths = ["--predictions", folder / "mine.h5ad", "--predictions", f"other={folder / 'mine.h5ad'}"]
    result = call(*paths, "--reference", folder / "observed.h5ad", "--output", folder / "out")
    assert result.exit_code == 0, result.output
    assert "mine" in result.output and "other" in result.output
    scores = pd.read_parquet(folder / "out/scores.parquet")
    expected = evaluate({"mine": predicted}, cells).scores
    mine = scores[scores["model"] == "mine"]
    assert mine["value"].to_numpy() == pytest.approx(expected["value"].to_numpy(), nan_ok=True)
    assert "Plotly.newPlot" in (folder / "out/report.html").read_text()


def test_metrics_are_a_profile_or_a_list(files):
    folder, *_ = files
    arguments = ["--predictions", folder / "mine.h5ad", "--reference", folder / "observed.h5ad"]
    assert "energy_pca" in call(*arguments, "--metrics", "rmse_average,energy_pca").output
    assert "mmd_pca" in call(*arguments, "--metrics", "paper").output


def test_two_predictions_of_one_name_are_refused(files):
    folder, *_ = files
    twice = ["--predictions", folder / "mine.h5ad"] * 2
    result = call(*twice, "--reference", folder / "observed.h5ad")
    assert result.exit_code == 1
    assert "two predictions are called 'mine'" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reference", "none.h5ad"], "file 'none.h5ad' does not exist"),
        (["--covariate-keys", "day"], "covariate column 'day' is not in obs"),
        (["--control", "NT"], "no control cells ('NT')"),
        (["--metrics", "rmsd"], "unknown metrics profile or metric 'rmsd'"),
    ],
)
def test_mistakes_are_one_line(files, arguments, message):
    folder, *_ = files
    given = {"--predictions": folder / "mine.h5ad", "--reference": folder / "observed.h5ad"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    result = call(*(str(item) for pair in given.items() for item in pair))
    assert result.exit_code == 1
    assert message in result.output.replace("\n", " ")
    assert "Traceback" not in result.output


def link_to_the_reference(path):
    with h5py.File(path, "a") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink("observed.h5ad", "/X")


def wrong_index(path):
    with h5py.File(path, "a") as file:
        file["X/indices"][3] = 10_000


@pytest.mark.parametrize(
    ("damage", "message"), [(link_to_the_reference, "in the file 'observed.h5ad'"), (wrong_index, "the index 10000")]
)
@pytest.mark.parametrize("side", ["mine", "reference"])
def test_files_that_link_elsewhere_or_are_malformed_are_refused_in_one_line(files, damage, message, side):
    folder, cells, predicted = files
    predicted.X = sp.csr_matrix(predicted.X)
    predicted.write_h5ad(folder / "mine.h5ad")
    cells.write_h5ad(folder / "reference.h5ad")
    damage(folder / f"{side}.h5ad")
    result = call("--predictions", folder / "mine.h5ad", "--reference", folder / "reference.h5ad")
    assert result.exit_code == 1
    assert f"{side}.h5ad'" in result.output
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize("side", ["mine", "observed"])
def test_repeated_entries_are_summed(files, side):
    folder, cells, predicted = files
    for name, adata in {"mine": predicted, "observed": cells}.items():
        # Few values, because blocks with many are made dense, which sums them anyway.
        mask = np.random.default_rng(0).random(adata.shape) < 0.1
        adata.X = sp.csr_matrix(np.where(mask, adata.to_df().to_numpy(), 0))
        adata.write_h5ad(folder / f"{name}.h5ad")
    paths = ["--predictions", folder / "mine.h5ad", "--reference", folder / "observed.h5ad", "--metrics", "all"]
    assert call(*paths, "--output", folder / "once").exit_code == 0
    adata = {"mine": predicted, "observed": cells}[side].copy()
    x = sp.csr_matrix(adata.X)
    halves = np.repeat(x.data / 2, 2), np.repeat(x.indices, 2), x.indptr * 2
    adata.X = sp.csr_matrix(halves, x.shape)
    assert not adata.X.has_canonical_format
    adata.write_h5ad(folder / f"{side}.h5ad")
    assert call(*paths, "--output", folder / "twice").exit_code == 0
    once, twice = (pd.read_parquet(folder / name / "scores.parquet") for name in ("once", "twice"))
    assert twice["value"].to_numpy() == pytest.approx(once["value"].to_numpy(), nan_ok=True)
