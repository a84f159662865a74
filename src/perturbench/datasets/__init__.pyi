from .anndata_dataset import AnnDataDataset
from .atomic import JSONDataset, TextDataset, YAMLDataset
from .checkpoint_dataset import CheckpointDataset
from .partitions import OptionalPartitionedDataset
from .plotly_dataset import PlotlyDataset
from .tables import CSVDataset, ParquetDataset, TableDataset

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
