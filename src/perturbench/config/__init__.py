"""Configuration: typed sections of the parameters, and the loader that selects them for a run."""
