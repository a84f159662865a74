"""``PlotlyDataset``: figures in the catalog. It has its own module because Plotly is slow to import."""

from __future__ import annotations

from kedro_datasets.plotly import JSONDataset as _JSONDataset

from perturbench.datasets.atomic import AtomicSave


class PlotlyDataset(AtomicSave, _JSONDataset):
    """Load and save a Plotly figure as JSON."""
