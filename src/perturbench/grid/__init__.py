"""The grid of ``kedro benchmark``: which cells there are, which are up to date, and running the others."""
