from .anndata_dataset import AnnDataDataset
from .atomic import CSVDataset, JSONDataset, ParquetDataset, PlotlyDataset, TextDataset, YAMLDataset
from .checkpoint_dataset import CheckpointDataset
from .partitions import OptionalPartitionedDataset
from .table_dataset import TableDataset

__all__ = [
    "AnnDataDataset",
    "CSVDataset",
    "CheckpointDataset",
    "JSONDataset",
    "OptionalPartitionedDataset",
    "ParquetDataset",
    "PlotlyDataset",
    "TableDataset",
    "TextDataset",
    "YAMLDataset",
]
