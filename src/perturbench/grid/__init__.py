"""The grid of ``kedro benchmark``: decide which runs are stale, and run those."""
