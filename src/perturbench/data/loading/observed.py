"""Torch datasets of observed cells, with and without matched controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch.utils.data import Dataset

from perturbench.data.encoding import make_context, multi_hot, one_hot
from perturbench.data.groups import Groups, Keys
from perturbench.data.loading.cell_matrix import CellMatrix
from perturbench.data.loading.indices import BatchIndex, CellIndices, EncodingTables
from perturbench.data.loading.matching import ControlPool
from perturbench.data.types import Batch, Example
from perturbench.errors import PerturbenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import anndata as ad

    from perturbench.data.encoding import Context, Unknown


class SingleCellPerturbation(Dataset):
    """Observed cells (appendix A.2, listing 1).

    ``dataset[i]`` returns one cell as an :class:`Example` with readable names. ``dataset[array]`` and
    ``dataset[BatchIndex]`` return an encoded :class:`Batch`, computed without a loop over its cells.

    Parameters
    ----------
    cells
        Expression of all cells.
    groups
        States and perturbations of all cells.
    rows
        Cells in this dataset, ``(n_rows,)``.
    context
        Names to encode with. Validation data is encoded with the context of the training data.
    unknown
        What to do with perturbations that the context does not have: ``"error"`` refuses them, ``"ignore"`` leaves them
        out of the encoding.
    """

    def __init__(
        self,
        cells: CellMatrix,
        groups: Groups,
        rows: np.ndarray,
        context: Context,
        unknown: Unknown = "error",
    ) -> None:
        self.cells, self.groups, self.rows, self.context = cells, groups, rows, context
        # Every perturbation and state is encoded once, here; a batch then looks up rows of these tables by code. Only
        # those of this dataset are encoded, because others may be unknown to the context.
        present = np.unique(groups.condition_codes[rows])
        perturbations = np.zeros((len(groups.conditions), len(context["perturbation_uniques"])), np.float32)
        perturbations[present] = multi_hot([groups.conditions[code] for code in present], context, unknown)
        states = np.unique(groups.state_codes[rows])
        covariates = {}
        for key, encoded in one_hot([groups.states[code] for code in states], context).items():
            covariates[key] = np.zeros((len(groups.states), encoded.shape[1]), np.float32)
            covariates[key][states] = encoded
        self.tables = EncodingTables(perturbations, covariates)

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
        context: Context | None = None,
    ) -> tuple[Self, Context]:
        """Make a dataset of all cells of ``adata``.

        Parameters
        ----------
        adata
            Cells with log-normalised expression in ``X``, ``(n_cells, n_genes)``, sparse or dense.
        perturbation_key
            Column of ``obs`` with the perturbations.
        perturbation_combination_delimiter
            Text between the single perturbations of a combination; ``None`` if there are no combinations.
        covariate_keys
            Columns of ``obs`` that make up a cell's state.
        perturbation_control_value
            Value of ``perturbation_key`` for control cells.
        embedding_key
            Key of ``obsm`` with cell embeddings.
        context
            Names to encode with; by default, the names in ``adata``.

        Returns
        -------
        The dataset, and the context that it is encoded with.

        Raises
        ------
        PerturbenchError
            If a column or the embedding is missing, or ``context`` does not have a name.

        Examples
        --------
        >>> dataset, context = SingleCellPerturbation.from_anndata(adata, "condition", "+", ["cell_type"], "control")
        >>> dataset[0].perturbations  # doctest: +SKIP
        ['KLF1']
        """
        keys = Keys(
            perturbation=perturbation_key,
            covariates=tuple(covariate_keys or ()),
            control=perturbation_control_value,
            delimiter=perturbation_combination_delimiter,
        )
        groups = Groups.from_obs(adata.obs, keys)
        context = context or make_context(adata, groups, embedding_key=embedding_key)
        cells = CellMatrix(adata, embedding_key)
        return cls(cells, groups, np.arange(adata.n_obs), context), context

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | slice | np.ndarray | Sequence[int] | BatchIndex) -> Any:
        if isinstance(key, (int, np.integer)):
            return self._example(range(len(self))[key])
        if isinstance(key, BatchIndex):
            return self._batch(np.asarray(key.positions), key.seed)
        return self._batch(np.arange(len(self))[key], 0)

    def indices(self, positions: np.ndarray, seed: int) -> CellIndices:
        """Return the indices of the cells at ``positions``, ``(n_cells,)``; ``seed`` matches their controls."""
        rows = self.rows[positions]
        return CellIndices.from_arrays(rows, self.groups.condition_codes[rows], self.groups.state_codes[rows])

    def gather(self, indices: CellIndices) -> Batch:
        """Gather a batch on the device of the cells and ``indices``; its ``ids`` are not set."""
        self.tables.place(self.cells.device)
        return Batch(
            gene_expression=self.cells.rows(indices.rows),
            gene_names=self.cells.gene_array,
            embeddings=self.cells.embedding_rows(indices.rows),
            **self.tables.encode(indices),
        )

    def perturbation_counts(self) -> torch.Tensor:
        """Return the number of cells with each single perturbation, ``(n_perturbations,)`` float32."""
        encoded = self.tables.multi_hot.cpu()
        counts = np.bincount(self.groups.condition_codes[self.rows], minlength=len(encoded))
        return torch.from_numpy(counts.astype(np.float32)) @ encoded

    def most_singles(self) -> int:
        """Return the largest number of perturbations that a cell has, at least 1."""
        encoded = self.tables.multi_hot.cpu()[np.unique(self.groups.condition_codes[self.rows])]
        return max(1, int(encoded.sum(dim=1).max()))

    def _example(self, position: int) -> Example:
        row = self.rows[[position]]
        embedding = self.cells.embedding_rows(row)
        state = self.groups.states[self.groups.state_codes[row[0]]]
        return Example(
            gene_expression=self.cells.rows(row)[0],
            perturbations=list(self.groups.keys.singles(self.groups.conditions[self.groups.condition_codes[row[0]]])),
            covariates=dict(zip(self.groups.keys.covariates, state, strict=True)),
            id=str(self.cells.ids[row[0]]),
            gene_names=self.cells.genes,
            embeddings=None if embedding is None else embedding[0],
        )

    def _batch(self, positions: np.ndarray, seed: int) -> Batch:
        batch = self.gather(self.indices(positions, seed).to(self.cells.device))
        return batch._replace(ids=self.cells.ids[self.rows[positions]])


class SingleCellPerturbationWithControls(SingleCellPerturbation):
    """Observed cells, each with a random control cell of the same state (appendix A.2, listing 2).

    Parameters
    ----------
    cells, groups, rows, context, unknown
        See :class:`SingleCellPerturbation`.
    control_rows
        Cells whose control cells are matched, ``(n_rows,)``; by default ``rows``. A dataset without control cells of
        its own needs it.

    Raises
    ------
    PerturbenchError
        If no control value is given, or a state has no control cells.
    """

    def __init__(
        self,
        cells: CellMatrix,
        groups: Groups,
        rows: np.ndarray,
        context: Context,
        unknown: Unknown = "error",
        control_rows: np.ndarray | None = None,
    ) -> None:
        super().__init__(cells, groups, rows, context, unknown)
        require_control_value(groups.keys)
        self._pool = ControlPool(groups, rows if control_rows is None else control_rows)
        self._pool.require_controls(groups.state_codes[rows])

    def indices(self, positions: np.ndarray, seed: int) -> CellIndices:
        """Return the indices of the cells at ``positions``, ``(n_cells,)``; ``seed`` matches their controls."""
        indices = super().indices(positions, seed)
        return indices._replace(controls=torch.from_numpy(self._match(self.rows[positions], seed)))

    def gather(self, indices: CellIndices) -> Batch:
        """Gather a batch on the device of the cells and ``indices``; its ``ids`` are not set."""
        assert indices.controls is not None
        controls, embeddings = self.cells.rows(indices.controls), self.cells.embedding_rows(indices.controls)
        return super().gather(indices)._replace(controls=controls, control_embeddings=embeddings)

    def _example(self, position: int) -> Example:
        control = self._match(self.rows[[position]], 0)
        return super()._example(position)._replace(controls=self.cells.rows(control)[0])

    def _match(self, rows: np.ndarray, seed: int) -> np.ndarray:
        return self._pool.match(rows, self.groups.state_codes[rows], seed)


def require_control_value(keys: Keys) -> None:
    """Raise unless ``keys`` names the control.

    Raises
    ------
    PerturbenchError
        If ``keys.control`` is ``None``.
    """
    if keys.control is None:
        raise PerturbenchError(
            "perturbation_control_value is None, but control cells are needed; set it to the value of column "
            f"'{keys.perturbation}' that marks control cells."
        )
