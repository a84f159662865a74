import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from perturbench.data import Counterfactual, SingleCellPerturbationWithControls
from perturbench.data.loading.examples import encode_example
from perturbench.errors import PerturbenchError

ARGUMENTS = ("condition", "+", ["cell_type"], "control", "E")


@pytest.fixture
def cells():
    obs = pd.DataFrame(
        {"condition": ["control", "B+A", "A", "control"], "cell_type": ["s1", "s1", "s2", "s2"]}, index=list("wxyz")
    )
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    return ad.AnnData(x, obs=obs, obsm={"E": -x[:, :2]})


@pytest.mark.parametrize("kind", [SingleCellPerturbationWithControls, Counterfactual])
def test_encoded_example_equals_the_batch_of_its_cell(cells, kind):
    dataset, context = kind.from_anndata(cells, *ARGUMENTS)
    for position in range(len(dataset)):
        example, batch = encode_example(dataset[position], context), dataset[[position]]
        for name in ("gene_expression", "perturbations", "controls", "embeddings"):
            one, other = getattr(example, name), getattr(batch, name)
            assert one is other is None or torch.equal(one, other), name
        assert torch.equal(example.covariates["cell_type"], batch.covariates["cell_type"])
        assert example.ids.tolist() == batch.ids.tolist()


def test_unknown_names_are_refused(cells):
    dataset, context = SingleCellPerturbationWithControls.from_anndata(cells, *ARGUMENTS)
    with pytest.raises(PerturbenchError, match="unknown perturbations: nope"):
        encode_example(dataset[1]._replace(perturbations=["A", "nope"]), context)
    with pytest.raises(PerturbenchError, match="unknown values of covariate 'cell_type': s9"):
        encode_example(dataset[1]._replace(covariates={"cell_type": "s9"}), context)
