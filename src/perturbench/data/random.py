"""Random numbers that depend on a key alone, not on the order or the process in which they are drawn.

NumPy's generators draw streams of numbers, so a reproducible number per cell or gene would need one generator for each.
"""

from __future__ import annotations

import numpy as np

#: Increment of SplitMix64: 2**64 divided by the golden ratio.
INCREMENT = np.uint64(0x9E3779B97F4A7C15)


def scramble(bits: np.ndarray) -> np.ndarray:
    """Return well-mixed 64 bits for each key (the output function of SplitMix64), uint64 of the same shape.

    Source: Steele, Lea and Flood 2014, doi 10.1145/2714064.2660195.
    """
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def uniform(bits: np.ndarray) -> np.ndarray:
    """Return scrambled bits as numbers in [0, 1), float64 of the same shape."""
    return (bits >> np.uint64(11)) * 2.0**-53
