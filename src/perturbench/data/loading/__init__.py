"""Torch datasets of observed and counterfactual cells, their batches, and the Lightning datamodule."""
