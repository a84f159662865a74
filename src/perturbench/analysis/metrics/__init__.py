"""The metrics: a registry, and files that register into it."""
