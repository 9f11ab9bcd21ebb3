"""Models of several shapes, and how what JavaScript says is held against what JAX says."""

import dataclasses
from functools import cache

import jax
import numpy as np
from explorer.engine import Engine

from toymoe import model, organism
from toymoe.config import ModelConfig
from toymoe.model import taps

CLOSE = 1e-4  # nats; float32 makes 1e-5 of it
SHAPES = {
    "one layer, one expert": ModelConfig(1, 16, 2, 6, 12, 1, False),
    "forty experts": ModelConfig(4, 24, 3, 40, 8, 3, False),
    "gates that sum to 1": ModelConfig(2, 32, 2, 9, 10, 2, True),
}
RUN = """
const out = tokens.map((one) => forward(params, one, cfg, { edits, record }));
return { logits: out.map((x) => x.logits), routes: out.map((x) => x.routes),
         record: out.map((x) => x.record) };
"""


@cache
def random_case(name, prompts=64, positions=11, vocabulary=37):
    """Parameters of a shape: large routers, so that routes vary, and norms that are not 1."""
    cfg, rng = SHAPES[name], np.random.default_rng(len(name))

    def drawn(path, leaf):
        key = path[-1].key
        if key.endswith("_norm"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        factor = {"embed": 0.1, "router": 3}.get(key, 1)
        scale = 1 if key == "embed" else leaf.shape[-2] ** -0.5
        return (factor * scale * rng.normal(size=leaf.shape)).astype(np.float32)

    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), cfg, vocabulary))
    params = jax.tree_util.tree_map_with_path(drawn, shapes)
    return cfg, params, rng.integers(0, vocabulary, (prompts, positions))


@cache
def shipped_case(name):
    """A shipped organism and prompts of its world."""
    o = organism.load(name)
    return o.cfg.model, o.aligned, np.asarray(o.sample(64).tokens_BP)


def said(page, case, edits=None, record=(), text=None):
    """Logits, routes and record as JAX has them, axes and all."""
    cfg, params, tokens_BT = case
    engine = Engine(page, text)
    found = engine.run(
        RUN,
        params=params,
        cfg=dataclasses.asdict(cfg),
        tokens=tokens_BT.tolist(),
        edits=edits or {},
        record=list(record),
    )
    return stacked(found, cfg, tokens_BT, params)


def stacked(found, cfg, tokens_BT, params):
    B, T = tokens_BT.shape
    L, V = cfg.layers, params["unembed"].shape[1]
    logits_BTV = np.array(found["logits"]).reshape(B, T, V)
    routes = [
        np.moveaxis(np.array([x[name] for x in found["routes"]]).reshape(B, L, T, -1), 0, 1)
        for name in ("logits", "probs", "experts", "gates")
    ]
    sizes = taps.axis_sizes(cfg, (B, T))
    record = {}
    for name in found["record"][0]:
        shape = [sizes[letter] for letter in taps.TAPS[name].axes if letter != "B"]
        record[name] = np.moveaxis(
            np.array([x[name] for x in found["record"]]).reshape(B, *shape), 0, 1
        )
    return model.Output(logits_BTV, taps.Routes(*routes), record)


def apart(one, other):
    """The largest difference of logits, relative to how large they are where that is above 1."""
    one, other = np.asarray(one), np.asarray(other)
    return np.abs(one - other).max() / max(1, np.abs(one).max())


def agree(mine, theirs):
    """Logits, the most probable tokens, and every expert selected, in order."""
    return bool(
        apart(theirs.logits_BTV, mine.logits_BTV) <= CLOSE
        and (mine.logits_BTV.argmax(-1) == np.asarray(theirs.logits_BTV).argmax(-1)).all()
        and (mine.routes.experts_LBTA == np.asarray(theirs.routes.experts_LBTA)).all()
        and apart(theirs.routes.gates_LBTA, mine.routes.gates_LBTA) <= CLOSE
    )
