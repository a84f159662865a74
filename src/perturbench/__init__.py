"""PerturBench: train, compare and trust models of single-cell perturbation responses."""

__version__ = "0.1.0"
