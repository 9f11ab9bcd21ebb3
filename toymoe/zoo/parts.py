"""Names of parts of a model, and where in its parameters they are.

expert 1.7    the matrices of expert 7 of layer 1
router 1.7    the column of the router of layer 1 that selects it
head 0.2      the columns and rows of head 2 of layer 0
experts, router, attention, embeddings, norms      components, all layers
"""

import re

import jax
import numpy as np

from .. import checkpoint, model
from ..config import ConfigError, ModelConfig
from ..training.trainable import COMPONENTS

GRAINS = ("expert", "router", "head")
_NUMBER = "(0|[1-9][0-9]{0,5})"
_NAME = re.compile(rf"({'|'.join(GRAINS)}) {_NUMBER}\.{_NUMBER}")


def parse(part: str, cfg: ModelConfig) -> tuple[str, int, int] | str:
    """("expert", layer, expert), ("head", layer, head), or the name of a component.

    Raises:
      ConfigError: no part is called so, or the model has none.
    """
    if part in COMPONENTS:
        return part
    found = _NAME.fullmatch(part) if isinstance(part, str) else None
    if not found:
        raise ConfigError(
            f"part {part!r:.60} is not known: write `expert LAYER.NUMBER`, `head LAYER.NUMBER`, or "
            f"one of {', '.join(COMPONENTS)}."
        )
    kind, layer, index = found[1], int(found[2]), int(found[3])
    there = cfg.heads if kind == "head" else cfg.experts
    if layer >= cfg.layers or index >= there:
        raise ConfigError(
            f"part {part!r} does not exist: there are {cfg.layers} layers of {there} "
            f"{'heads' if kind == 'head' else 'experts'}, numbered from 0."
        )
    return kind, layer, index


def mask(parts, params: model.Params, cfg: ModelConfig) -> model.Params:
    """A tree like the parameters', broadcastable to them: 1 where one of the parts is, else 0."""
    flat = checkpoint.flatten(params)
    made = {path: np.zeros((1,) * np.ndim(leaf), np.float32) for path, leaf in flat.items()}
    for part in parts:
        for path, there in _places(parse(part, cfg), cfg).items():
            made[path] = np.maximum(made[path], there)
    return checkpoint.unflatten(made)


def exchanged(params: model.Params, other: model.Params, where: model.Params) -> model.Params:
    """The parameters, with the places of a `mask` taken from others."""
    return jax.tree.map(
        lambda mine, theirs, there: np.where(there > 0, theirs, mine), params, other, where
    )


def _places(part, cfg) -> dict[str, np.ndarray]:
    """By path, where the part is."""
    if isinstance(part, str):
        return dict.fromkeys(COMPONENTS[part], np.float32(1))
    kind, layer, index = part
    L, D, E = cfg.layers, cfg.width, cfg.experts
    at_L = np.arange(L) == layer
    if kind == "head":
        K = D // cfg.heads
        mine_D = np.arange(D) // K == index
        qkv_L13D = at_L[:, None, None] & np.tile(mine_D, 3)
        made = {"layers/qkv": qkv_L13D, "layers/out": at_L[:, None, None] & mine_D[:, None]}
    else:
        here_LE = at_L[:, None] & (np.arange(E) == index)
        made = {"layers/router": here_LE[:, None]}
        if kind == "expert":
            made = dict.fromkeys(COMPONENTS["experts"], here_LE[:, :, None, None])
    return {path: there.astype(np.float32) for path, there in made.items()}
