"""Small changes of a frozen model: low-rank deltas on chosen experts, and what rivals change.

A delta adds to the parameters only at a `Place`, whose masks may be traced, so one compiled program
serves every choice of experts. A fresh delta changes nothing: the model is the base model bit for
bit, and so is, whatever the delta, every matrix outside the place.

Besides the letters of the package docstring: R the rank of a delta. Source: LoRA, arXiv 2106.09685,
eq. 3, without its scale, W' = W + A B with A drawn as a fresh matrix is and B zero.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import model
from ..config import ConfigError, ModelConfig

Delta = dict[str, Any]
EXPERT_MATRICES = ("gate_up", "down")
ATTENTION_MATRICES = ("qkv", "out")


class Place(NamedTuple):
    """Where a model may change; bool arrays, or bools."""

    experts_LE: Any = False  # low-rank, both matrices of these experts
    attention: Any = False  # low-rank, both matrices of every layer's attention
    router: Any = False  # whole, every layer's router
    everything: Any = False  # whole, every parameter

    @property
    def needs_whole(self) -> bool:
        """Whether a delta must have ``whole`` to change what this place names."""
        return bool(np.any(self.router) or np.any(self.everything))


def experts(cfg: ModelConfig, chosen) -> Place:
    """The place of some experts, given as pairs (layer, expert) or as a mask [L, E].

    Raises:
      ConfigError: an expert that does not exist.
    """
    chosen = np.asarray(chosen)
    if chosen.dtype == bool and chosen.shape == (cfg.layers, cfg.experts):
        return Place(experts_LE=chosen)
    mask_LE = np.zeros((cfg.layers, cfg.experts), bool)
    for layer, expert in chosen.reshape(-1, 2):
        if not (0 <= layer < cfg.layers and 0 <= expert < cfg.experts):
            raise ConfigError(
                f"expert {expert} of layer {layer} does not exist: there are {cfg.experts} in each "
                f"of {cfg.layers} layers, numbered from 0."
            )
        mask_LE[layer, expert] = True
    return Place(experts_LE=mask_LE)


def fresh(
    key: jax.Array, params: model.Params, rank: int = 2, attention_rank: int = 3, whole: bool = True
) -> Delta:
    """A delta that changes nothing yet: ``low``, pairs A [L, (E,) in, R] and B [L, (E,) R, out] of
    every expert's and attention's matrices, and, where asked for, ``whole``, zeros like the
    parameters, for the places that change routers or everything."""
    layers = params["layers"]
    names = {name: (layers["experts"][name], rank) for name in EXPERT_MATRICES}
    names |= {name: (layers[name], attention_rank) for name in ATTENTION_MATRICES}
    low = {}
    for at, (name, (matrix, r)) in enumerate(names.items()):
        *lead, wide, out = np.shape(matrix)
        a = jax.random.normal(jax.random.fold_in(key, at), (*lead, wide, r)) / wide**0.5
        low[name] = {"a": a, "b": jnp.zeros((*lead, r, out))}
    return {"low": low} | ({"whole": jax.tree.map(jnp.zeros_like, params)} if whole else {})


def merge(params: model.Params, delta: Delta, place: Place) -> model.Params:
    """The parameters with the delta added at the place; everything else is left as it is.

    A delta without ``whole`` changes neither routers nor everything, whatever the place says.
    """

    def low(name, matrix, where):
        change = delta["low"][name]["a"] @ delta["low"][name]["b"]
        return jnp.where(where, matrix + change, matrix)

    changed = _with_whole(params, delta["whole"], place) if "whole" in delta else params
    layers = changed["layers"]
    chosen = jnp.reshape(place.experts_LE, (*np.shape(place.experts_LE), 1, 1))
    return changed | {
        "layers": layers
        | {name: low(name, layers[name], place.attention) for name in ATTENTION_MATRICES}
        | {"experts": {n: low(n, layers["experts"][n], chosen) for n in EXPERT_MATRICES}}
    }


def _with_whole(params, whole, place):
    def where(here, base, change):
        return jnp.where(here, base + change, base)

    changed = jax.tree.map(partial(where, place.everything), params, whole)
    router = where(
        jnp.logical_or(place.router, place.everything),
        params["layers"]["router"],
        whole["layers"]["router"],
    )
    return changed | {"layers": changed["layers"] | {"router": router}}


def count(params: model.Params, place: Place, rank: int = 2, attention_rank: int = 3) -> int:
    """Number of parameters that a delta trains at a place."""
    if np.any(place.everything):
        return model.count(params)
    layers = params["layers"]
    each = {n: sum(np.shape(layers["experts"][n])[-2:]) * rank for n in EXPERT_MATRICES}
    total = int(np.sum(place.experts_LE)) * sum(each.values())
    if np.any(place.attention):
        L = len(layers["qkv"])
        total += L * attention_rank * sum(sum(np.shape(layers[n])[1:]) for n in ATTENTION_MATRICES)
    if np.any(place.router):
        total += np.size(layers["router"])
    return total


def share(params: model.Params, place: Place, rank: int = 2, attention_rank: int = 3) -> float:
    """`count` as a share of the model's parameters."""
    return count(params, place, rank, attention_rank) / model.count(params)
