"""GEARS: its graphs, its network, and the model that trains them."""
