"""Controls and verdicts, by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toymoe.attribution import controls, methods


def test_controls_by_hand(trained):
    scores = np.array([[1.0, 2, 4, 8], [0, 0, 0, 5]])
    usage = np.array([[0.1, 0.2, 0.5, 0.6], [0, 0.1, 0.2, 0.9]])
    # First layer, nearest two: 0.1: 0.2, 0.5; 0.2: 0.1, 0.5; 0.5: 0.6, 0.2; 0.6: 0.5, 0.2.
    expected = [[3, 2.5, 5, 3], [0, 0, 0, 0]]
    np.testing.assert_allclose(controls.usage_matched(scores, usage, 2), expected)
    drawn = controls.random_experts(scores, jax.random.key(0))
    assert set(drawn) == set(scores.flat)
    for value, experts in ((0, 3), (1, 1), (8, 1)):  # 4 standard errors
        share = experts / 8
        assert abs((drawn == value).mean() - share) < 4 * (share * (1 - share) / len(drawn)) ** 0.5


def test_controls_stand_beside_the_scores(trained):
    found = controls.with_controls("gate_contrast", trained, jax.random.key(0))
    np.testing.assert_array_equal(found.scores, methods.gate_contrast(trained))
    assert found.random.shape == (1000,) and found.usage_matched.shape == (2, 5)
    # Shuffled: nothing is left but chance.
    assert np.abs(found.shuffled).max() < np.abs(found.scores).max()
    other, again = (
        controls.with_controls("gate_contrast", trained, jax.random.key(seed)) for seed in (1, 0)
    )
    np.testing.assert_array_equal(again.shuffled, found.shuffled)
    assert (other.shuffled != found.shuffled).any()  # pairs shuffled anew by another key
    mirrored = dataclasses.replace(trained, hazards=trained.twins, twins=trained.hazards)
    np.testing.assert_allclose(
        methods.gate_contrast(mirrored), -np.asarray(found.scores), atol=1e-6
    )


def test_a_criterion_of_ones_own_has_the_controls_too(trained):
    def mine(e):
        hazards, twins = e.gates
        return jnp.abs(hazards[:, :, -1] - twins[:, :, -1]).mean(1)

    found = controls.with_controls(mine, trained, jax.random.key(0))
    np.testing.assert_allclose(found.shuffled, found.scores, atol=1e-6)  # it knows no direction


def test_a_verdict_by_hand(trained):
    """The score is the share of hazards that begin as they do unshuffled: 1, and less of others."""
    hazards = trained.hazards.tokens_BP

    def same(e):
        return np.array([[0.0, (e.hazards.tokens_BP == hazards).all(1).mean()]])

    said = controls.verdict(same, trained, jax.random.key(0))
    assert said.case == 1 and said.found and len(set(said.null)) > 5
    assert said.null == tuple(same(e)[0, 1] for e in controls.shuffled(trained, jax.random.key(0)))
    mean, sd = sum(said.null) / 19, np.std(said.null)
    assert said.statistic == pytest.approx((1 - mean) / (sd + 0.001), rel=1e-6)
    # Knowing no direction, or nothing of the pairs at all, is no case, however high the score.

    def both(e):
        return np.array([(np.float32(e.hazards.tokens_BP) + e.twins.tokens_BP).mean(0)])

    for blind in (both, lambda e: np.array([[0.1, 0.01]])):
        some = controls.verdict(blind, trained, KEY)
        assert not some.found and some.statistic == 0 and min(some.null) > 0
    assert not controls.verdict(lambda e: np.zeros((1, 2)), trained, KEY).found


def test_rounding_is_no_case():
    assert not controls.Verdict(1 + 1e-8, (1.0,) * 19).found
    assert not controls.Verdict(-1 + 1e-8, (-1.0,) * 19).found
    assert controls.Verdict(1.001, (1.0,) * 19).found
    assert controls.Verdict(-0.5, (-1.0,) * 19).found


def test_what_knows_nothing_has_a_case_once_in_twenty():
    class Anything:
        def shuffled(self, key):
            return self

    rng, n = np.random.default_rng(0), 600
    found = [
        controls.verdict(lambda e: rng.random((2, 3)), Anything(), KEY).found for _ in range(n)
    ]
    assert abs(np.mean(found) - 0.05) < 3 * (0.05 * 0.95 / n) ** 0.5


def test_a_model_that_cannot_refuse_gives_no_case(trained):
    """All scores are 0 there: nothing is above them, and they are above nothing."""
    before = dataclasses.replace(trained, params=trained.before)
    none = controls.verdict("ablation_refusal", before, KEY)
    assert none.case == max(none.null) == none.statistic == 0 and not none.found


KEY = jax.random.key(1)
