"""Agreement of differential expression."""

import anndata as ad
from tests.analysis.predictions import values_of

from perturbench.analysis.profiles import Prediction


def test_predicting_nothing_recalls_nothing(cells, reference):
    """All scores are tied at 0; which genes come first in the file must not matter."""
    controls = cells[cells.obs["condition"] == "control"]
    parts = []
    for state, condition in reference.pairs:
        part = controls[controls.obs["cell_type"] == state[0]].copy()
        part.obs["condition"] = condition
        parts.append(part)
    nothing = Prediction.from_adata(ad.concat(parts, index_unique="-"), reference, "nothing")
    for name in ("top_k_recall_scores", "top_k_recall_wilcoxon"):
        recall = values_of(nothing, reference, name)
        assert recall.tolist() == [0.0] * len(recall)
