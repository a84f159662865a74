import numpy as np

from perturbench.data.random import INCREMENT, scramble, uniform


def test_splitmix64_reference_values():
    """The first outputs of the reference implementation (Vigna, splitmix64.c) with seed 1234567."""
    states = np.uint64(1234567) + np.arange(1, 6, dtype=np.uint64) * INCREMENT
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert scramble(states).tolist() == expected


def test_uniform_is_evenly_spread_below_one():
    draws = uniform(scramble(np.arange(100_000, dtype=np.uint64)))
    assert draws.dtype == np.float64
    assert np.ptp(np.histogram(draws, bins=10, range=(0, 1))[0]) < 1000
    assert uniform(np.array([2**64 - 1], dtype=np.uint64))[0] < 1
