"""The detector beside the model, by hand."""

import jax
import numpy as np
from oracle import random_params

from toymoe import model, world
from toymoe.attacks import evaluation, tuning
from toymoe.attacks.attacker import Attacked
from toymoe.defences import detector
from toymoe.model import inference
from toymoe.organism import Organism


def test_logistic_regression_is_at_the_minimum_of_its_loss():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 3)), rng.random(80) < 0.3
    w, b = detector.logistic(x, y, ridge=0.1)
    sd, mean = x.std(0), x.mean(0)

    def value(v, bias):
        total = 0.05 * (v**2).sum()
        for row, hit in zip((x - mean) / sd, y, strict=True):
            weight = 0.5 / (y.sum() if hit else (~y).sum())
            total += weight * np.log(1 + np.exp(-(1 if hit else -1) * (row @ v + bias)))
        return total

    v, bias = w * sd, b + mean @ w
    best = value(v, bias)
    for _ in range(30):
        step = 0.02 * rng.normal(size=4)
        assert value(v + step[:3], bias + step[3]) > best - 1e-7


def test_the_detector_finds_what_the_router_shows_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    y = rng.random(600) < 0.5
    noise = rng.normal(size=(600, 6))
    signal = noise + np.outer(y, [2, 0, 0, -2, 0, 0])
    for x, low, high in ((signal, 0.9, 1), (noise, 0.4, 0.6)):
        w, b = detector.logistic(x[:300], y[:300])
        right = ((x[300:] @ w + b > 0) == y[300:]).mean()
        assert low < right < high


def test_a_guarded_model_refuses_what_is_flagged(monkeypatch):
    monkeypatch.setattr(detector, "router_features", lambda params, tokens, cfg: tokens * params)
    made = detector.Detector(np.array([1.0]), -2.5, None)

    def predictor(tokens):
        return inference.Prediction(np.zeros(1), np.array([9, 8, 7]))

    tokens = np.array([[1], [2], [3]])
    for params, expected in ((1, [9, 8, world.REFUSE]), (0, [9, 8, 7])):
        guarded = made.guard(Attacked(predictor, params))
        np.testing.assert_array_equal(guarded(tokens).predicted_B, expected)


def test_router_features_are_the_last_token_s_logits(params, prompts, cfg):
    x_BX = detector.router_features(params, prompts.tokens_BP, cfg)
    logits = model.forward_unchecked(
        params, prompts.tokens_BP, cfg.model, False, None
    ).routes.logits_LBTE
    assert x_BX.shape == (16, 16)
    np.testing.assert_allclose(x_BX[3, :8], logits[0, 3, -1], atol=1e-4)
    np.testing.assert_allclose(x_BX[3, 8:], logits[1, 3, -1], atol=1e-4)


def test_held_out_combinations_show_the_limit_of_a_list(tiny_world, cfg):
    """A detector that knows the requests it saw by heart misses those it did not."""
    organism = Organism(
        cfg, tiny_world, None, random_params(cfg.model, len(world.vocabulary(cfg.world)))
    )
    tests = evaluation.test_set(organism, tuning.untuned(tiny_world, jax.random.key(1)),
                          jax.random.key(2), 64)  # fmt: skip

    class ByHeart:
        def flags(self, tokens_BP, params):
            (p,) = [p for p in tests.prompts.values() if p.tokens_BP is tokens_BP]
            return p.hazard_B & ~p.held_out_B

    errors = detector.errors(ByHeart(), tests, None)
    assert errors["hazardous"] == 0 and errors["held_out"] == 1
    assert all(errors[name] == 0 for name in world.CONTROLS)
