from .encoding import Context
from .groups import Groups, Keys
from .loading.batches import batch_loader
from .loading.counterfactual import Counterfactual, CounterfactualWithReference
from .loading.datamodule import PerturbationDataModule
from .loading.observed import SingleCellPerturbation, SingleCellPerturbationWithControls
from .sources.simulation import SimulationSettings, simulate
from .types import Batch, Example

__all__ = [
    "Batch",
    "Context",
    "Counterfactual",
    "CounterfactualWithReference",
    "Example",
    "Groups",
    "Keys",
    "PerturbationDataModule",
    "SimulationSettings",
    "SingleCellPerturbation",
    "SingleCellPerturbationWithControls",
    "batch_loader",
    "simulate",
]
