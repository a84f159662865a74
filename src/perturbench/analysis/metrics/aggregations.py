"""Aggregations: functions that reduce the cells of each pair to the vector that is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from perturbench.analysis.metrics.principal_axes import principal_axes
from perturbench.analysis.metrics.rank_sum import rank_sum
from perturbench.analysis.metrics.registry import register_aggregation
from perturbench.analysis.metrics.t_test import t_test
from perturbench.analysis.profiles import Prediction
from perturbench.data.group_sums import GroupSums
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from perturbench.analysis.profiles import Profiles, Reference

#: z-scores are clipped at this value, as the published code does with scanpy's ``scale``.
MAX_Z = 10.0
_PAPER = "paper, section 4 and appendix C"


@register_aggregation("average", source=_PAPER)
def average(profiles: Profiles, reference: Reference) -> np.ndarray:
    """Average log-normalised expression over cells."""
    return profiles.means


@register_aggregation("logfc", source=_PAPER)
def logfc(profiles: Profiles, reference: Reference) -> np.ndarray:
    """Compute the log2 fold change against the observed controls of the state.

    As in the paper, it is taken of log-normalised means, with a pseudocount of 0.1.
    """
    _require_nonnegative(reference)
    means = profiles.nonnegative_means if isinstance(profiles, Prediction) else profiles.means
    # Both sides use the observed controls: with its own controls, a prediction could shift its zero.
    return np.log2(means + 0.1) - np.log2(reference.control_means + 0.1)


@register_aggregation("logfc_exp", source="paper's code, exp=True")
def logfc_exp(profiles: Profiles, reference: Reference) -> np.ndarray:
    """Compute the log2 fold change as ``logfc`` does, after ``expm1`` has turned means into normalised counts."""
    _require_nonnegative(reference)
    means = profiles.nonnegative_means if isinstance(profiles, Prediction) else profiles.means
    return np.log2(np.expm1(means) + 0.1) - np.log2(np.expm1(reference.control_means) + 0.1)


def _require_nonnegative(reference: Reference) -> None:
    below = (reference.means < 0) | (reference.control_means < 0)
    if below.any():
        genes = reference.genes[below.any(axis=0)]
        raise PerturbenchError(
            f"the reference has negative means in {len(genes)} genes: {listing(genes)}; log fold changes need "
            "log-normalised expression, which is never negative. Give X as log-normalised counts."
        )


@register_aggregation("scaled", needs="cells", source=_PAPER)
def scaled(profiles: Profiles, reference: Reference) -> np.ndarray:
    """Average per-gene z-scores over cells, clipped at ±10.

    Both sides use the mean and standard deviation of the reference: scaled by its own, a prediction that is twice
    too large would look perfect.
    """
    cells, n_pairs = profiles.require_cells("the aggregation 'scaled'"), len(reference.pairs)
    sums = GroupSums(n_pairs, len(reference.genes))
    for codes, block in cells.blocks():
        used = np.flatnonzero((codes >= 0) & (codes < n_pairs))
        # z-scores are dense: at most 2,048 rows at a time bound the memory.
        for part in np.array_split(used, max(1, -(-len(used) // 2048))):
            dense = block[part].toarray() if sp.issparse(block) else block[part]
            z = (dense - reference.gene_means) / reference.gene_sds
            sums.add(np.clip(z, -MAX_Z, MAX_Z), codes[part])
    return sums.means


@register_aggregation("var", needs="cells", source=_PAPER)
def var(profiles: Profiles, reference: Reference) -> np.ndarray:
    """Compute the coefficient of variation over cells, sd / mean (variance with denominator n).

    It is 0 for a gene whose mean is 0, and NaN for a pair with fewer than two cells.
    """
    moments = profiles.moments  # type: ignore[attr-defined]
    n = moments.counts[: len(reference.pairs), None]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = moments.sums[: len(n)] / n
        sd = np.sqrt(np.maximum(moments.squares[: len(n)] / n - means**2, 0.0))
        return np.where(n < 2, np.nan, np.where(means == 0, 0.0, sd / means))


@register_aggregation("scores", needs="cells", source=_PAPER)
def scores(profiles: Profiles, reference: Reference) -> np.ndarray:
    """Compute the paper's t-score of each gene against the observed controls of the state.

    See :class:`~perturbench.analysis.metrics.t_test.TTest`.
    """
    return t_test(profiles, reference).scores


@register_aggregation("logp", needs="cells", source="paper's code")
def logp(profiles: Profiles, reference: Reference) -> np.ndarray:
    """Compute the signed significance of each gene, sign(t) * -ln(p + 1e-37), p from the paper's t-test, adjusted."""
    tested = t_test(profiles, reference)
    return np.sign(tested.scores) * -np.log(tested.adjusted_pvalues() + 1e-37)


@register_aggregation("wilcoxon_scores", needs="cells")
def wilcoxon_scores(profiles: Profiles, reference: Reference) -> np.ndarray:
    """Compute the rank-sum z-score of each gene against the observed controls of the state."""
    return rank_sum(profiles, reference).scores


@register_aggregation("wilcoxon_logp", needs="cells")
def wilcoxon_logp(profiles: Profiles, reference: Reference) -> np.ndarray:
    """Compute the signed significance of each gene, sign(z) * -ln(p + 1e-24), from the rank-sum test."""
    tested = rank_sum(profiles, reference)
    return np.sign(tested.scores) * -np.log(tested.pvalues + 1e-24)


@register_aggregation("pca_average", source=_PAPER)
def pca_average(profiles: Profiles, reference: Reference) -> np.ndarray:
    """Average the cells in the space of the reference's principal components; means of a prediction suffice."""
    axes = principal_axes(reference)
    # Projection is linear, so the mean of projected cells is the projected mean.
    return (profiles.means - axes.centre) @ axes.components.T
