"""Torch datasets and the Lightning datamodule."""
