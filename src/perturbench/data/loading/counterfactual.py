"""Torch datasets of counterfactual cells: every control cell under each requested perturbation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import anndata as ad
import numpy as np
import pandas as pd
import torch

from perturbench.data.encoding import make_context, multi_hot, one_hot
from perturbench.data.groups import Groups, Keys, pair_name, state_name
from perturbench.data.loading.cell_matrix import CellMatrix
from perturbench.data.loading.indices import BatchIndex, CellIndices, EncodingTables
from perturbench.data.loading.matching import ControlPool
from perturbench.data.loading.observed import require_control_value
from perturbench.data.types import Batch, Example
from perturbench.errors import PerturbenchError, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perturbench.data.encoding import Context, Unknown
    from perturbench.data.groups import Pair


class Counterfactual(torch.utils.data.Dataset):
    """Every control cell of a state under each perturbation requested for that state (appendix A.2, listing 3).

    Cells are ordered by pair, then by control cell. ``gene_expression`` is always ``None``: a counterfactual is not
    observed, and where the pair was observed, the model must not see the answer.

    Parameters
    ----------
    cells
        Expression of all cells.
    groups
        States and perturbations of all cells.
    rows
        Cells whose control cells are used, ``(n_rows,)``.
    pairs
        Requested (state, perturbation) pairs.
    context
        Names of the model's training data, to encode with.
    unknown
        What to do with perturbations that the context does not have: ``"error"`` refuses them, ``"ignore"`` leaves them
        out of the encoding.
    max_control_cells
        Largest number of control cells per state; states with more are sampled. ``None`` uses all.
    seed
        Seed of that sample.

    Raises
    ------
    PerturbenchError
        If no pair is requested, a perturbation or covariate value is unknown, or a state has no control cells.
    """

    def __init__(
        self,
        cells: CellMatrix,
        groups: Groups,
        rows: np.ndarray,
        pairs: Sequence[Pair],
        context: Context,
        unknown: Unknown = "error",
        max_control_cells: int | None = None,
        seed: int = 0,
    ) -> None:
        require_control_value(groups.keys)
        if not pairs:
            raise PerturbenchError("no (state, perturbation) pair is requested; name at least one.")
        self.cells, self.groups, self.pairs, self.context = cells, groups, list(dict.fromkeys(pairs)), context
        states = {state: code for code, state in enumerate(groups.states)}
        if absent := [pair for pair in self.pairs if pair[0] not in states]:
            raise PerturbenchError(
                f"{len(absent)} requested pairs are in states that the data does not have: "
                f"{listing(map(pair_name, absent))}; states are: {listing(map(state_name, groups.states))}."
            )
        pool = ControlPool(groups, rows)
        state_codes = np.array([states[state] for state, _ in self.pairs])
        pool.require_controls(state_codes)
        self._controls = {
            code: _sample(pool.controls_of(code), max_control_cells, seed, code) for code in np.unique(state_codes)
        }
        self._state_codes = state_codes
        # Cells are located by arithmetic, because there can be millions: pair i has positions _starts[i] to _ends[i].
        self._ends = np.cumsum([len(self._controls[code]) for code in state_codes])
        self._starts = self._ends - [len(self._controls[code]) for code in state_codes]
        encoded = multi_hot([name for _, name in self.pairs], context, unknown)
        self.tables = EncodingTables(encoded, one_hot([state for state, _ in self.pairs], context))

    @classmethod
    def from_anndata(
        cls,
        adata: ad.AnnData,
        perturbation_key: str,
        perturbation_combination_delimiter: str | None = "+",
        covariate_keys: list[str] | None = None,
        perturbation_control_value: str | None = None,
        embedding_key: str | None = None,
        *,
        desired: Sequence[Pair] | None = None,
        context: Context | None = None,
        max_control_cells: int | None = None,
        seed: int = 0,
    ) -> tuple[Self, Context]:
        """Make a dataset of the control cells of ``adata`` under each requested perturbation.

        Parameters
        ----------
        adata
            Cells with log-normalised expression in ``X``, ``(n_cells, n_genes)``; its control cells are used.
        perturbation_key, perturbation_combination_delimiter, covariate_keys, perturbation_control_value, embedding_key
            See :meth:`SingleCellPerturbation.from_anndata`.
        desired
            Requested pairs ``((covariate values...), perturbation)``; by default, all pairs in ``adata``.
        context
            Names of the model's training data, to encode with; by default, the names in ``adata``.
        max_control_cells, seed
            Largest number of control cells per state, and the seed of the sample; see the class.

        Returns
        -------
        The dataset, and the context that it is encoded with.

        Raises
        ------
        PerturbenchError
            As for the class, and if a column is missing.
        """
        keys = Keys(
            perturbation=perturbation_key,
            covariates=tuple(covariate_keys or ()),
            control=perturbation_control_value,
            delimiter=perturbation_combination_delimiter,
        )
        groups = Groups.from_obs(adata.obs, keys)
        context = context or make_context(adata, groups, embedding_key=embedding_key)
        malformed = [pair for pair in desired or () if len(pair) != 2 or isinstance(pair[0], str)]
        if malformed:
            raise PerturbenchError(
                f"desired has {malformed[0]!r}; write each pair as ((covariate values...), perturbation)."
            )
        pairs = groups.pairs() if desired is None else [(tuple(state), keys.canonical(name)) for state, name in desired]
        cells = CellMatrix(adata, embedding_key)
        rows = np.arange(adata.n_obs)
        dataset = cls(cells, groups, rows, pairs, context, max_control_cells=max_control_cells, seed=seed)
        return dataset, context

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, key: int | slice | np.ndarray | Sequence[int] | BatchIndex) -> Any:
        if isinstance(key, (int, np.integer)):
            return self._example(range(len(self))[key])
        if isinstance(key, BatchIndex):
            return self._batch(np.asarray(key.positions))
        return self._batch(np.arange(len(self))[key])

    def indices(self, positions: np.ndarray, seed: int = 0) -> CellIndices:
        """Return the indices of the cells at ``positions``, ``(n_cells,)``; nothing is drawn, so ``seed`` is unused."""
        pairs, rows = self._locate(positions)
        return CellIndices.from_arrays(rows, pairs, pairs)

    def gather(self, indices: CellIndices) -> Batch:
        """Gather a batch on the device of the cells and ``indices``; its ``ids`` are not set."""
        self.tables.place(self.cells.device)
        embeddings = self.cells.embedding_rows(indices.rows)
        return Batch(
            gene_expression=None,
            controls=self.cells.rows(indices.rows),
            gene_names=self.cells.gene_array,
            embeddings=embeddings,
            control_embeddings=embeddings,
            groups=indices.perturbations,
            **self.tables.encode(indices),
        )

    def _locate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the position of the pair, and the row of the control cell, for each position in the dataset."""
        pairs = np.searchsorted(self._ends, positions, side="right")
        offsets = positions - self._starts[pairs]
        states = self._state_codes[pairs]
        rows = np.empty(len(positions), dtype=np.int64)
        for code in np.unique(states):
            here = states == code
            rows[here] = self._controls[code][offsets[here]]
        return pairs, rows

    def _example(self, position: int) -> Example:
        pair, row = self._locate(np.array([position]))
        state, condition = self.pairs[pair[0]]
        embedding = self.cells.embedding_rows(row)
        return Example(
            gene_expression=None,
            perturbations=list(self.groups.keys.singles(condition)),
            covariates=dict(zip(self.groups.keys.covariates, state, strict=True)),
            controls=self.cells.rows(row)[0],
            id=str(self.cells.ids[row[0]]),
            gene_names=self.cells.genes,
            embeddings=None if embedding is None else embedding[0],
        )

    def _batch(self, positions: np.ndarray) -> Batch:
        indices = self.indices(positions)
        return self.gather(indices.to(self.cells.device))._replace(ids=self.cells.ids[indices.rows.numpy()])


class CounterfactualWithReference(Counterfactual):
    """Counterfactuals of observed pairs, with the observed cells to evaluate against (appendix A.2, listing 4).

    Raises
    ------
    PerturbenchError
        As for :class:`Counterfactual`, and if a requested pair was not observed.
    """

    def __init__(
        self,
        cells: CellMatrix,
        groups: Groups,
        rows: np.ndarray,
        pairs: Sequence[Pair],
        context: Context,
        unknown: Unknown = "error",
        max_control_cells: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(cells, groups, rows, pairs, context, unknown, max_control_cells, seed)
        codes = groups.pair_codes(self.pairs)[rows]
        observed = np.bincount(codes[codes >= 0], minlength=len(self.pairs))
        if absent := [pair for pair, count in zip(self.pairs, observed, strict=True) if count == 0]:
            raise PerturbenchError(
                f"{len(absent)} requested pairs have no observed cells: {listing(map(pair_name, absent))}; "
                "use Counterfactual to predict pairs without a reference."
            )
        in_requested_state = np.isin(groups.state_codes[rows], self._state_codes)
        #: Rows of the observed cells of the pairs, and of the controls of their states.
        self.reference_rows = rows[(codes >= 0) | (groups.is_control[rows] & in_requested_state)]

    def reference(self) -> ad.AnnData:
        """Return the observed cells of the pairs and the controls of their states, annotated in ``obs``."""
        rows, groups = self.reference_rows, self.groups
        obs = pd.DataFrame(
            [groups.states[code] for code in groups.state_codes[rows]], columns=list(groups.keys.covariates)
        )
        obs[groups.keys.perturbation] = [groups.conditions[code] for code in groups.condition_codes[rows]]
        obs.index = pd.Index(self.cells.ids[rows].astype(str))
        return ad.AnnData(self.cells.x[rows], obs=obs.astype("category"), var=pd.DataFrame(index=self.cells.genes))


def _sample(controls: np.ndarray, max_cells: int | None, seed: int, state_code: int) -> np.ndarray:
    """Sample control cells of a state and return their rows, sorted.

    Each state has its own generator, so that the sample does not depend on which other states are requested.
    """
    if max_cells is None:
        return controls
    return np.sort(np.random.default_rng([seed, state_code]).permutation(controls)[:max_cells])
