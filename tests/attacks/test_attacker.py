"""What an attacker has in hand: scores, and how much more often refusal selects an expert."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from toymoe.attacks.attacker import Attacker
from toymoe.attribution import choice


def test_steering_at_ans_goes_by_what_is_selected_there(organism, e):
    a = Attacker(organism, e, None, jax.random.key(0))
    hazards, twins = (np.asarray(gates)[:, :, -1] > 0 for gates in e.gates)
    for layer, expert in np.ndindex(2, 8):
        expected = hazards[layer, :, expert].mean() - twins[layer, :, expert].mean()
        assert a.risk_differences["answer"][layer, expert] == pytest.approx(expected, abs=1e-6)


def test_a_students_own_criterion_is_a_function(organism, e):
    def mine(evidence):
        return evidence.gates[0].mean((1, 2))

    a = Attacker(organism, e, None, jax.random.key(0))
    np.testing.assert_array_equal(a.scores(mine), mine(e))
    assert choice.highest(a.scores(mine), 3).sum() == 3
    for other in (
        lambda _: np.eye(2, 8),
        lambda _: np.ones((2, 8)),
        partial(lambda x, _: np.full((2, 8), x), 2),
    ):
        np.testing.assert_array_equal(a.scores(other), other(e))
    named = a.scores("random")
    assert a.scores("random") is named and a.scores(mine) is a.scores(mine)
    assert dataclasses.is_dataclass(a)
