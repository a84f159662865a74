"""Sums of predicted cells per pair."""

import numpy as np
import torch

from perturbench.data.loading.pair_sums import PairSums


def test_sums_are_those_of_each_pair_over_all_batches():
    rng = np.random.default_rng(0)
    cells, codes = rng.normal(size=(50, 4)).astype(np.float32), rng.choice([0, 1, 3], 50)
    sums = PairSums(4, 4, torch.device("cpu"))
    for rows in (slice(0, 20), slice(20, 50)):
        sums.add(torch.from_numpy(cells[rows]), torch.from_numpy(codes[rows]))
    found, counts = sums.to_host()
    assert counts.tolist() == np.bincount(codes, minlength=4).tolist()
    for code in range(4):
        np.testing.assert_allclose(found[code], cells[codes == code].astype(float).sum(axis=0), atol=1e-12)
