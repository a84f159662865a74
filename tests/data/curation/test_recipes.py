"""Files in each source's own layout become the same standard cells, recognised by their columns."""

import numpy as np
import pytest
from tests.data.curation import layouts as files

from perturbench.data.curation import curate_file, known_layouts
from perturbench.data.groups import Keys
from perturbench.errors import PerturbenchError

STATES = Keys(covariates=("cell_type", "treatment"))


def curate(path, dataset, keys=None, **options):
    return curate_file(path, known_layouts(dataset), keys or Keys(), **options)


def written(adata, path):
    adata.write_h5ad(path)
    return path


def test_norman19(tmp_path):
    source = files.norman19()
    adata = curate(written(source, tmp_path / "norman.h5ad"), "norman19")
    expected = ["control", "KLF1", "SET", "KLF1+SET", "KLF1", "control", "BAK1", "CEBPE+RUNX1T1", "CEBPE", "RUNX1T1"]
    assert list(adata.obs["condition"]) == expected
    assert set(adata.obs["cell_type"]) == {"K562"}
    assert np.array_equal(adata.X.toarray(), source.X.toarray())
    assert list(adata.obs_names) == list(source.obs_names)
    assert adata.obs["treatment"].unique().tolist() == ["none"]


def test_srivatsan20(tmp_path):
    source = files.srivatsan20()
    adata = curate(written(source, tmp_path / "sciplex3.h5ad"), "srivatsan20")
    assert set(adata.obs["condition"]) == {"control", "JQ1", "ENMD-2076", "Glesatinib?(MGCD265)"}
    assert set(adata.obs["cell_type"]) == {"a549", "k562", "mcf7"}
    assert adata.obs.loc[adata.obs["condition"] != "control", "dose"].unique().tolist() == [10000.0]
    assert list(adata.var_names) == ["TSPAN6", "DUP", "TNMD"], "no mouse genes, no second of an id, no gene without"
    expected = source[adata.obs_names, ["TSPAN6", "DUP", "TNMD"]].X.toarray()
    assert np.array_equal(adata.X.toarray(), expected)


def test_frangieh21(tmp_path):
    adata = curate(written(files.frangieh21(), tmp_path / "f.h5ad"), "frangieh21", STATES)
    assert set(adata.obs["treatment"]) == {"none", "IFN\N{GREEK SMALL LETTER GAMMA}", "co-culture"}
    assert set(adata.obs["cell_type"]) == {"melanocyte"}
    assert set(adata.obs["condition"]) == {"control", "A2M", "ACSL3", "B2M"}


@pytest.mark.parametrize("converter", ["seurat", "seurat_disk"])
def test_jiang24(tmp_path, converter):
    sources = {}
    for treatment in ("IFNG", "IFNB"):
        adata = files.jiang24(treatment)
        if converter == "seurat_disk":
            adata.raw = adata
            adata.X = adata.X.log1p()
        sources[treatment] = adata
        adata.write_h5ad(tmp_path / f"Seurat_object_{treatment}_Perturb_seq.h5ad")
    adata = curate(tmp_path, "jiang24", STATES)
    assert list(adata.var_names) == ["STAT1", "JAK1", "IRF1"], "genes that every file has"
    assert adata.obs["treatment"].tolist() == ["IFNB"] * 6 + ["IFNG"] * 6
    assert set(adata.obs["cell_type"]) == {"a549", "bxpc3"}
    assert set(adata.obs["condition"]) == {"control", "STAT1", "JAK1"}
    assert adata.obs_names.is_unique
    assert "source_file" not in adata.obs
    matrix = [(source.raw or source)[:, ["STAT1", "JAK1", "IRF1"]].X.toarray() for source in sources.values()]
    assert np.array_equal(adata.X.toarray(), np.vstack(matrix[::-1]))


@pytest.mark.parametrize("missing", [False, True])
def test_mcfaline23(tmp_path, missing):
    for name, vehicle in [("gxe1_A172", "dmso"), ("gxe2_A172", "vehicle"), ("gxe2_T98G", "vehicle")]:
        source = files.mcfaline23(name.partition("_")[2], vehicle=vehicle)
        if missing:
            source.obs["gene_id"] = source.obs["gene_id"].astype(object).where(source.obs["gene_id"] != "NA", None)
        source.write_h5ad(tmp_path / f"{name}.h5ad")
    adata = curate(tmp_path, "mcfaline23", STATES)
    assert set(adata.obs["condition"]) == {"control", "RNASEL", "SGK3"}, "no doubles, and no name torn by NA inside it"
    assert set(adata.obs["treatment"]) == {"none", "lapatinib"}
    assert set(adata.obs["cell_type"]) == {"a172", "t98g"}
    sizes = adata.obs.groupby(["condition", "cell_type", "treatment"], observed=True).size()
    assert sizes["RNASEL", "a172", "lapatinib"] == 38, "19 + 19 cells of two files are one group"
    assert ("RNASEL", "t98g", "lapatinib") not in sizes.index, "19 cells are too few"
    assert sizes["control", "t98g", "none"] == 24
    assert list(adata.var_names) == ["TSPAN6", "DPM1"]


@pytest.mark.parametrize(
    ("dataset", "covariates"),
    [
        ("norman19", ["cell_type"]),
        ("srivatsan20", ["cell_type"]),
        ("frangieh21", ["cell_type", "treatment"]),
        ("jiang24", ["cell_type", "treatment"]),
        ("mcfaline23", ["cell_type", "treatment"]),
    ],
)
def test_processed_files(tmp_path, dataset, covariates):
    source = files.processed(["control", "A", "B+A", "A"], {name: ["x"] * 4 for name in covariates})
    adata = curate(written(source, tmp_path / "p.h5ad"), dataset, Keys(covariates=tuple(covariates)))
    assert list(adata.obs["condition"]) == ["control", "A", "A+B", "A"]
    assert np.array_equal(adata.X.toarray(), source.layers["counts"].toarray())


@pytest.mark.parametrize("layer", [True, False])
def test_op3_smiles_have_charges(tmp_path, layer):
    smiles = ["C[S+](C)[O-]", "C[N+](C)(C)CC=O", "C[S+](C)[O-]", "CCO"]
    source = files.processed(smiles, {"cell_type": ["B cells"] * 2 + ["T cells"] * 2})
    source.obs = source.obs.rename(columns={"condition": "SMILES"}).drop(columns="perturbation")
    if not layer:
        source.X = source.layers.pop("counts")
    adata = curate(written(source, tmp_path / "op3.h5ad"), "op3", Keys(delimiter=None))
    assert list(adata.obs["condition"]) == ["control", "C[N+](C)(C)CC=O", "control", "CCO"]


def test_a_named_layout_is_taken(tmp_path):
    source = files.norman19()
    source.obs["condition"], source.obs["cell_type"] = "control", "x"
    source.layers["counts"] = source.X
    path = written(source, tmp_path / "both.h5ad")
    assert set(curate(path, "norman19").obs["condition"]) == {"control"}
    source.obs = source.obs.drop(columns="cell_type")
    adata = curate(written(source, path), "norman19", layout="raw")
    assert "KLF1+SET" in set(adata.obs["condition"])
    assert (adata.obs["condition_source"] == "control").all()
    with pytest.raises(PerturbenchError, match=r"unknown data.layout 'new'; choose one of: processed, raw"):
        curate(path, "norman19", layout="new")


def test_a_file_of_no_known_layout_is_told_what_each_lacks(tmp_path):
    source = files.norman19()
    source.obs = source.obs.rename(columns={"cell_line": "line"})
    with pytest.raises(PerturbenchError) as error:
        curate(written(source, tmp_path / "odd.h5ad"), "norman19")
    assert "'processed' needs column 'condition', column 'cell_type', layer 'counts'" in str(error.value)
    assert "'raw' needs column 'cell_line'" in str(error.value)
    assert "line" in str(error.value)


def test_an_unknown_data_set_has_no_layouts():
    assert known_layouts("mine") == []
