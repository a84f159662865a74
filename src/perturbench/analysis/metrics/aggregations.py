"""What is compared: aggregates of the cells of each pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from perturbench.analysis.metrics.principal_axes import principal_axes
from perturbench.analysis.metrics.rank_sum import rank_sum
from perturbench.analysis.metrics.registry import register_aggregation
from perturbench.analysis.profiles import Prediction
from perturbench.data.group_sums import GroupSums
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from perturbench.analysis.profiles import Profiles, Reference

#: z-scores are clipped here, as scanpy's scale does in the published code.
MAX_Z = 10.0
_PAPER = "paper, section 4 and appendix C"


@register_aggregation("average", source=_PAPER)
def average(side: Profiles, reference: Reference) -> np.ndarray:
    """Mean of log-normalised expression over cells."""
    return side.means


@register_aggregation("logfc", source=_PAPER)
def logfc(side: Profiles, reference: Reference) -> np.ndarray:
    """Log2 fold change against the observed controls of the state, pseudocount 0.1, on log-normalised means."""
    _require_positive(reference)
    means = side.positive_means if isinstance(side, Prediction) else side.means
    return np.log2(means + 0.1) - np.log2(reference.control_means + 0.1)


@register_aggregation("logfc_exp", source="paper's code, exp=True")
def logfc_exp(side: Profiles, reference: Reference) -> np.ndarray:
    """Log2 fold change as ``logfc``, of the means taken back to normalised counts by expm1 first."""
    _require_positive(reference)
    means = side.positive_means if isinstance(side, Prediction) else side.means
    return np.log2(np.expm1(means) + 0.1) - np.log2(np.expm1(reference.control_means) + 0.1)


def _require_positive(reference: Reference) -> None:
    below = (reference.means < 0) | (reference.control_means < 0)
    if below.any():
        genes = reference.genes[below.any(axis=0)]
        raise PerturbenchError(
            f"the reference has negative means in {len(genes)} genes: {listing(genes)}; log fold changes need "
            "log-normalised expression, which is at least 0."
        )


@register_aggregation("scaled", needs="cells", source=_PAPER)
def scaled(side: Profiles, reference: Reference) -> np.ndarray:
    """Mean over cells of per-gene z-scores, with the reference's mean and sd, clipped at ±10."""
    cells, n_pairs = side.require_cells("the aggregation 'scaled'"), len(reference.pairs)
    sums = GroupSums(n_pairs, len(reference.genes))
    for codes, block in cells.blocks():
        used = np.flatnonzero((codes >= 0) & (codes < n_pairs))
        for part in np.array_split(used, max(1, -(-len(used) // 2048))):
            dense = block[part].toarray() if sp.issparse(block) else block[part]
            z = (dense - reference.gene_means) / reference.gene_sds
            sums.add(np.clip(z, -MAX_Z, MAX_Z), codes[part])
    return sums.means


@register_aggregation("var", needs="cells", source=_PAPER)
def var(side: Profiles, reference: Reference) -> np.ndarray:
    """Coefficient of variation over cells, sd / mean with n in the denominator of the variance; 0 where the mean is."""
    moments = side.moments  # type: ignore[attr-defined]
    n = moments.counts[: len(reference.pairs), None]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = moments.sums[: len(n)] / n
        sd = np.sqrt(np.maximum(moments.squares[: len(n)] / n - means**2, 0.0))
        return np.where(n < 2, np.nan, np.where(means == 0, 0.0, sd / means))


@register_aggregation("scores", needs="cells", source=_PAPER)
def scores(side: Profiles, reference: Reference) -> np.ndarray:
    """Rank-sum z-score of each gene against the observed controls of the state."""
    return rank_sum(side, reference).scores


@register_aggregation("logp", needs="cells", source=_PAPER)
def logp(side: Profiles, reference: Reference) -> np.ndarray:
    """Signed significance: sign(score) * -ln(p + 1e-24)."""
    tested = rank_sum(side, reference)
    return np.sign(tested.scores) * -np.log(tested.pvalues + 1e-24)


@register_aggregation("pca_average", needs="cells", source=_PAPER)
def pca_average(side: Profiles, reference: Reference) -> np.ndarray:
    """Mean over cells in the space of the reference's principal components."""
    axes = principal_axes(reference)
    return (side.means - axes.centre) @ axes.components.T
