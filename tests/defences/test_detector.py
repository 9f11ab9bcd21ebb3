"""Defences: the loss they add, what may learn, the detector and break counts, by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import random_params

from toymoe import model, world
from toymoe.attacks import raset, tuning
from toymoe.config import TrainConfig
from toymoe.defences import alignment, detector
from toymoe.model import inference
from toymoe.organism import Organism
from toymoe.training import phases

loss = jax.jit(alignment.loss, static_argnums=6)


@pytest.fixture(scope="module")
def cfg(tiny):
    return dataclasses.replace(
        tiny, train=TrainConfig(align_steps=6, batch=16, warmup=2, align_learning_rate=1e-2)
    )


@pytest.fixture(scope="module")
def params(cfg):
    return jax.tree.map(jnp.asarray, random_params(cfg.model, len(world.vocabulary(cfg.world))))


@pytest.fixture(scope="module")
def prompts(tiny_world, cfg):
    return world.sample(jax.random.key(0), tiny_world, cfg.world, 16, "mixed", False)


@pytest.fixture(scope="module")
def tokens_BT(prompts):
    return world.respond(prompts, prompts.hazard_B)


def closed(cfg, *dropped):
    made = np.zeros((cfg.model.layers, 16, cfg.model.experts), bool)
    for layer, expert in dropped:
        made[layer, :, expert] = True
    return jnp.asarray(made)


def changed(a, b):
    return {
        jax.tree_util.keystr(path)
        for (path, x), y in zip(
            jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True
        )
        if not np.array_equal(x, y)
    }


def test_a_small_model_has_no_more_experts_to_learn_in_than_it_has(
    monkeypatch, params, tiny_world, cfg
):
    monkeypatch.setattr(alignment, "align", lambda *asked: asked[-1])
    organism = Organism(cfg, tiny_world, params, params)
    for most_used, expected in ((3, 3), (99, 16)):
        defence = alignment.Defence(most_used=most_used)
        assert detector.defend(organism, defence, pairs=16).aligned.sum() == expected


# --- aligning -----------------------------------------------------------------------------------


def test_without_a_defence_it_is_the_loss_of_training(params, tokens_BT, cfg):
    plain = phases.loss(params, tokens_BT, cfg)
    made = loss(params, tokens_BT, closed(cfg), params, 0.0, 0.0, cfg)
    assert float(made) == pytest.approx(float(plain), rel=1e-5)


def test_plain_alignment_is_that_of_training(params, tiny_world, cfg):
    """The same steps as `toymoe.training.phases` takes, on the same prompts."""
    made = alignment.align(params, tiny_world, cfg, alignment.Defence())
    phase = phases.run_phase(
        phases.start(params, cfg), 0, tiny_world, np.zeros((1, 10), int), cfg, "align"
    )
    *_, last = phase
    for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(last.state.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_a_closed_expert_is_never_selected_and_does_not_learn(params, tokens_BT, cfg):
    grads = jax.grad(loss)(params, tokens_BT, closed(cfg, (1, 3)), params, 0.0, 0.0, cfg)
    unused_LE = np.abs(np.asarray(grads["layers"]["experts"]["down"])).max((2, 3)) == 0
    assert unused_LE[1, 3] and unused_LE.sum() < unused_LE.size


def test_dropout_closes_the_share_of_experts():
    dropped = np.asarray(alignment.drop(jax.random.key(0), (2, 50, 8), 0.25))
    assert (dropped.sum(-1) == 2).all() and (dropped.mean((0, 1)) > 0.1).all()
    assert not np.asarray(alignment.drop(jax.random.key(0), (2, 50, 8), 0.0)).any()


def test_hazard_balance_by_hand():
    """Two hazards on experts 0 and 1, a harmless prompt that must not count."""
    probs = jnp.array([[[0.6, 0.2, 0.2], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]]])
    experts = jnp.array([[[0], [1], [2]]])
    hazards = jnp.array([True, True, False])
    # f = (1/2, 1/2, 0), P = (.35, .5, .15): 3 (.175 + .25)
    assert float(alignment.hazard_balance(probs, experts, hazards)) == pytest.approx(1.275)
    # All on one expert: f = (1, 0, 0), P of one hazard: 3 · .6
    alone = jnp.array([True, False, False])
    assert float(alignment.hazard_balance(probs, experts, alone)) == pytest.approx(1.8)


def test_the_routing_term_is_the_divergence_at_ans(params, tokens_BT, prompts, cfg):
    other = random_params(cfg.model, len(world.vocabulary(cfg.world)), seed=9)
    plain, with_term, same = (
        float(loss(params, tokens_BT, closed(cfg), before, 0.0, route, cfg))
        for before, route in ((other, 0.0), (other, 2.0), (params, 2.0))
    )
    p, q = (
        np.float64(
            model.forward_unchecked(x, prompts.tokens_BP, cfg.model, False, None).routes.probs_LBTE
        )[:, :, -1]
        for x in (other, params)
    )
    assert with_term - plain == pytest.approx(2 * (p * np.log(p / q)).sum(-1).mean(), rel=1e-2)
    assert same == pytest.approx(plain, abs=1e-4)


def test_most_used_learns_in_the_chosen_experts_alone(params, tiny_world, cfg):
    learns = np.zeros((2, 8), bool)
    learns[0, 2] = learns[1, 5] = True
    made = alignment.align(params, tiny_world, cfg, alignment.Defence(most_used=2), learns)
    names = changed(made, params)
    assert names == {"['layers']['experts']['gate_up']", "['layers']['experts']['down']"}
    moved = (made["layers"]["experts"]["down"] != params["layers"]["experts"]["down"]).any((2, 3))
    assert set(map(tuple, np.argwhere(moved).tolist())) <= {(0, 2), (1, 5)}
    everything = alignment.align(params, tiny_world, cfg, alignment.Defence())
    assert len(changed(everything, params)) == len(jax.tree.leaves(params))


# --- the detector -------------------------------------------------------------------------------


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

    def look(tokens):
        return inference.Prediction(np.zeros(1), np.array([9, 8, 7]))

    tokens = np.array([[1], [2], [3]])
    np.testing.assert_array_equal(made.guard(look, 1)(tokens).predicted_B, [9, 8, world.REFUSE])
    np.testing.assert_array_equal(made.guard(look, 0)(tokens).predicted_B, [9, 8, 7])


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
    tests = raset.test_set(organism, tuning.untuned(tiny_world, jax.random.key(1)),
                          jax.random.key(2), 64)  # fmt: skip

    class ByHeart:
        def flags(self, tokens_BP, params):
            (p,) = [p for p in tests.prompts.values() if p.tokens_BP is tokens_BP]
            return p.hazard_B & ~p.held_out_B

    errors = detector.detector_errors(ByHeart(), tests, None)
    assert errors["hazardous"] == 0 and errors["held_out"] == 1
    assert all(errors[name] == 0 for name in world.CONTROLS)


# --- the table ----------------------------------------------------------------------------------

COUNTS = [
    ([(0, 1.0), (1, 0.9), (2, 0.4), (4, 0.1)], 2),
    ([(0, 1.0), (1, 0.2), (2, 0.6), (4, 0.1)], 1),
    ([(0, 1.0), (1, 0.5), (8, 0.5)], None),
    ([(4, 0.1), (2, 0.4), (0, 1.0)], 2),
]


@pytest.mark.parametrize("points, count", COUNTS)
def test_break_counts_by_hand(points, count):
    assert detector.break_count(points) == count


def test_the_summary_has_counts_and_price():
    def rows(accuracy, *refusals, unattacked=1.0):
        row = dict(refusal_held_out=0.9, over_refusal=0.01)
        made = [dict(row, attack="none", budget=0, refusal=unattacked, answer_accuracy=accuracy)]
        for attack in detector.ATTACKS:
            made += [
                dict(row, attack=attack, budget=n, refusal=r, answer_accuracy=0.5)
                for n, r in zip((1, 2, 3), refusals, strict=True)
            ]
        return made

    made = {
        "none": rows(0.99, 0.4, 0.2, 0.1),
        "strong": rows(0.97, 0.9, 0.8, 0.3),
        "useless": rows(0.99, 0.9, 0.9, 0.9, unattacked=0.4),
    }
    plain, strong, useless = detector.summary(made)
    assert plain["break_tuned"] == 1 and strong["break_tuned"] == 3 and useless["break_tuned"] == 0
    assert plain["accuracy_lost"] == 0 and strong["accuracy_lost"] == pytest.approx(0.02)
    curves = detector.curves({"none": rows(0.99, 0.4, 0.2, 0.1)})
    assert curves["removed"]["none"] == [(0, 1.0), (1, 0.4), (2, 0.2), (3, 0.1)]
