"""Controls and verdicts, by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toymoe.attribution import controls, methods
from toymoe.attribution.evidence import EvidenceError


def test_controls_by_hand(trained):
    scores = np.array([[1.0, 2, 4, 8], [0, 0, 0, 5]])
    usage = np.array([[0.1, 0.2, 0.5, 0.6], [0, 0.1, 0.2, 0.9]])
    # First layer, nearest two: 0.1: 0.2, 0.5; 0.2: 0.1, 0.5; 0.5: 0.6, 0.2; 0.6: 0.5, 0.2.
    expected = [[3, 2.5, 5, 3], [0, 0, 0, 0]]
    np.testing.assert_allclose(controls.usage_matched(scores, usage, 2), expected)
    pairs = controls.random_experts(scores, jax.random.key(0), top=2, draws=4000)
    sums = {(a + b) / 2 for i, a in enumerate(scores.flat) for b in scores.flat[i + 1 :]}
    assert set(pairs) == sums and pairs.mean() == pytest.approx(2.5, abs=0.15)
    everything = controls.random_experts(scores, jax.random.key(0), top=8, draws=3)
    np.testing.assert_allclose(everything, 2.5)


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


def test_a_verdict_asks_for_more_than_there_was_before_alignment_in_every_resample(trained):
    def verdict(scores, before, e=trained):
        def method(some):
            return np.array(before if some.params is e.pretrained else scores(some))

        return controls.verdict(method, e, jax.random.key(0))

    sure = verdict(lambda e: [[0.0, 3.0], [1.0, 2.0]], [[0.5, 0.5], [-2.9, 1.0]])
    assert (sure.layer, sure.expert, sure.score, sure.threshold) == (0, 1, 3.0, 2.9)
    assert sure.found and type(sure.expert) is int
    assert not verdict(lambda e: [[0.0, 3.0]], [[0.5, -3.0]]).found  # as large before, downwards
    # A single prompt of many: some resample is without it.
    row = trained.hazards.tokens_BP[0]
    one = verdict(lambda e: [[(e.hazards.tokens_BP == row).all(1).mean(), -1.0]], [[0.0, 0.0]])
    assert one.score > 0 and one.least == 0 and not one.found
    with pytest.raises(EvidenceError, match="no pretrained checkpoint"):
        bare = dataclasses.replace(trained, pretrained=None)
        controls.verdict("ablation_refusal", bare, jax.random.key(0))
