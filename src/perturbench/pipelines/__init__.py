"""The stages of the project: thin Kedro nodes over the library."""
