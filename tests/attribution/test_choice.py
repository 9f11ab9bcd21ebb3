"""Choices of experts by hand."""

import numpy as np
import pytest

from toymoe.attribution import choice
from toymoe.config import ConfigError

pytestmark = pytest.mark.core
SCORES = np.array([[0.9, 0.1, 0.5, 0.0], [0.4, 0.8, 0.2, 0.3]])


def chosen(mask):
    return set(map(tuple, np.argwhere(mask).tolist()))


def test_the_highest_scores_are_chosen():
    assert chosen(choice.highest(SCORES, 3)) == {(0, 0), (1, 1), (0, 2)}
    assert chosen(choice.highest(SCORES, 3, layers=1)) == {(1, 1), (1, 0), (1, 3)}
    assert choice.highest(SCORES, 8).all()
    assert chosen(choice.highest(SCORES, 4, leave=2)) == {(0, 0), (0, 2), (1, 1), (1, 0)}
    for n, layers in ((0, None), (9, None), (5, 1)):
        with pytest.raises(ConfigError, match=f"{n} experts are not possible"):
            choice.highest(SCORES, n, layers)


def test_random_choices_are_as_many_anywhere():
    like = choice.highest(SCORES, 3)
    rng = np.random.default_rng(0)
    counts = sum(choice.random(like, rng).astype(int) for _ in range(400))
    assert counts.sum() == 1200 and counts.min() > 100


def test_matched_choices_are_others_of_near_usage():
    usage = np.array([[0.1, 0.12, 0.5, 0.9], [0.3, 0.2, 0.6, 0.7]])
    like = np.array([[True, False, False, False], [False, False, True, True]])
    rng = np.random.default_rng(0)
    for _ in range(20):
        made = choice.matched(like, usage, rng, near=1)
        assert chosen(made) == {(0, 1), (1, 0), (1, 1)}
    everything = np.ones((1, 3), bool)
    assert choice.matched(everything, np.ones((1, 3)), rng).all()
