"""Router, both expert paths and the balance losses against a slow loop and closed forms."""

import math
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toymoe.model import moe

pytestmark = [pytest.mark.core, pytest.mark.numeric]

PATHS = ("reference", "grouped")
D, F = 4, 3
few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


# --- the slow layer -----------------------------------------------------------------------------


def slow_expert(x_D, gate_up_DF, down_FD):
    out_D = 0
    for f in range(len(down_FD)):
        gate = x_D @ gate_up_DF[:, f]
        up = x_D @ gate_up_DF[:, len(down_FD) + f]
        out_D = out_D + gate / (1 + np.exp(-gate)) * up * down_FD[f]
    return out_D


def slow_select(logits_E, top_k, normalise):
    """[(expert, gate)], best first; the sort is stable, so of equals the lower index comes first.

    Only real parts decide: an imaginary step never changes the selection.
    """
    probs_E = np.exp(logits_E) / np.exp(logits_E).sum()
    best = sorted(range(len(probs_E)), key=lambda e: -probs_E[e].real)[:top_k]
    total = sum(probs_E[e] for e in best) if normalise else 1
    return [(e, probs_E[e] / total) for e in best]


def slow_layer(weights, top_k, normalise):
    y_ND = []
    for x_D in weights["x"]:
        chosen = slow_select(x_D @ weights["router"], top_k, normalise)
        y_ND.append(
            sum(p * slow_expert(x_D, weights["gate_up"][e], weights["down"][e]) for e, p in chosen)
        )
    return np.array(y_ND)


def slow_gradients(weights, dy_ND, top_k, normalise):
    """Of sum(y dy), by the complex step: f(w + ih) = f(w) + ih f'(w), exact to the last digit."""
    grads = {}
    for name, w in weights.items():
        grads[name] = np.zeros_like(w)
        for at in np.ndindex(w.shape):
            step = w.astype(complex)
            step[at] += 1e-30j
            y_ND = slow_layer(weights | {name: step}, top_k, normalise)
            grads[name][at] = (y_ND * dy_ND).sum().imag / 1e-30
    return grads


def layer(weights, path, top_k, normalise, block=moe.BLOCK):
    route = moe.route(weights["x"], weights["router"], top_k, normalise)
    experts = {"gate_up": weights["gate_up"], "down": weights["down"]}
    chosen = (route.experts_NA, route.gates_NA)
    if path == "reference":
        return moe.reference_moe(weights["x"], experts, *chosen)
    return moe.grouped_moe(weights["x"], experts, *chosen, block=block)


def random_weights(N, E, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=(N, D)),
        "router": rng.normal(size=(D, E)),
        "gate_up": rng.normal(size=(E, D, 2 * F)),
        "down": rng.normal(size=(E, F, D)),
    }


def tied(weights):
    """Every expert has the same router logit, on every token."""
    return weights | {"router": np.zeros_like(weights["router"])}


def tied_in_pairs(weights):
    """Experts 0 and 2, 1 and 3 always have the same router logit, which depends on the token."""
    half = weights["router"][:, :2]
    return weights | {"router": np.concatenate([half, half], 1)}


def crowded(weights):
    """Every token has expert 2 first."""
    x, router = weights["x"].copy(), weights["router"].copy()
    x[:, 0], router[0, 2] = 1, 9
    return weights | {"x": x, "router": router}


# name: (weights, top_k, block); those of equal sizes share one compiled program
LAYERS = {
    "usual": (random_weights(9, 4), 2, 4),
    "all tied": (tied(random_weights(9, 4)), 2, 4),
    "tied in pairs": (tied_in_pairs(random_weights(9, 4)), 2, 4),
    "crowded pair": (crowded(random_weights(9, 4)), 2, 4),
    "top one": (random_weights(9, 4), 1, 4),
    "all to one": (crowded(random_weights(9, 4)), 1, 4),
    "all experts": (random_weights(5, 4), 4, 3),
    # Only without normalising, from here on: to save time.
    "one expert": (random_weights(6, 1), 1, 4),
    "one token, blocks of one": (random_weights(1, 5), 2, 1),
    "half a block": (random_weights(8, 5), 2, moe.BLOCK),
}


@partial(jax.jit, static_argnums=(2, 3, 4))
def fast_layer(weights, dy_ND, top_k, normalise, block):
    """Outputs and gradients by both paths."""
    results = {}
    for path in PATHS:
        out, vjp = jax.vjp(lambda w, p=path: layer(w, p, top_k, normalise, block), weights)
        results[path] = (out, vjp(dy_ND)[0])
    return results


@pytest.mark.parametrize(
    ("name", "normalise"),
    [(name, False) for name in LAYERS] + [(name, True) for name in list(LAYERS)[:7]],
)
def test_both_paths_equal_the_slow_loop_gradients_too(name, normalise):
    weights, top_k, block = LAYERS[name]
    dy_ND = np.random.default_rng(1).normal(size=weights["x"].shape)
    y_ND = slow_layer(weights, top_k, normalise)
    grads = slow_gradients(weights, dy_ND, top_k, normalise)
    assert np.abs(y_ND).max() > 0.1 and np.abs(grads["down"]).max() > 0.1
    single = {key: w.astype(np.float32) for key, w in weights.items()}
    results = fast_layer(single, dy_ND.astype(np.float32), top_k, normalise, block)
    for path, (out, found) in results.items():
        np.testing.assert_allclose(out, y_ND, atol=1e-5, rtol=1e-5, err_msg=path)
        for key, grad in grads.items():
            scale = max(1, np.abs(grad).max())
            np.testing.assert_allclose(found[key], grad, atol=1e-5 * scale, err_msg=f"{path} {key}")


def test_the_cases_are_what_their_names_say():
    def chosen(name):
        weights, top_k, _ = LAYERS[name]
        rows = [slow_select(x_D @ weights["router"], top_k, False) for x_D in weights["x"]]
        return np.array([[e for e, _ in row] for row in rows])

    assert (chosen("all tied") == [0, 1]).all()
    assert {tuple(row) for row in chosen("tied in pairs")} == {(0, 2), (1, 3)}
    assert (chosen("all to one") == 2).all()
    assert (chosen("crowded pair")[:, 0] == 2).all() and len(set(chosen("crowded pair")[:, 1])) > 1
    assert (np.sort(chosen("all experts")) == np.arange(4)).all()
    assert (np.bincount(chosen("usual").ravel()) % 4 > 0).all()  # every expert has a broken block


@pytest.fixture(scope="module")
def given_route():
    """Both paths for 13 tokens, 6 experts, 2 chosen, blocks of 4, whatever the route."""
    weights = {k: w.astype(np.float32) for k, w in random_weights(13, 6, seed=2).items()}
    experts = {"gate_up": weights["gate_up"], "down": weights["down"]}

    def both(experts_NA, gates_NA):
        reference = moe.reference_moe(weights["x"], experts, experts_NA, gates_NA)
        return reference, moe.grouped_moe(weights["x"], experts, experts_NA, gates_NA, block=4)

    return weights, jax.jit(both)


@few
@given(seed=seeds, popular=st.integers(2, 6))
def test_nothing_is_dropped_whatever_the_route(given_route, seed, popular):
    """Any route and any gates, also zero and negative: edits make such."""
    weights, both = given_route
    rng = np.random.default_rng(seed)
    experts_NA = rng.random((13, popular)).argsort(-1)[:, :2]
    gates_NA = rng.normal(size=(13, 2)) * (rng.random((13, 2)) < 0.8)
    slow_ND = [
        sum(
            gate * slow_expert(x_D, weights["gate_up"][e], weights["down"][e])
            for e, gate in zip(experts_A, gates_A, strict=True)
        )
        for x_D, experts_A, gates_A in zip(weights["x"], experts_NA, gates_NA, strict=True)
    ]
    for out in both(experts_NA, gates_NA.astype(np.float32)):
        np.testing.assert_allclose(out, np.array(slow_ND), atol=2e-5, rtol=1e-5)


def test_what_every_expert_says():
    weights = {k: w.astype(np.float32) for k, w in random_weights(3, 4).items()}
    out_NED = moe.expert_outputs(weights["x"], weights)
    for n, e in np.ndindex(3, 4):
        slow_D = slow_expert(weights["x"][n], weights["gate_up"][e], weights["down"][e])
        np.testing.assert_allclose(out_NED[n, e], slow_D, atol=1e-5)


# --- that the two paths are two -----------------------------------------------------------------


def equations(jaxpr):
    """All equations of a jaxpr, those inside others too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else [value]:
                part = getattr(part, "jaxpr", part)
                if hasattr(part, "eqns"):
                    yield from equations(part)


def multiplications(equation):
    """Multiplications of a dot_general; 0 for any other equation."""
    if equation.primitive.name != "dot_general":
        return 0
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return math.prod(equation.outvars[0].aval.shape) * math.prod(shape[i] for i in contracted)


def trace(path, N, E, top_k, gradient=False):
    weights = {k: w.astype(np.float32) for k, w in random_weights(N, E).items()}

    def out(weights):
        return layer(weights, path, top_k, False, block=8).sum()

    traced = jax.make_jaxpr(jax.grad(out) if gradient else out)(weights)
    return list(equations(traced.jaxpr))


def test_the_paths_differ_in_how_they_get_there():
    N, E = 71, 13  # like no other axis
    shapes, names, work = {}, {}, {}
    for path in PATHS:
        found = trace(path, N, E, 2)
        shapes[path] = {v.aval.shape for equation in found for v in equation.outvars}
        names[path] = {equation.primitive.name for equation in found}
        work[path] = sum(multiplications(equation) for equation in found)
    assert {(N, E, 2 * F), (N, E, F), (N, E, D)} <= shapes["reference"]
    per_expert = [s for s in shapes["grouped"] if {N, E} <= set(s) and set(s) & {D, F, 2 * F}]
    assert not per_expert
    assert "gather" in names["grouped"] - names["reference"]
    # Router; then per row two matrices: of all N·E rows, or of one block, in the body of a loop.
    row = D * 2 * F + F * D
    assert work["reference"] == N * D * E + N * E * row + N * E * D
    assert work["grouped"] == N * D * E + 8 * row


@pytest.mark.parametrize("popular", [2, 4, 13])
def test_the_loop_takes_the_blocks_that_the_selections_fill_and_no_more(popular):
    """Each expert's own, the last of which may not be full; none for an expert without any. Every
    row is its expert's in one block."""
    experts_NA = np.random.default_rng(0).random((71, popular)).argsort(-1)[:, :2]
    layout = moe._layout(jax.numpy.asarray(experts_NA), 13, 8)

    def block(expert, row, own_R, made, _):
        turns_E, rows_E = made
        return turns_E.at[expert].add(1), rows_E.at[expert].add(own_R.sum())

    none_E = jax.numpy.zeros(13, int)
    turns_E, rows_E = moe._by_blocks(block, layout, (none_E, none_E), layout.choice_M)
    selections_E = np.bincount(experts_NA.ravel(), minlength=13)
    np.testing.assert_array_equal(turns_E, np.ceil(selections_E / 8))
    np.testing.assert_array_equal(rows_E, selections_E)


def test_no_scatter_going_backwards():
    """The one scatter, of the layout, is there forwards already; adding ones are for neither."""
    for gradient in (False, True):
        names = [e.primitive.name for e in trace("grouped", 20, 4, 2, gradient)]
        assert [name for name in names if name.startswith("scatter")] == ["scatter"]


# --- router -------------------------------------------------------------------------------------


def test_select_by_hand():
    logits_NE = np.log(np.array([[1, 4, 2, 3], [3, 3, 1, 3]], np.float32)) + 5
    plain, normalised = (
        moe.route_from_logits(logits_NE, 2),
        moe.route_from_logits(logits_NE, 2, normalise=True),
    )
    np.testing.assert_allclose(plain.probs_NE, [[0.1, 0.4, 0.2, 0.3], [0.3, 0.3, 0.1, 0.3]], 1e-5)
    np.testing.assert_array_equal(plain.experts_NA, [[1, 3], [0, 1]])  # of equals, the first
    np.testing.assert_allclose(plain.gates_NA, [[0.4, 0.3], [0.3, 0.3]], 1e-5)
    np.testing.assert_allclose(normalised.gates_NA, [[4 / 7, 3 / 7], [0.5, 0.5]], 1e-5)
    hit = moe.selected(plain.experts_NA, 4)
    np.testing.assert_array_equal(hit, np.array([[0, 1, 0, 1], [1, 1, 0, 0]], bool))
    dense = moe.dense_gates(plain.experts_NA, plain.gates_NA, 4)
    np.testing.assert_allclose(dense, [[0, 0.4, 0, 0.3], [0.3, 0.3, 0, 0]], 1e-5)


def test_experts_are_distinct_even_where_probabilities_vanish():
    route = moe.route_from_logits(
        np.array([[-1e4, 0, -1e4, -2e4], [0, -1e30, -1e30, -1e30]], np.float32), 3
    )
    np.testing.assert_array_equal(route.experts_NA, [[1, 0, 2], [0, 1, 2]])
    np.testing.assert_array_equal(route.gates_NA, [[1, 0, 0]] * 2)


@few
@given(seeds, st.integers(1, 5), st.booleans())
def test_select_against_a_stable_sort(seed, top_k, normalise):
    logits_NE = np.random.default_rng(seed).integers(-2, 3, (4, 5)).astype(np.float32)  # many ties
    route = moe.route_from_logits(logits_NE, top_k, normalise)
    for n in range(4):
        experts, gates = zip(*slow_select(logits_NE[n], top_k, normalise), strict=True)
        np.testing.assert_array_equal(route.experts_NA[n], experts)
        np.testing.assert_allclose(route.gates_NA[n], gates, rtol=1e-5)


# --- losses -------------------------------------------------------------------------------------


def onehot(index, E):
    return (np.asarray(index)[:, None] == np.arange(E)).astype(np.float32)


def test_load_balance_closed_forms():
    E, every = 8, np.arange(8)[:, None]
    uniform = np.full((8, E), 1 / E, np.float32)
    assert moe.load_balance_loss(uniform, every) == pytest.approx(1)
    assert moe.load_balance_loss(onehot(np.arange(8), E), every) == pytest.approx(1)
    # All probability on one expert that takes everything: E · 1 · 1; on two, E · 2 · ½ · ½.
    assert moe.load_balance_loss(onehot([3] * 8, E), np.full((8, 1), 3)) == pytest.approx(E)
    pair = (onehot([3] * 8, E) + onehot([5] * 8, E)) / 2
    assert moe.load_balance_loss(pair, np.tile([3, 5], (8, 1))) == pytest.approx(E / 2)
    # With uniform probabilities the selection does not matter: E · 1/E · Σ f = 1.
    assert moe.load_balance_loss(uniform, np.full((8, 1), 3)) == pytest.approx(1)


def test_load_balance_by_hand():
    # f = (2, 1, 1)/4, P = (.5, .3, .2): 3 · (.25 + .075 + .05) = 1.125. Its gradient with respect
    # to each token's probabilities is E f / N = 3/2 f, since the share is a count.
    probs_NE = np.array([[0.6, 0.3, 0.1], [0.4, 0.3, 0.3]], np.float32)
    experts_NA = np.array([[0, 1], [0, 2]])
    value, grad = jax.value_and_grad(moe.load_balance_loss)(probs_NE, experts_NA)
    assert value == pytest.approx(1.125)
    np.testing.assert_allclose(grad, [[0.75, 0.375, 0.375]] * 2, rtol=1e-6)


def test_z_loss_closed_forms():
    assert moe.router_z_loss(np.zeros((5, 16), np.float32)) == pytest.approx(math.log(16) ** 2)
    # Shifting all logits by c shifts the log of the sum by c; -log E makes the loss vanish.
    shifted = np.full((5, 16), 2 - math.log(16), np.float32)
    assert moe.router_z_loss(shifted) == pytest.approx(4)
    # One token: log 4 of (1 + 3); gradient 2 · log 4 · softmax, over the number of tokens.
    logits_NE = np.array([[0, math.log(3)], [0, -math.inf]], np.float32)
    assert moe.router_z_loss(logits_NE) == pytest.approx(math.log(4) ** 2 / 2)
    grad = jax.grad(moe.router_z_loss)(logits_NE)
    np.testing.assert_allclose(grad, [[math.log(4) / 4, math.log(4) * 3 / 4], [0, 0]], rtol=1e-5)
