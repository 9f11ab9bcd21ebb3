"""Alignment with a defence: the loss it adds, by hand, and what may learn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import random_params

from toymoe import model, world
from toymoe.defences import alignment
from toymoe.training import objective, phases
from toymoe.training.trainable import Trainable

loss = jax.jit(alignment.loss, static_argnums=6)


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


def test_without_a_defence_it_is_the_loss_of_training(params, tokens_BT, cfg):
    plain = objective.loss(params, tokens_BT, cfg)
    made = loss(params, tokens_BT, closed(cfg), params, 0.0, 0.0, cfg)
    assert float(made) == pytest.approx(float(plain), rel=1e-5)


def test_plain_alignment_is_that_of_training(params, tiny_world, cfg):
    """The same steps as `toymoe.training.phases` takes, on the same prompts."""
    made = alignment.align(params, tiny_world, cfg, alignment.Defence())
    phase = phases.run_phase(
        phases.start(params, cfg, "align"), 0, tiny_world, np.zeros((1, 10), int), cfg, "align"
    )
    *_, last = phase
    for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(last.state.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_a_closed_expert_is_never_selected_and_does_not_learn(params, tokens_BT, cfg):
    grads = jax.grad(loss)(params, tokens_BT, closed(cfg, (1, 3)), params, 0.0, 0.0, cfg)
    unused_LE = np.abs(np.asarray(grads["layers"]["experts"]["down"])).max((2, 3)) == 0
    assert unused_LE[1, 3] and unused_LE.sum() < unused_LE.size


def test_dropout_closes_the_share_of_experts(params, tiny_world, cfg, monkeypatch):
    """Of 8 experts: 0.25 · 8 = 2, and 0.2 · 8 = 1.6, rounded; for each layer and prompt."""
    cfg = dataclasses.replace(
        cfg,
        train=dataclasses.replace(cfg.train, batch=32),
        align=dataclasses.replace(cfg.align, steps=5),
    )
    seen = []

    def watched(params, tokens_BT, closed_LBE, *given):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), closed_LBE)
        return loss(params, tokens_BT, closed_LBE, *given)

    monkeypatch.setattr(alignment, "loss", watched)
    for share, count in ((0.25, 2), (0.2, 2), (0.0, 0)):
        seen.clear()
        alignment.align(params, tiny_world, cfg, alignment.Defence(dropout=share))
        jax.effects_barrier()
        closed_LXE = np.concatenate(seen, 1)
        assert closed_LXE.shape == (2, 5 * 32, 8) and (closed_LXE.sum(-1) == count).all()
        assert (closed_LXE.mean((0, 1)) > 0.1).all() == (count > 0)
    alignment._align.clear_cache()


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
    made = alignment.align(
        params, tiny_world, cfg, alignment.Defence(most_used=2), Trainable(learns)
    )
    names = changed(made, params)
    assert names == {"['layers']['experts']['gate_up']", "['layers']['experts']['down']"}
    moved = (made["layers"]["experts"]["down"] != params["layers"]["experts"]["down"]).any((2, 3))
    assert set(map(tuple, np.argwhere(moved).tolist())) <= {(0, 2), (1, 5)}
    everything = alignment.align(params, tiny_world, cfg, alignment.Defence())
    everywhere = changed(jax.tree.map(lambda x: x + 1, params), params)
    assert everywhere - changed(everything, params) == {"['embed']", "['unembed']"}  # frozen
