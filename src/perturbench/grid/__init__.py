"""The grid of ``kedro benchmark``: its runs, which of them are up to date, and how the others are run."""
