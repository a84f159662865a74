"""Parameters: typed sections, and the loader that layers them."""
