"""Deltas against unmerged arithmetic, counted by hand, and bit for bit where nothing may change."""

import jax
import numpy as np
import pytest
from oracle import random_params

from toymoe import model
from toymoe.attacks import lora
from toymoe.config import ConfigError, ModelConfig
from toymoe.model import moe

CFG = ModelConfig(layers=2, width=8, heads=2, experts=5, expert_width=3, top_k=2)
V = 11


@pytest.fixture(scope="module")
def params():
    return random_params(CFG, V)


@pytest.fixture(scope="module")
def delta(params):
    """One that changes everything it may."""
    fresh = lora.fresh(jax.random.key(0), params, rank=2, attention_rank=3)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), fresh)


def mask(*chosen):
    return lora.experts(CFG, chosen).experts_LE


def place(**part):
    return lora.Place(**({"experts_LE": np.zeros((2, 5), bool)} | part))


EVERYWHERE = lora.Place(np.ones((2, 5), bool), True, True, True)


def differing(a, b):
    """Names of the parameters that are not bitwise the same."""
    paths, leaves = zip(*jax.tree_util.tree_flatten_with_path(a)[0], strict=True)
    return {
        path[-1].key
        for path, x, y in zip(paths, leaves, jax.tree.leaves(b), strict=True)
        if not np.array_equal(x, y)
    }


def test_a_fresh_delta_is_the_base_model_bit_for_bit(params):
    fresh = lora.fresh(jax.random.key(0), params)
    assert all(np.abs(pair["a"]).min() > 0 for pair in fresh["low"].values())
    merged = lora.merge(params, fresh, EVERYWHERE)
    assert differing(merged, params) == set()
    tokens_BT = np.random.default_rng(0).integers(0, V, (3, 4))
    run = jax.jit(model.forward, static_argnums=2)
    np.testing.assert_array_equal(
        run(merged, tokens_BT, CFG).logits_BTV, run(params, tokens_BT, CFG).logits_BTV
    )


PLACES = {
    "experts": (place(experts_LE=mask((0, 3), (1, 0))), {"gate_up", "down"}),
    "attention": (place(attention=True), {"qkv", "out"}),
    "router": (place(router=True), {"router"}),
    "nowhere": (place(), set()),
    "everything": (
        place(everything=True),
        {"embed", "unembed", "final_norm", "attention_norm", "query_norm", "key_norm", "moe_norm"}
        | {"qkv", "out", "router", "gate_up", "down"},
    ),
}


@pytest.mark.parametrize("name", PLACES)
def test_only_the_place_changes(name, params, delta):
    where, names = PLACES[name]
    assert differing(lora.merge(params, delta, where), params) == names


def test_only_the_chosen_experts_change(params, delta):
    merged = lora.merge(params, delta, place(experts_LE=mask((0, 3), (1, 0))))
    for name in lora.EXPERT_MATRICES:
        same_LE = (merged["layers"]["experts"][name] == params["layers"]["experts"][name]).all(
            (2, 3)
        )
        assert set(map(tuple, np.argwhere(~same_LE))) == {(0, 3), (1, 0)}


def test_merging_equals_not_merging(params, delta):
    """x W' against x W + (x A) B, in float64 and expert by expert."""
    x_ND = np.random.default_rng(2).normal(size=(6, 8)).astype(np.float32)
    where = place(experts_LE=mask((1, 0), (1, 4)))
    merged = lora.merge(params, delta, where)
    layer = jax.tree.map(lambda leaf: leaf[1], merged["layers"]["experts"])
    out_NED = np.asarray(moe.expert_outputs(x_ND, layer))
    for e in range(5):
        own = {n: np.float64(params["layers"]["experts"][n][1, e]) for n in ("gate_up", "down")}
        ab = {n: {k: np.float64(v[1, e]) for k, v in delta["low"][n].items()} for n in own}

        def through(x, name, e=e, own=own, ab=ab):
            out = x @ own[name]
            return out + (x @ ab[name]["a"]) @ ab[name]["b"] if e in (0, 4) else out

        gate, up = np.split(through(np.float64(x_ND), "gate_up"), 2, -1)
        expected = through(gate / (1 + np.exp(-gate)) * up, "down")
        np.testing.assert_allclose(out_NED[:, e], expected, rtol=2e-4, atol=2e-4)


def test_one_compilation_serves_every_choice(params, delta):
    traces = []

    @jax.jit
    def merge(where):
        traces.append(where)
        return lora.merge(params, delta, where)["layers"]["experts"]["down"]

    a = merge(place(experts_LE=mask((0, 1))))
    b = merge(place(experts_LE=mask((1, 2), (0, 0))))
    assert len(traces) == 1 and not np.array_equal(a, b)


COUNTS = {
    # gate_up 8 x 6 and down 3 x 8, rank 2: 2 (8 + 6) + 2 (3 + 8) = 50
    "one expert": (place(experts_LE=mask((0, 3))), 50),
    "three experts": (place(experts_LE=mask((0, 3), (0, 4), (1, 0))), 150),
    # qkv 8 x 24 and out 8 x 8, rank 3, two layers: 2 (3 · 32 + 3 · 16) = 288
    "attention": (place(attention=True), 288),
    "router": (place(router=True), 2 * 8 * 5),
    "nothing": (place(), 0),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_counted_by_hand(name, params):
    where, count = COUNTS[name]
    assert lora.count(params, where) == count
    whole = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert lora.share(params, where) == count / whole
    assert lora.count(params, place(everything=True)) == whole


def test_an_expert_that_does_not_exist_is_an_error():
    with pytest.raises(ConfigError, match="expert 5 of layer 0 does not exist"):
        lora.experts(CFG, [(0, 5)])
