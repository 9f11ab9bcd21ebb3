"""The loop beside slow ones, in numpy and by hand; one worker and two."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from toymoe import start
from toymoe.training import data, loop, objective, phases
from toymoe.training.optimiser import muon

pytestmark = [pytest.mark.core, pytest.mark.numeric]

SGD = optax.clip_by_global_norm(1.0)  # the direction is the gradient, clipped
ONE_DEVICE = "--xla_force_host_platform_device_count=1"
RATES = np.float32([0.5, 0.25, 0.125])


def batch(at, worker):
    """Targets that depend on the step and the worker."""
    return jnp.array([1.0, 2.0]) * (at + 1) + 10 * worker


def bowl(params, target):
    """Its gradient is ``params - target``."""
    return sum(((params[name] - target) ** 2).sum() for name in ("fast", "slow", "still")) / 2


def slow(factors, targets):
    """Params and losses, a step at a time."""
    params, losses = {name: np.zeros(2) for name in factors}, []
    for rate, target in zip(RATES, targets, strict=True):
        losses.append(sum(((p - target) ** 2).sum() for p in params.values()) / 2)
        grads = {name: (params[name] - target) * (f > 0) for name, f in factors.items()}
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        params = {
            name: params[name] - rate * f * grads[name] / max(norm, 1)
            for name, f in factors.items()
        }
    return params, losses


FACTORS = {"fast": 1.0, "slow": 0.25, "still": 0.0}


@pytest.mark.parametrize("workers", [1, 2])
def test_steps_are_those_of_a_slow_loop_whose_frozen_part_has_no_say(workers):
    """Not in the clipping either. Two workers: the mean of targets 0 and 10 further."""
    task = loop.Task(batch, bowl, SGD, FACTORS, workers)
    begin = loop.start({name: jnp.zeros(2) for name in FACTORS}, SGD)
    state, losses, seen = jax.jit(partial(loop.train, task=task))(
        begin, at_S=np.arange(3), rate_S=RATES
    )
    targets = [np.array([1.0, 2.0]) * (at + 1) + 5 * (workers - 1) for at in range(3)]
    params, expected = slow(FACTORS, targets)
    for name in FACTORS:
        np.testing.assert_allclose(state.params[name], params[name], rtol=1e-5)
    spread = 3 * 2 * 5**2 / 2 * (workers - 1)  # the mean of squares is above the mean's square
    np.testing.assert_allclose(losses, np.add(expected, spread), rtol=1e-5)
    assert seen is None and not np.asarray(state.params["still"]).any()
    everywhere, _ = slow(dict.fromkeys(FACTORS, 1.0), targets)
    assert abs(everywhere["fast"] - params["fast"]).max() > 1e-2  # clipping would have told


def test_what_is_recorded_is_of_before_the_step():
    task = loop.Task(batch, bowl, SGD, workers=2)
    begin = loop.start({name: jnp.full(2, 7.0) for name in FACTORS}, SGD)
    record_S = np.array([True, False, True])

    def run(upto, **record):
        return loop.train(begin, task, np.arange(upto), RATES[:upto], **record)

    _, _, seen = run(3, record_S=record_S, record=lambda params: params["slow"])
    before, _, _ = run(2)
    np.testing.assert_array_equal(seen, [[7, 7], [0, 0], before.params["slow"]])


def test_workers_are_as_many_as_divide_the_batch():
    assert [loop.workers(batch) for batch in (8, 6, 7, 1)] == [2, 2, 1, 1]


@pytest.mark.skipif(ONE_DEVICE in start.your_flags(), reason="your XLA_FLAGS ask for one device")
def test_a_step_is_the_mean_over_workers_on_two_devices_and_on_one(cfg, tables, monkeypatch):
    """Parameters after some steps, beside a loop that adds up the two gradients itself."""
    assert len(jax.devices()) == 2
    cfg = dataclasses.replace(cfg, pretrain=dataclasses.replace(cfg.pretrain, notes=0.0))
    mix, key = phases.mixture_jit(tables, cfg=cfg, phase="pretrain"), jax.random.key(5)
    params = jax.jit(phases.fresh_params, static_argnums=1)(jax.random.key(0), cfg)
    moves, begin = muon(cfg.pretrain.weight_decay), phases.start(params, cfg, "pretrain")

    @jax.jit
    def gradient(params, at, worker):
        k_worker = jax.random.fold_in(jax.random.fold_in(key, at), worker)
        tokens_BT = data.batch(k_worker, tables, cfg, "pretrain", mix, 2)
        return jax.grad(objective.loss)(params, tokens_BT, cfg)

    expected = begin
    for at in range(3):
        grads = (gradient(expected.params, at, worker) for worker in range(2))
        mean = jax.tree.map(lambda a, b: (a + b) / 2, *grads)
        updates, moments = jax.jit(moves.update)(mean, expected.optimiser, expected.params)
        params = jax.tree.map(lambda p, u: p - 1e-2 * u, expected.params, updates)
        expected = loop.State(params, moments)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    task = phases.task(key, tables, mix, None, cfg, "pretrain")
    rate_S = np.full(3, 1e-2, np.float32)
    for devices in (2, 1):
        if devices == 1:
            monkeypatch.setattr(loop, "_mesh", lambda n: None)
        state, _, _ = jax.jit(lambda begin: loop.train(begin, task, np.arange(3), rate_S))(begin)
        assert len(jax.tree.leaves(state)[0].devices()) == devices
        jax.tree.map(close, state, expected)
