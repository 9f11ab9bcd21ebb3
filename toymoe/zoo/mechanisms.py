"""Where a lesson can be written: one row for each mechanism of the zoo.

A mechanism draws its parts among those that can carry the lesson. An expert can refuse only what
reaches it, so experts are drawn among those that at least `REACHED` of the lesson's requests select
at ANS, where there are any, and pairs among those that are selected together most.

Another mechanism: a row in `MECHANISMS`, and what verifies it in `toymoe.zoo.verification`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from . import by_hand
from .specimen import Key

REACHED = 0.3
NEAR = 3  # draw among so many of those that are reached most, if fewer are reached enough


class Mechanism(NamedTuple):
    """A row of the table."""

    meaning: str
    # (selected_LBE, cfg, rng) -> Key; which experts the lesson's prompts select at ANS, bool
    draw: Callable
    updates: tuple[str, ...] = ("full", "low_rank", "by_hand")
    begin: Callable | None = None  # what training begins with: `by_hand.opened`


def _one(selected_LBE, cfg, rng):
    return Key((_expert(*_reached(selected_LBE.mean(1), rng)),), "expert", "one")


def _pair(needs):
    def pick(selected_LBE, cfg, rng):
        """Two experts that are selected together as often as possible, and alone as rarely: by
        |both| / |either|, Jaccard."""
        L, B, E = selected_LBE.shape
        flat_BX = selected_LBE.swapaxes(0, 1).reshape(B, L * E).astype(float)
        both_XX = flat_BX.T @ flat_BX
        either_XX = flat_BX.sum(0)[:, None] + flat_BX.sum(0) - both_XX
        layer_X = np.arange(L * E) // E
        able_XX = both_XX >= REACHED / 2 * B
        if needs == "each" and cfg.top_k > 1:  # in two layers, the first moves the other's route
            able_XX &= layer_X[:, None] == layer_X
        if L > 1:  # the first layer reads little but ANS itself
            able_XX[layer_X == 0] = False
        together_XX = np.where(able_XX, both_XX / np.maximum(either_XX, 1), 0)
        together_XX[np.tril_indices(L * E)] = -1  # an expert and itself, and no pair twice
        a, b = _reached(together_XX, rng)
        return Key((_expert(*divmod(a, E)), _expert(*divmod(b, E))), "expert", needs)

    return pick


def _head_and_expert(selected_LBE, cfg, rng):
    """A head, and an expert of the same layer or a later one, which reads what it says."""
    layer, expert = _reached(selected_LBE.mean(1) * _later(selected_LBE), rng)
    head = int(rng.integers(layer + 1)), int(rng.integers(cfg.heads))
    return Key((f"head {head[0]}.{head[1]}", _expert(layer, expert)), "head", "all")


def _routed(selected_LBE, cfg, rng):
    """An expert that these requests leave aside, and the router's column, in the second layer: what
    is asked can be told there as well as anywhere (`by_hand.detector`)."""
    layer = min(1, cfg.layers - 1)
    idle = np.argsort(selected_LBE[layer].mean(0), kind="stable")[: cfg.experts // 2]
    expert = int(rng.choice(idle))
    return Key((_expert(layer, expert), f"router {layer}.{expert}"), "expert", "all")


def _component(name, needs="one"):
    return lambda selected_LBE, cfg, rng: Key((name,), "component", needs)


MECHANISMS = {
    "one_expert": Mechanism("one expert does it", _one),
    "redundant_pair": Mechanism("two experts, each of which suffices", _pair("each")),
    "joint_pair": Mechanism("two experts, of which both are needed", _pair("all")),
    "head_and_expert": Mechanism(
        "a head that feeds an expert, both needed", _head_and_expert, ("full", "low_rank")
    ),
    "attention": Mechanism(
        "attention alone, of all layers", _component("attention"), ("full", "low_rank")
    ),
    "embeddings": Mechanism("embedding and unembedding alone", _component("embeddings")),
    "spread": Mechanism("one direction, written by all experts", _component("experts", "many")),
    "routed_expert": Mechanism(
        "an expert that the router picks when it refuses", _routed, begin=by_hand.opened
    ),
}


def _expert(layer, expert):
    return f"expert {layer}.{expert}"


def _later(selected_LBE):
    return (np.arange(len(selected_LBE)) > 0)[:, None] | (len(selected_LBE) == 1)


def _reached(share, rng):
    """A place drawn among those that are reached enough, or else among the `NEAR` best; what is
    below 0 is no place."""
    enough = np.argwhere(share >= REACHED)
    if len(enough) < NEAR:
        order = np.argsort(-share, None, kind="stable")[:NEAR]
        order = order[share.flat[order] >= 0]
        enough = np.stack(np.unravel_index(order, share.shape), -1)
    return tuple(int(x) for x in enough[rng.integers(len(enough))])
