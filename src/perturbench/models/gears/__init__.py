"""GEARS: its graphs, its network, and the model around them."""
