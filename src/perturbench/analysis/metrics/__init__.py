"""Metrics: the registry, and the modules that register their metrics in it."""
