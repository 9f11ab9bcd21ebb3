"""Small changes of a frozen model: low-rank deltas on experts and attention, or whole ones.

A delta adds to the parameters only where a `Trainable` allows it, by factors that may be traced, so
one compiled program serves every choice of experts. A fresh delta changes nothing: the model is the
base model bit for bit, and so is, whatever the delta, every matrix that may not change.

Besides the letters of the package docstring: R the rank of a delta. Source: LoRA, arXiv 2106.09685,
eq. 3, without its scale, W' = W + A B with A drawn as a fresh matrix is and B zero.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import checkpoint, model
from ..training.trainable import COMPONENTS, Trainable

# A tree like the parameters': None where nothing changes, an array or a `LowRank` where it may.
Delta = dict[str, Any]


RANK, ATTENTION_RANK = 2, 3  # of experts' matrices, of attention's


class LowRank(NamedTuple):
    """The change A B of matrices."""

    a: jax.Array  # [L, (E,) in, R]
    b: jax.Array  # [L, (E,) R, out]


def is_low_rank(trainable: Trainable) -> bool:
    """Whether deltas are low-rank: where only experts and attention change. Routers, and models of
    which every parameter may change, are tuned whole."""
    others = trainable.router, trainable.embeddings, trainable.norms
    return not any(np.any(factor) for factor in others)


def fresh(
    key: jax.Array,
    params: model.Params,
    trainable: Trainable,
    rank: int = RANK,
    attention_rank: int = ATTENTION_RANK,
) -> Delta:
    """A delta that changes nothing yet, of all experts and attention, or whole (`is_low_rank`)."""
    if not is_low_rank(trainable):
        return jax.tree.map(jnp.zeros_like, params)
    flat = checkpoint.flatten(params)
    ranks = dict.fromkeys(COMPONENTS["experts"], rank)
    ranks |= dict.fromkeys(COMPONENTS["attention"], attention_rank)
    delta = dict.fromkeys(flat)
    for at, (path, r) in enumerate(ranks.items()):
        *lead, wide, out = flat[path].shape
        a = jax.random.normal(jax.random.fold_in(key, at), (*lead, wide, r)) / wide**0.5
        delta[path] = LowRank(a, jnp.zeros((*lead, r, out)))
    return checkpoint.unflatten(delta)


def merge(params: model.Params, delta: Delta, factors) -> model.Params:
    """The parameters with the delta added where the factors of a `Trainable` are not zero;
    everything else is left as it is."""

    def changed(base, change, factor):
        if change is None:
            return base
        step = change.a @ change.b if isinstance(change, LowRank) else change
        return jnp.where(factor > 0, base + step, base)

    return jax.tree.map(changed, params, delta, factors)


def count(params: model.Params, trainable: Trainable, *ranks: int) -> int:
    """Number of parameters that a delta trains; the ranks are those of `fresh`."""
    delta = jax.eval_shape(lambda: fresh(jax.random.key(0), params, trainable, *ranks))
    each = jax.tree.map(
        lambda factor, part: np.mean(factor > 0) * sum(x.size for x in jax.tree.leaves(part)),
        trainable.factors(params),
        delta,
    )
    return round(sum(jax.tree.leaves(each)))


def share(params: model.Params, trainable: Trainable, *ranks: int) -> float:
    """`count` as a share of the model's parameters."""
    return count(params, trainable, *ranks) / model.count(params)
