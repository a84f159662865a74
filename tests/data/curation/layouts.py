"""Small files in the layouts that sources publish: the same columns, categories and oddities."""

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp


def counts(n_cells, n_genes, seed=0):
    """Raw counts as sources store them: CSR integers."""
    return sp.csr_matrix(np.random.default_rng(seed).poisson(1.0, (n_cells, n_genes)).astype(np.int64))


def norman19():
    """``NormanWeissman2019_filtered.h5ad``: singles ``A``, doubles ``A_B`` in no order, ``control``."""
    names = ["control", "KLF1", "SET", "SET_KLF1", "KLF1", "control", "BAK1", "CEBPE_RUNX1T1", "CEBPE", "RUNX1T1"]
    n = len(names)
    obs = pd.DataFrame(
        {
            "guide_id": [f"{name}__g" for name in names],
            "read_count": np.arange(n),
            "UMI_count": np.arange(n),
            "coverage": np.ones(n),
            "gemgroup": np.ones(n, dtype=int),
            "good_coverage": np.ones(n, dtype=bool),
            "number_of_cells": np.ones(n),
            "tissue_type": "cell_line",
            "cell_line": "K562",
            "cancer": True,
            "disease": "chronic myelogenous leukemia",
            "perturbation_type": "CRISPR",
            "celltype": "lymphoblasts",
            "organism": "human",
            "perturbation": names,
            "nperts": [name.count("_") + 1 - (name == "control") for name in names],
            "ngenes": np.arange(n),
            "ncounts": np.arange(n, dtype=float),
            "percent_mito": np.ones(n),
            "percent_ribo": np.ones(n),
        },
        index=pd.Index([f"AAAC{i}" for i in range(n)], name="cell_barcode"),
    )
    genes = pd.Index(["KLF1", "SET", "BAK1", "CEBPE"], name="gene_symbol")
    var = pd.DataFrame({"ensemble_id": [f"ENSG{i}" for i in range(4)], "ncounts": 1.0, "ncells": 1}, index=genes)
    return ad.AnnData(counts(n, 4), obs=obs, var=var)


def srivatsan20():
    """``SrivatsanTrapnell2020_sciplex3.h5ad``: doses in nM, mouse genes, cells without a drug, ``+`` in names."""
    rows = [
        (line, drug, dose)
        for line in ("A549", "K562", "MCF7")
        for drug, dose in [
            ("control", 0.0),
            ("(+)-JQ1", 10.0),
            ("(+)-JQ1", 10000.0),
            ("ENMD-2076 L-(+)-Tartaric acid", 10000.0),
            ("Glesatinib?(MGCD265)", 10000.0),
            ("Glesatinib?(MGCD265)", 100.0),
        ]
    ]
    rows += [(None, None, np.nan), ("A549", None, np.nan)]
    obs = pd.DataFrame(rows, columns=["cell_line", "perturbation", "dose_value"])
    obs = obs.assign(
        ncounts=1.0, well="A1", plate="plate1", replicate="rep1", time=24.0, dose_unit="nM", celltype="None",
        disease="None", cancer=True, tissue_type="cell_line", organism="human", perturbation_type="drug", ngenes=3,
    )  # fmt: skip
    obs.index = pd.Index([f"A01_{i}" for i in range(len(obs))], name="cell_barcode")
    genes = pd.Index(["TSPAN6", "DUP", "DUP:1", "Gnai3", "TNMD", "NOID"], name="gene_symbol")
    ids = ["ENSG00000000003", "ENSG00000000001", "ENSG00000000001", "ENSMUSG00000000001", "ENSG00000000005", None]
    var = pd.DataFrame({"ensembl_id": ids, "ncounts": 1.0, "ncells": 1}, index=genes)
    return ad.AnnData(counts(len(obs), len(var)), obs=obs, var=var)


def frangieh21():
    """``FrangiehIzar2021_RNA.h5ad``: the treatment is ``perturbation_2``, untreated is ``Control``."""
    rows = [
        (gene, treatment)
        for treatment in ("Control", "IFN\N{GREEK SMALL LETTER GAMMA}", "Co-culture")
        for gene in ("control", "A2M", "ACSL3", "B2M")
    ]
    obs = pd.DataFrame(rows, columns=["perturbation", "perturbation_2"], index=[f"CELL_{i}" for i in range(len(rows))])
    obs = obs.assign(
        library_preparation_protocol="CITE-seq", celltype="melanocytes", disease="melanoma", nperts=1, ngenes=1,
        ncounts=1.0, perturbation_type="CRISPR",
    )  # fmt: skip
    return ad.AnnData(counts(len(obs), 3), obs=obs, var=pd.DataFrame(index=["A2M", "ACSL3", "B2M"]))


def jiang24(treatment, n_lines=2):
    """A Seurat object: targets in ``gene``, ``NT`` for controls; cell names repeat in the next object."""
    rows = [(gene, line) for line in ("A549", "BXPC3")[:n_lines] for gene in ("NT", "STAT1", "JAK1")]
    obs = pd.DataFrame(rows, columns=["gene", "cell_type"], index=[f"1_AAAC_{i}" for i in range(len(rows))])
    obs = obs.assign(**{"orig.ident": "s", "nCount_RNA": 1.0, "nFeature_RNA": 1, "guide": obs["gene"] + "g1"})
    genes = ["STAT1", "JAK1", f"ONLY_{treatment}", "IRF1"]
    return ad.AnnData(counts(len(obs), 4, len(treatment)), obs=obs, var=pd.DataFrame(index=genes))


def mcfaline23(line, controls=("NA", "NTC", "random"), vehicle="vehicle"):
    """A monocle ``cell_data_set``: versioned Ensembl ids, several guides joined by commas, three kinds of controls."""
    groups = [*((name, treatment, 8) for name in controls for treatment in (vehicle, "lapatinib", "temozolomide"))]
    groups += [("RNASEL", vehicle, 20), ("RNASEL", "lapatinib", 19), ("SGK3,MARK3", vehicle, 30), ("SGK3", vehicle, 25)]
    rows = [(gene, treatment) for gene, treatment, n in groups for _ in range(n)]
    obs = pd.DataFrame(rows, columns=["gene_id", "treatment"], index=[f"01A_{i}" for i in range(len(rows))])
    obs = obs.assign(cell=obs.index, sample="s", Size_Factor=1.0, dose=1.0, gRNA_id=obs["gene_id"], cell_type=line)
    obs["n.umi"] = 1.0
    ids = ["ENSG00000000003.14", "ENSG00000000005.6", "ENSG00000000419.12", "ENSG00000000457.13"]
    var = pd.DataFrame({"id": ids, "gene_short_name": ["TSPAN6", None, "DPM1", "DPM1"]}, index=ids)
    return ad.AnnData(counts(len(obs), 4), obs=obs, var=var)


def processed(names, covariates):
    """A processed file of the benchmark's authors: log-normalised ``X``, counts in a layer."""
    obs = pd.DataFrame({"condition": names, **covariates}, index=[f"c{i}" for i in range(len(names))])
    raw = counts(len(names), 3)
    obs["perturbation"] = obs["condition"]
    obs["cov_merged"] = "x"
    adata = ad.AnnData(raw.log1p().astype(np.float32), obs=obs, var=pd.DataFrame(index=["g1", "g2", "g3"]))
    adata.layers["counts"] = raw
    return adata
