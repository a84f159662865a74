from .counterfactual import Counterfactual, CounterfactualWithReference
from .datamodule import PerturbationDataModule, batch_loader
from .encoding import Context
from .groups import Groups, Keys
from .simulation import simulate
from .singlecell import SingleCellPerturbation, SingleCellPerturbationWithControls
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
    "SingleCellPerturbation",
    "SingleCellPerturbationWithControls",
    "batch_loader",
    "simulate",
]
