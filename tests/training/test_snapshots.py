"""Which steps are recorded; `test_phases` compares what is."""

import math

import numpy as np
import pytest

from toymoe.training import snapshots

pytestmark = pytest.mark.core


@pytest.mark.parametrize("total", [1, 2, 3, 7, 16, 100, 400, 800, 12345])
def test_record_steps_crowd_early(total):
    at = snapshots.record_steps(total)
    assert at[0] == 0 and at[-1] == total
    assert all(type(step) is int for step in at) and at == sorted(set(at))
    gaps = np.diff(at)
    assert gaps.max() <= math.ceil(total / 16)
    assert len(at) < 50
    early = [step for step in at if step <= total / 4]
    if total >= 100:
        assert at[:3] == [0, 1, 2]
        # Crowded: the first quarter has more records than an even spacing gives it.
        assert len(early) > 0.4 * len(at)


@pytest.mark.parametrize("total, chunk", [(400, 25), (500, 25), (400, 100), (30, 7), (25, 25)])
@pytest.mark.parametrize("n", [0, 1, 5, 100])
def test_kept_steps_are_ends_of_chunks_and_crowd_early(total, chunk, n):
    at = snapshots.kept_steps(total, chunk, n)
    assert len(at) <= n and at == sorted(set(at))
    assert all(type(step) is int and 0 < step < total and step % chunk == 0 for step in at)
    if n and total > chunk:
        assert at[0] == chunk
        gaps = np.diff([*at, total])
        assert total % chunk or gaps[-1] == gaps.max()
    if (total, chunk, n) == (400, 25, 5):
        assert at == [25, 50, 75, 125, 225]
