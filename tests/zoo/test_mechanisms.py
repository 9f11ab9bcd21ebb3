"""Every mechanism draws parts that exist and that its lesson reaches."""

import numpy as np
import pytest

from toymoe.config import ModelConfig
from toymoe.training.trainable import COMPONENTS
from toymoe.zoo import by_hand, parts
from toymoe.zoo.mechanisms import MECHANISMS, NEAR, REACHED

pytestmark = pytest.mark.core

SHAPES = [(3, 18, 2, 4), (2, 4, 1, 2), (1, 6, 2, 1), (1, 4, 1, 1), (1, 2, 1, 1), (2, 2, 2, 2)]


def config(layers, experts, top_k, heads):
    return ModelConfig(layers, 4 * heads, heads, experts, 4, top_k)


def selected(cfg, seed=0, n=200):
    """Which experts some prompts select, some more than others: bool [L, B, E]."""
    rng = np.random.default_rng(seed)
    liking_LE = 2 * rng.normal(size=(cfg.layers, 1, cfg.experts))
    score_LBE = liking_LE + rng.gumbel(size=(cfg.layers, n, cfg.experts))
    order_LBE = np.argsort(np.argsort(-score_LBE, -1), -1)
    return order_LBE < cfg.top_k


def keys(name, selected_LBE, cfg, n=40):
    return [MECHANISMS[name].draw(selected_LBE, cfg, np.random.default_rng(i)) for i in range(n)]


def of(key, cfg):
    return [parts.parse(part, cfg) for part in key.parts]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MECHANISMS)
def test_every_key_names_parts_that_exist_each_once(name, shape):
    if name.endswith("pair") and shape[:2] == (1, 1):
        pytest.skip("one expert is no pair")
    cfg = config(*shape)
    for key in keys(name, selected(cfg), cfg):
        kinds = {p if isinstance(p, str) else p[0] for p in of(key, cfg)}  # or a ConfigError
        assert len(set(key.parts)) == len(key.parts) in (1, 2)
        assert key.needs in ("one", "each", "all", "many") and key.grain in (
            "expert",
            "head",
            "component",
        )
        assert (key.needs in ("each", "all")) == (len(key.parts) == 2)
        assert (kinds <= {*COMPONENTS}) == (key.grain == "component")


@pytest.mark.parametrize("name", MECHANISMS)
def test_the_same_rng_draws_the_same_key_and_another_another(name):
    cfg = config(*SHAPES[0])
    selected_LBE = selected(cfg)
    found = keys(name, selected_LBE, cfg)
    assert found == keys(name, selected_LBE, cfg)
    assert (len(set(found)) > 1) == (found[0].grain != "component")


def test_an_expert_is_drawn_among_those_that_are_reached_enough():
    cfg = config(2, 6, 2, 2)
    selected_LBE = selected(cfg)
    L, B, E = selected_LBE.shape
    enough = {
        ("expert", layer, e)
        for layer in range(L)
        for e in range(E)
        if sum(bool(selected_LBE[layer, b, e]) for b in range(B)) >= REACHED * B
    }
    assert NEAR <= len(enough) < L * E
    assert {of(key, cfg)[0] for key in keys("one_expert", selected_LBE, cfg, 100)} == enough


def test_where_few_are_reached_enough_the_nearest_are_drawn():
    cfg = config(1, 8, 1, 1)
    selected_LBE = np.zeros((1, 100, 8), bool)
    for e, n in enumerate((3, 40, 7, 1, 20, 9, 11, 9)):  # ties are in order
        selected_LBE[0, sum((3, 40, 7, 1, 20, 9, 11, 9)[:e]) :, e][:n] = True
    found = {of(key, cfg)[0][2] for key in keys("one_expert", selected_LBE, cfg)}
    assert found == {1, 4, 6}


def together(selected_LBE, a, b):
    """How many prompts select both, and how many either."""
    both = either = 0
    for i in range(selected_LBE.shape[1]):
        x, y = bool(selected_LBE[a[0], i, a[1]]), bool(selected_LBE[b[0], i, b[1]])
        both, either = both + (x and y), either + (x or y)
    return both, either


@pytest.mark.parametrize(("name", "across"), [("redundant_pair", False), ("joint_pair", True)])
def test_a_pair_is_selected_together_and_a_redundant_one_in_one_layer(name, across):
    cfg = config(3, 6, 2, 2)
    selected_LBE = selected(cfg, 4)
    places = [*np.ndindex(3, 6)]
    able = {}
    for i, a in enumerate(places):
        for b in places[i + 1 :]:
            both, either = together(selected_LBE, a, b)
            if both >= REACHED / 2 * 200 and a[0] > 0 and (across or a[0] == b[0]):
                able[a, b] = both / either
    enough = {pair for pair, share in able.items() if share >= REACHED}
    if len(enough) < NEAR:
        enough = set(sorted(able, key=able.get)[-NEAR:])
    found = {tuple(p[1:] for p in of(key, cfg)) for key in keys(name, selected_LBE, cfg, 100)}
    assert found == enough
    assert any(a[0] != b[0] for a, b in found) is across


def test_with_one_expert_at_a_time_a_pair_is_of_two_layers():
    cfg = config(3, 4, 1, 2)
    found = keys("redundant_pair", selected(cfg), cfg)
    assert (1, 2) in {(a[1], b[1]) for a, b in (of(key, cfg) for key in found)}


def test_a_head_feeds_an_expert_that_comes_after_it():
    cfg = config(3, 6, 2, 2)
    found = [of(key, cfg) for key in keys("head_and_expert", selected(cfg), cfg, 100)]
    assert {(head[0], expert[0]) for head, expert in found} == {("head", "expert")}
    assert all(head[1] <= expert[1] and expert[1] > 0 for head, expert in found)
    assert {head[2] for head, _ in found} == {0, 1}


@pytest.mark.parametrize("layers", [1, 3])
def test_a_routed_expert_is_idle_and_has_its_router(layers):
    cfg = config(layers, 6, 2, 2)
    selected_LBE, where = selected(cfg), min(1, layers - 1)
    used = sorted(range(6), key=lambda e: selected_LBE[where, :, e].sum())
    found = [of(key, cfg) for key in keys("routed_expert", selected_LBE, cfg)]
    assert all(router == ("router", *expert[1:]) for expert, router in found)
    assert {expert[1:] for expert, _ in found} == {(where, e) for e in used[:3]}


def test_every_row_can_be_written_as_it_says():
    for name, row in MECHANISMS.items():
        assert set(row.updates) <= {"full", "low_rank", "by_hand"}
        assert ("by_hand" in row.updates) == (name in by_hand.HANDS)
        assert row.meaning
    assert {*by_hand.HANDS} <= {*MECHANISMS}
