"""Sums of expression by group."""

import numpy as np

from perturbench.data.group_sums import GroupSums


def test_group_sums_leave_out_minus_one():
    sums = GroupSums(3, 2)
    sums.add(np.array([[1.0, 2.0], [np.nan, np.inf], [3.0, 4.0]]), np.array([0, -1, 0]))
    sums.add(np.array([[5.0, 6.0]], dtype=np.float32), np.array([2]))
    assert sums.counts.tolist() == [2, 0, 1]
    assert sums.means[[0, 2]].tolist() == [[2.0, 3.0], [5.0, 6.0]]
    assert np.isnan(sums.means[1]).all()
