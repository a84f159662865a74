"""Catalog dataset types of this project, imported on first use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "anndata_dataset": ["AnnDataDataset"],
        "atomic": ["CSVDataset", "JSONDataset", "ParquetDataset", "PlotlyDataset", "TextDataset", "YAMLDataset"],
        "checkpoint_dataset": ["CheckpointDataset"],
        "partitions": ["OptionalPartitionedDataset"],
        "table_dataset": ["TableDataset"],
    },
)
