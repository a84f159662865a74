"""The ridge baseline."""

import numpy as np
import pytest
from tests.models.small_models import fitted, make_module, training_effects

from perturbench.models import Ridge


def test_ridge_without_penalty_and_with_every_component_is_the_training_effect(module):
    """With one-hot perturbations, full rank and no penalty, it is the least-squares fit of the training effects."""
    effects = training_effects(module)
    model = fitted(Ridge, module, n_components=30, penalty=1e-9)
    response = effects.groupby(level=0).mean()
    singles = module.context["perturbation_uniques"]
    hot = np.array([[single in name.split("+") for single in singles] for _, name in effects.index], dtype=float)
    y = effects.to_numpy() - response.loc[effects.index.get_level_values(0)].to_numpy()
    expected = np.linalg.lstsq(hot, y, rcond=None)[0]
    found = (model.gene_embedding @ model.coefficients).T.numpy()
    projected = expected @ np.linalg.pinv(model.gene_embedding.numpy()).T @ model.gene_embedding.numpy().T
    assert found == pytest.approx(projected, abs=1e-2)


def test_ridge_embeds_perturbed_genes(cells):
    """A perturbation that names a measured gene is embedded as the gene is."""
    renamed = cells.copy()
    renamed.obs["condition"] = [
        "+".join(name.replace("P", "G") if name != "control" else name for name in condition.split("+"))
        for condition in renamed.obs["condition"]
    ]
    module = make_module(adata=renamed)
    model = fitted(Ridge, module, n_components=4)
    embedded = model._embed_singles(model.gene_embedding.numpy())
    rows = [module.context["gene_names"].index(name) for name in module.context["perturbation_uniques"]]
    assert np.array_equal(embedded, model.gene_embedding.numpy()[rows])
