"""Every name stands for exactly the numbers that a slow loop finds."""

import jax
import numpy as np
import pytest
from oracle import random_params

from toymoe import checkpoint, model
from toymoe.config import ConfigError, ModelConfig
from toymoe.model import taps
from toymoe.training.trainable import COMPONENTS
from toymoe.zoo import parts

pytestmark = pytest.mark.core

CFG = ModelConfig(layers=2, width=8, heads=2, experts=5, expert_width=3, top_k=2)


@pytest.fixture(scope="module")
def params():
    return random_params(CFG, 11)


def touched(params, names):
    """Path and index of every number that is another one where these parts are exchanged."""
    other = jax.tree.map(lambda leaf: leaf + 1, params)
    made = parts.exchanged(params, other, parts.mask(names, params, CFG))
    before, after = checkpoint.flatten(params), checkpoint.flatten(made)
    assert {path: x.shape for path, x in after.items()} == {p: x.shape for p, x in before.items()}
    return {(p, *map(int, at)) for p in before for at in np.argwhere(before[p] != after[p])}


def in_expert(layer, expert):
    D, F = CFG.width, CFG.expert_width
    up = {("layers/experts/gate_up", layer, expert, d, x) for d in range(D) for x in range(2 * F)}
    return up | {("layers/experts/down", layer, expert, f, d) for f in range(F) for d in range(D)}


def in_router(layer, expert):
    return {("layers/router", layer, d, expert) for d in range(CFG.width)}


def in_head(layer, head):
    D = CFG.width
    K = D // CFG.heads
    mine = [head * K + k for k in range(K)]
    qkv = {("layers/qkv", layer, d, z * D + m) for d in range(D) for z in range(3) for m in mine}
    return qkv | {("layers/out", layer, m, d) for m in mine for d in range(D)}


@pytest.mark.parametrize(
    ("kind", "there", "count"),
    [("expert", in_expert, 5), ("router", in_router, 5), ("head", in_head, 2)],
)
def test_a_part_is_its_own_numbers_and_no_others(params, kind, there, count):
    for layer in range(CFG.layers):
        for index in range(count):
            name = f"{kind} {layer}.{index}"
            assert parts.parse(name, CFG) == (kind, layer, index)
            assert touched(params, [name]) == there(layer, index)


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_is_all_of_its_arrays(params, name):
    assert parts.parse(name, CFG) == name
    flat = checkpoint.flatten(params)
    expected = {(p, *at) for p in COMPONENTS[name] for at in np.ndindex(flat[p].shape)}
    assert touched(params, [name]) == expected


def test_several_parts_are_all_of_theirs_and_none_is_none(params):
    both = touched(params, ["expert 1.4", "head 0.1", "router 1.4"])
    assert both == in_expert(1, 4) | in_head(0, 1) | in_router(1, 4)
    assert touched(params, ["expert 0.2", "experts"]) == touched(params, ["experts"])
    assert touched(params, []) == set()


def test_all_components_are_the_model_and_all_experts_are_theirs(params):
    sizes = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert len(touched(params, COMPONENTS)) == sizes
    every = [f"expert {layer}.{e}" for layer, e in np.ndindex(CFG.layers, CFG.experts)]
    assert touched(params, every) == touched(params, ["experts"])


def test_a_head_that_is_all_zeros_is_silent_and_changes_what_is_normalised_with_it(params):
    tokens_BT = np.random.default_rng(0).integers(0, 11, (6, 7))
    mask = parts.mask(["head 1.0"], params, CFG)
    zeroed = parts.exchanged(params, jax.tree.map(np.zeros_like, params), mask)
    edits = taps.edits(
        CFG,
        tokens_BT,
        head_out=taps.zero(taps.places("head_out", CFG, tokens_BT, layer=1, head=0)),
    )
    silent = model.forward(params, tokens_BT, CFG, edits=edits).logits_BTV
    assert abs(silent - model.forward(params, tokens_BT, CFG).logits_BTV).max() > 0.1

    # Queries and keys of all heads share a norm: with those of this one left, nothing else is new.
    D, qkv = CFG.width, zeroed["layers"]["qkv"].copy()
    qkv[..., : 2 * D] = params["layers"]["qkv"][..., : 2 * D]
    without = zeroed | {"layers": zeroed["layers"] | {"qkv": qkv}}
    logits = model.forward(without, tokens_BT, CFG).logits_BTV
    np.testing.assert_allclose(logits, silent, rtol=0, atol=1e-4)
    assert abs(model.forward(zeroed, tokens_BT, CFG).logits_BTV - silent).max() > 1e-3


BAD = {
    "expert 2.0": "part 'expert 2.0' does not exist: there are 2 layers of 5 experts, numbered",
    "expert 0.5": "part 'expert 0.5' does not exist",
    "router 1.5": "2 layers of 5 experts",
    "head 0.2": "part 'head 0.2' does not exist: there are 2 layers of 2 heads, numbered from 0",
    "expert 0": "part 'expert 0' is not known: write `expert LAYER.NUMBER`",
    "expert -1.0": "is not known",
    "expert 0.1 ": "is not known",
    "expert ١.0": "is not known",
    "expert 0.1\n": "is not known",
    "expert 01.0": "is not known",  # a part has one name
    "layer 0": "or one of experts, router, attention, embeddings, norms",
    "Experts": "is not known",
    "": "part '' is not known",
    "x" * 1000: "part 'x",
    ("expert", 0, 1): "is not known",
    None: "part None is not known",
    7: "part 7 is not known",
}


@pytest.mark.parametrize("name", BAD, ids=lambda name: f"{name!r:.20}")
def test_what_no_part_is_called_is_one_sentence(name):
    with pytest.raises(ConfigError) as error:
        parts.parse(name, CFG)
    assert BAD[name] in str(error.value) and "\n" not in str(error.value)
    assert len(str(error.value)) < 200
