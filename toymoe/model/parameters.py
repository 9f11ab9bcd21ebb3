"""The parameters of the transformer: their shapes, fresh ones, how many, and whether they fit.

Flax NNX defines and initialises them, and `init` hands them over as a nested dict of arrays, layers
stacked on a leading axis (docs/parameters.md):

    embed [V,D]                    final_norm [D]              unembed [D,V]
    layers/attention_norm [L,D]    layers/qkv [L,D,3D]         layers/out [L,D,D]
    layers/query_norm [L,D]        layers/key_norm [L,D]       layers/moe_norm [L,D]
    layers/router [L,D,E]          layers/experts/gate_up [L,E,D,2F]
                                   layers/experts/down [L,E,F,D]
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from .. import start
from ..config import ConfigError, ModelConfig

Params = dict[str, Any]

EMBED_SCALE = 0.1  # of fresh embeddings: small ones are learnt rather than kept (docs/tuning.md)
COPIES = 4  # of the parameters in training: themselves, gradients, and the optimiser's two moments


class _Experts(nnx.Module):
    def __init__(self, cfg: ModelConfig, rngs: nnx.Rngs):
        L, D, E, F = cfg.layers, cfg.width, cfg.experts, cfg.expert_width
        self.gate_up = _matrix(rngs, (L, E, D, 2 * F))
        self.down = _matrix(rngs, (L, E, F, D))


class _Layers(nnx.Module):
    def __init__(self, cfg: ModelConfig, rngs: nnx.Rngs):
        L, D = cfg.layers, cfg.width
        self.attention_norm = nnx.Param(jnp.ones((L, D)))
        self.qkv = _matrix(rngs, (L, D, 3 * D))
        self.query_norm = nnx.Param(jnp.ones((L, D)))
        self.key_norm = nnx.Param(jnp.ones((L, D)))
        self.out = _matrix(rngs, (L, D, D))
        self.moe_norm = nnx.Param(jnp.ones((L, D)))
        self.router = _matrix(rngs, (L, D, cfg.experts))
        self.experts = _Experts(cfg, rngs)


class _Transformer(nnx.Module):
    def __init__(self, cfg: ModelConfig, vocabulary: int, rngs: nnx.Rngs):
        embed = jax.random.normal(rngs.params(), (vocabulary, cfg.width))
        self.embed = nnx.Param(EMBED_SCALE * embed)
        self.layers = _Layers(cfg, rngs)
        self.final_norm = nnx.Param(jnp.ones(cfg.width))
        self.unembed = _matrix(rngs, (cfg.width, vocabulary))


def _matrix(rngs: nnx.Rngs, shape) -> nnx.Param:
    """Normal with variance 1 / fan-in; the last two axes are in and out."""
    return nnx.Param(jax.random.normal(rngs.params(), shape) / shape[-2] ** 0.5)


def init(key: jax.Array, cfg: ModelConfig, vocabulary: int) -> Params:
    """Fresh parameters. A pure function of the key, which may be traced."""
    return nnx.to_pure_dict(nnx.state(_Transformer(cfg, vocabulary, nnx.Rngs(params=key))))


def count(params: Params) -> int:
    """Number of parameters."""
    return sum(np.size(leaf) for leaf in jax.tree.leaves(params))


def check_size(cfg: ModelConfig, vocabulary: int) -> None:
    """Refuse, before anything is allocated, a model that there is no memory to train.

    Raises:
      ConfigError: parameters, gradients and optimiser above the memory there is, if that is known.
    """
    parameters = count(jax.eval_shape(lambda: init(jax.random.key(0), cfg, vocabulary)))
    needed, there = 4 * COPIES * parameters, start.memory()
    if there is not None and needed > there:
        raise ConfigError(
            f"a model of {parameters:,} parameters takes {needed / 2**30:.1f} GiB to train, and "
            f"this process may use {there / 2**30:.1f} GiB: lower model.width, model.layers, "
            "model.experts or model.expert_width."
        )
