"""Deltas against unmerged arithmetic, counted by hand, and bit for bit where nothing may change."""

import jax
import numpy as np
import pytest
from oracle import random_params

from toymoe import model
from toymoe.attacks import lora
from toymoe.config import ModelConfig
from toymoe.model import moe
from toymoe.training.trainable import EVERYTHING, Trainable, only

CFG = ModelConfig(layers=2, width=8, heads=2, experts=5, expert_width=3, top_k=2)
V = 11


@pytest.fixture(scope="module")
def params():
    return random_params(CFG, V)


LOW, WHOLE = Trainable(1, attention=1), EVERYTHING


def changing(params, trainable):
    """A delta that changes everything it may."""
    fresh = lora.fresh(jax.random.key(0), params, trainable, rank=2, attention_rank=3)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), fresh)


def merged(params, delta, trainable):
    return lora.merge(params, delta, trainable.factors(params))


def experts(*chosen):
    return only(chosen, CFG)


def differing(a, b):
    """Names of the parameters that are not bitwise the same."""
    paths, leaves = zip(*jax.tree_util.tree_flatten_with_path(a)[0], strict=True)
    return {
        path[-1].key
        for path, x, y in zip(paths, leaves, jax.tree.leaves(b), strict=True)
        if not np.array_equal(x, y)
    }


def test_a_fresh_delta_is_the_base_model_bit_for_bit(params):
    tokens_BT = np.random.default_rng(0).integers(0, V, (3, 4))
    run = jax.jit(model.forward, static_argnums=2)
    for trainable in (LOW, WHOLE):
        fresh = lora.fresh(jax.random.key(0), params, trainable)
        if trainable == LOW:
            assert np.abs(fresh["layers"]["qkv"].a).min() > 0
        same = merged(params, fresh, trainable)
        assert differing(same, params) == set()
        np.testing.assert_array_equal(
            run(same, tokens_BT, CFG).logits_BTV, run(params, tokens_BT, CFG).logits_BTV
        )


PARTS = {
    "experts": (experts((0, 3), (1, 0)), {"gate_up", "down"}),
    "attention": (Trainable(attention=1), {"qkv", "out"}),
    "router": (Trainable(router=1), {"router"}),
    "nowhere": (Trainable(), set()),
    "everything": (
        EVERYTHING,
        {"embed", "unembed", "final_norm", "attention_norm", "query_norm", "key_norm", "moe_norm"}
        | {"qkv", "out", "router", "gate_up", "down"},
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_only_what_may_change_changes(name, params):
    trainable, names = PARTS[name]
    assert differing(merged(params, changing(params, trainable), trainable), params) == names


def test_only_the_chosen_experts_change(params):
    made = merged(params, changing(params, LOW), experts((0, 3), (1, 0)))
    for name in ("gate_up", "down"):
        same_LE = (made["layers"]["experts"][name] == params["layers"]["experts"][name]).all((2, 3))
        assert set(map(tuple, np.argwhere(~same_LE))) == {(0, 3), (1, 0)}


def test_merging_equals_not_merging(params):
    """x W' against x W + (x A) B, in float64 and expert by expert."""
    x_ND = np.random.default_rng(2).normal(size=(6, 8)).astype(np.float32)
    delta = changing(params, LOW)
    made = merged(params, delta, experts((1, 0), (1, 4)))
    layer = jax.tree.map(lambda leaf: leaf[1], made["layers"]["experts"])
    out_NED = np.asarray(moe.expert_outputs(x_ND, layer))
    for e in range(5):
        own = {n: np.float64(params["layers"]["experts"][n][1, e]) for n in ("gate_up", "down")}
        low = delta["layers"]["experts"]
        ab = {n: lora.LowRank(*(np.float64(x[1, e]) for x in low[n])) for n in own}

        def through(x, name, e=e, own=own, ab=ab):
            out = x @ own[name]
            return out + (x @ ab[name].a) @ ab[name].b if e in (0, 4) else out

        gate, up = np.split(through(np.float64(x_ND), "gate_up"), 2, -1)
        expected = through(gate / (1 + np.exp(-gate)) * up, "down")
        np.testing.assert_allclose(out_NED[:, e], expected, rtol=2e-4, atol=2e-4)


def test_one_compilation_serves_every_choice(params):
    traces, delta = [], changing(params, LOW)

    @jax.jit
    def merge(factors):
        traces.append(factors)
        return lora.merge(params, delta, factors)["layers"]["experts"]["down"]

    a = merge(experts((0, 1)).factors(params))
    b = merge(experts((1, 2), (0, 0)).factors(params))
    merge(Trainable(attention=1).factors(params))
    assert len(traces) == 1 and not np.array_equal(a, b)


COUNTS = {
    # gate_up 8 x 6 and down 3 x 8, rank 2: 2 (8 + 6) + 2 (3 + 8) = 50
    "one expert": (experts((0, 3)), 50),
    "three experts": (experts((0, 3), (0, 4), (1, 0)), 150),
    # qkv 8 x 24 and out 8 x 8, rank 3, two layers: 2 (3 · 32 + 3 · 16) = 288
    "attention": (Trainable(attention=1), 288),
    "router": (Trainable(router=1), 2 * 8 * 5),
    "nothing": (Trainable(), 0),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_counted_by_hand(name, params):
    where, count = COUNTS[name]
    assert lora.count(params, where) == count
    whole = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert lora.share(params, where) == count / whole
    assert lora.count(params, EVERYTHING) == whole
