"""Data abstractions of the paper: examples, batches, datasets, the datamodule, splits and simulation."""

import lazy_loader

# Lazy: reading the names of perturbations must not cost an import of torch.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "counterfactual": ["Counterfactual", "CounterfactualWithReference"],
        "datamodule": ["PerturbationDataModule", "batch_loader"],
        "encoding": ["Context"],
        "groups": ["Groups", "Keys"],
        "simulation": ["simulate"],
        "singlecell": ["SingleCellPerturbation", "SingleCellPerturbationWithControls"],
        "types": ["Batch", "Example"],
    },
)
