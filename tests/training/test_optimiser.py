"""The optimiser against slow loops: AdamW a number at a time, Muon a matrix at a time, and the
singular value decomposition that Muon approximates."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toymoe import model, world
from toymoe.config import AlignConfig
from toymoe.defences import alignment
from toymoe.training import optimiser, phases
from toymoe.training.optimiser import MATRICES, adam, muon

pytestmark = [pytest.mark.core, pytest.mark.numeric]

DECAY = 0.1


def tree(rng, scale=1.0):
    """Arrays of every kind; D = 4, E = 3, F = 2 and one layer."""
    shapes = {
        "router": (1, 4, 3),
        "moe_norm": (1, 4),
        "qkv": (1, 4, 12),
        "out": (1, 4, 4),
        "experts": {"gate_up": (1, 3, 4, 4), "down": (1, 3, 2, 4)},
    }
    return jax.tree.map(
        lambda shape: scale * rng.normal(size=shape), shapes, is_leaf=lambda x: type(x) is tuple
    )


def directions(grads, params=None, moves=None):
    """What an optimiser makes of gradients in turn, the parameters staying as they are."""
    moves = moves or muon(DECAY)
    params = as_jax(params if params is not None else jax.tree.map(np.zeros_like, grads[0]))
    state, made = moves.init(params), []
    for each in grads:
        updates, state = jax.jit(moves.update)(as_jax(each), state, params)
        made.append(jax.tree.map(np.asarray, updates))
    return made


def as_jax(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def clipped(grads):
    norm = math.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(grads)))
    return jax.tree.map(lambda leaf: leaf / max(norm, 1), grads), norm


def gradients(steps=5):
    """Every other one so large that it is clipped."""
    rng = np.random.default_rng(0)
    some = [tree(rng, 3.0 if step % 2 else 0.05) for step in range(steps)]
    assert 0 < sum(clipped(grads)[1] > 1 for grads in some) < steps
    return some


def slow_adam(grads, params, name, decay):
    """Loshchilov & Hutter, arXiv 1711.05101, after clipping to a global norm of 1; norms do not
    decay."""
    m = v = 0.0
    for t, each in enumerate(grads, 1):
        g = clipped(each)[0][name]
        m, v = 0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g**2
        step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.98**t)) + 1e-8)
        yield step + (0 if name.endswith("_norm") else decay * params[name])


@pytest.mark.parametrize(
    "moves, decay, names",
    [
        (muon(DECAY), DECAY, ("router", "moe_norm")),
        (adam(0.6), 0.6, ("router", "moe_norm", "qkv")),
        (adam(), 0.0, ("router", "moe_norm", "qkv")),
    ],
    ids=["what muon leaves", "adamw", "adam"],
)
def test_moves_are_those_of_a_slow_adamw(moves, decay, names):
    grads, params = gradients(), tree(np.random.default_rng(1))
    for name in names:
        expected = slow_adam(grads, params, name, decay)
        for made, step in zip(directions(grads, params, moves), expected, strict=True):
            np.testing.assert_allclose(made[name], step, rtol=2e-4, atol=1e-6)


def newton_schulz(x, times):
    """Jordan's quintic, which brings singular values near 1, of one matrix."""
    x = x / np.linalg.norm(x)
    for _ in range(times):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def matrices(name, leaf):
    """The single matrices of an array, [in, out] each, in a fixed order."""
    parts = np.split(leaf, {"qkv": 3, "gate_up": 2}.get(name, 1), -1)
    return [matrix for part in parts for matrix in part.reshape(-1, *part.shape[-2:])]


@pytest.mark.parametrize("name", MATRICES)
def test_matrices_move_by_a_slow_muon_each_for_itself(name):
    """Nesterov momentum, three iterations, and 0.2 √max(in, out) for Adam's length of step (arXiv
    2502.16982); queries, keys and values are three matrices, gate and up are two."""
    grads, params = gradients(), tree(np.random.default_rng(1))

    def pick(of):
        return (of["experts"] if name in of["experts"] else of)[name]

    momentum = [0.0] * len(matrices(name, pick(params)))
    for t, made in enumerate(directions(grads, params), 1):
        step = matrices(name, pick(made) - DECAY * pick(params))
        for i, g in enumerate(matrices(name, pick(clipped(grads[t - 1])[0]))):
            momentum[i] = 0.9 * momentum[i] + 0.1 * g
            ahead = 0.9 * momentum[i] / (1 - 0.9 ** (t + 1)) + 0.1 * g / (1 - 0.9**t)
            expected = 0.2 * math.sqrt(max(g.shape)) * newton_schulz(ahead, 3)
            np.testing.assert_allclose(step[i], expected, rtol=1e-3, atol=1e-5)


def test_a_step_is_near_the_orthogonal_matrix_of_the_singular_value_decomposition():
    """Of a gradient whose singular values differ fifty-fold, those of the step differ little, and
    its singular vectors are the gradient's; Adam's step is not like that."""
    rng = np.random.default_rng(2)
    u, _ = np.linalg.qr(rng.normal(size=(16, 16)))
    v, _ = np.linalg.qr(rng.normal(size=(16, 16)))
    gradient = u @ np.diag(np.geomspace(1, 0.02, 16)) @ v.T / 10
    none = np.zeros((1, 16))
    made = directions([{"out": gradient[None], "router": gradient[None], "moe_norm": none}])[0]
    muon, adam = made["out"][0] / (0.2 * 4), made["router"][0]
    along = np.diag(u.T @ muon @ v)
    np.testing.assert_allclose(u.T @ muon @ v, np.diag(along), atol=1e-4)
    assert 0.3 < along.min() and along.max() < 1.3
    singular = np.linalg.svd(adam, compute_uv=False)
    assert singular.max() / singular.min() > 20


def test_an_experts_step_depends_on_its_own_gradient_alone_and_not_on_its_size():
    rng = np.random.default_rng(3)
    grads = tree(rng, 0.01)
    first = directions([grads])[0]["experts"]["down"]
    grads["experts"]["down"][0, 1] *= 7
    grads["experts"]["down"][0, 2] = rng.normal(size=(2, 4))
    second = directions([grads])[0]["experts"]["down"]
    np.testing.assert_allclose(second[0, :2], first[0, :2], rtol=1e-4, atol=1e-6)
    assert abs(second[0, 2] - first[0, 2]).max() > 0.05


def test_an_expert_without_a_gradient_stays():
    grads = tree(np.random.default_rng(4))
    grads["experts"]["gate_up"][0, 1] = 0
    made = directions([grads])[0]["experts"]["gate_up"]
    assert not made[0, 1].any() and made[0, 0].all()


def test_weight_decay_is_for_all_matrices_of_the_model_and_for_no_norm(tiny):
    like = jax.eval_shape(lambda: phases.fresh_params(jax.random.key(0), tiny))
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), like)
    still = jax.tree.map(jnp.zeros_like, params)
    moves = muon(DECAY)
    made, _ = jax.jit(moves.update)(still, moves.init(params), params)
    kept = {
        "/".join(part.key for part in path)
        for path, step in jax.tree_util.tree_leaves_with_path(made)
        if not step.any()
    }
    norms = ("attention_norm", "query_norm", "key_norm", "moe_norm")
    assert kept == {"final_norm", *(f"layers/{name}" for name in norms)}


def test_one_function_says_what_both_phases_and_every_defence_move_by(tiny, monkeypatch):
    """Nothing but it is exchanged, and every state that a training begins with is another one."""
    V, chosen = len(world.vocabulary(tiny.world)), []
    cfg = dataclasses.replace(
        tiny,
        model=dataclasses.replace(tiny.model, layers=1),
        train=dataclasses.replace(tiny.train, batch=8),
        align=AlignConfig(1, weight_decay=0.0625, notes=0.0),
    )
    tables = jax.jit(world.make_world, static_argnums=1)(jax.random.key(0), cfg.world)

    def mine(cfg, phase):
        chosen.append(phase)
        return muon(cfg.align.weight_decay)

    monkeypatch.setattr(optimiser, "of", mine)
    params = jax.jit(model.init, static_argnums=(1, 2))(jax.random.key(0), cfg.model, V)
    state = phases.start(params, cfg, "align")
    structures = [jax.tree.structure(x.init(params)) for x in (muon(0.0625), adam(0.0625))]
    assert jax.tree.structure(state.optimiser) == structures[0] != structures[1]
    *_, last = phases.run_phase(state, 0, tables, np.zeros((1, 10), int), cfg, "align")
    made = alignment.align(params, tables, cfg, alignment.Defence())
    assert chosen == ["align"] * 3
    for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(last.state.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
