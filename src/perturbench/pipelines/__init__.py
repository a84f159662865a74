"""The stages of the chain, thin nodes over the library."""
