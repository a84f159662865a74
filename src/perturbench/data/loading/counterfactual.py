"""Wanted cells that nobody observed: these control cells under that perturbation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import anndata as ad
import numpy as np
import pandas as pd
import torch

from perturbench.data.encoding import make_context, multi_hot, one_hot
from perturbench.data.groups import Groups, Keys, pair_name
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
    """Every control cell of a state under every perturbation wanted there (appendix A.2, listing 3).

    Cells are ordered by pair, then by control cell. A batch carries no ``gene_expression``: there is none, and where
    there is, the model must not see it.

    Parameters
    ----------
    cells
        Expression of all cells.
    groups
        Codes of all cells.
    rows
        Where control cells are taken from, ``(n_rows,)``.
    pairs
        The wanted (state, perturbation) pairs.
    context
        Names of the model's training data, to encode with.
    unknown
        Whether perturbations outside the context are refused or left out of the encoding.
    max_control_cells
        Use at most this many control cells per state (a random choice with ``seed``); ``None`` for all.

    Raises
    ------
    PerturbenchError
        If nothing is wanted, a perturbation or covariate value is unknown, or a state has no control cell.
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
            raise PerturbenchError("no (state, perturbation) pair is wanted; name at least one.")
        self.cells, self.groups, self.pairs, self.context = cells, groups, list(dict.fromkeys(pairs)), context
        states = {state: code for code, state in enumerate(groups.states)}
        if absent := [pair for pair in self.pairs if pair[0] not in states]:
            raise PerturbenchError(
                f"no cells of the state of {len(absent)} wanted pairs: {listing(map(pair_name, absent))}; "
                f"states are: {listing(groups.states)}."
            )
        pool = ControlPool(groups, rows)
        state_codes = np.array([states[state] for state, _ in self.pairs])
        pool.require(state_codes)
        self._controls = {
            code: _choose(pool.of_state(code), max_control_cells, seed, code) for code in np.unique(state_codes)
        }
        self._state_codes = state_codes
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
        """Make a dataset from the control cells of ``adata``.

        Parameters
        ----------
        adata
            Cells with log-normalised expression in ``X``, ``(n_cells, n_genes)``; its controls are used.
        perturbation_key, perturbation_combination_delimiter, covariate_keys, perturbation_control_value, embedding_key
            As in :meth:`SingleCellPerturbation.from_anndata`.
        desired
            Wanted pairs ``((covariate values...), perturbation)``; all pairs of ``adata`` if not given.
        context
            Names of the model's training data; the data's own if not given.
        max_control_cells, seed
            Bound the control cells per state.

        Returns
        -------
        The dataset and its context.

        Raises
        ------
        PerturbenchError
            As the class, and if a column is missing.
        """
        keys = Keys(
            perturbation=perturbation_key,
            covariates=tuple(covariate_keys or ()),
            control=perturbation_control_value,
            delimiter=perturbation_combination_delimiter,
        )
        groups = Groups.from_obs(adata.obs, keys)
        context = context or make_context(adata, groups, embedding_key=embedding_key)
        if desired is not None and (odd := [pair for pair in desired if len(pair) != 2 or isinstance(pair[0], str)]):
            raise PerturbenchError(f"desired has {odd[0]!r}; each pair is ((covariate values...), perturbation).")
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
        """Return what a batch of the cells at these positions, ``(n_cells,)``, gathers; there is nothing to seed."""
        pairs, rows = self._locate(positions)
        return CellIndices.of(rows, pairs, pairs)

    def gather(self, indices: CellIndices) -> Batch:
        """Return the batch of these indices; it lies where they and the cells lie, and has no ``ids``."""
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
        """Return the pair and the control row of each position."""
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
    """Counterfactuals whose answer was observed: what an evaluation needs (appendix A.2, listing 4).

    Raises
    ------
    PerturbenchError
        As :class:`Counterfactual`, and if a wanted pair was not observed.
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
                f"no observed cells of {len(absent)} wanted pairs: {listing(map(pair_name, absent))}; "
                "without a reference use Counterfactual."
            )
        in_wanted_state = np.isin(groups.state_codes[rows], self._state_codes)
        #: Rows of the observed cells of the pairs, and of the controls of their states.
        self.reference_rows = rows[(codes >= 0) | (groups.is_control[rows] & in_wanted_state)]

    def reference(self) -> ad.AnnData:
        """Return the observed cells of the pairs and the controls of their states, with the keys in ``obs``."""
        rows, groups = self.reference_rows, self.groups
        obs = pd.DataFrame(
            [groups.states[code] for code in groups.state_codes[rows]], columns=list(groups.keys.covariates)
        )
        obs[groups.keys.perturbation] = [groups.conditions[code] for code in groups.condition_codes[rows]]
        obs.index = pd.Index(self.cells.ids[rows].astype(str))
        return ad.AnnData(self.cells.x[rows], obs=obs.astype("category"), var=pd.DataFrame(index=self.cells.genes))


def _choose(controls: np.ndarray, at_most: int | None, seed: int, state_code: int) -> np.ndarray:
    """Return some control rows of a state, sorted; which ones does not depend on the other states that are wanted."""
    if at_most is None:
        return controls
    return np.sort(np.random.default_rng([seed, state_code]).permutation(controls)[:at_most])
