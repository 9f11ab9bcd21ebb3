"""Masks of experts: the highest by some scores, random ones, and ones that are used as much."""

import numpy as np

from ..config import ConfigError


def highest(scores_LE, n: int, layers: int | None = None, leave: int = 0) -> np.ndarray:
    """Mask [L, E] of the ``n`` highest scores.

    Args:
      layers: of the last so many layers only.
      leave: experts to leave in every layer, whatever their scores.

    Raises:
      ConfigError: more experts than there are.
    """
    scores_LE = np.asarray(scores_LE, float)
    L, E = scores_LE.shape
    first = 0 if layers is None else L - layers
    there = (L - first) * (E - leave)
    if not 1 <= n <= there:
        raise ConfigError(f"{n} experts are not possible: it must be from 1 to {there}.")
    mask_LE = np.zeros((L, E), bool)
    for at in np.argsort(-scores_LE, None, kind="stable"):
        layer, expert = divmod(int(at), E)
        if layer >= first and mask_LE[layer].sum() < E - leave and mask_LE.sum() < n:
            mask_LE[layer, expert] = True
    return mask_LE


def random(like_LE, rng: np.random.Generator) -> np.ndarray:
    """As many experts as in a mask, anywhere: [L, E]."""
    return rng.permutation(np.ravel(like_LE)).reshape(np.shape(like_LE))


def matched(like_LE, usage_LE, rng: np.random.Generator, near: int = 3) -> np.ndarray:
    """For each expert of a mask another of its layer, not in the mask nor taken yet, drawn among
    the ``near`` ones whose usage is nearest: [L, E].

    Where a layer has no other expert left, its own expert stays.
    """
    taken_LE = np.array(like_LE, bool)
    made_LE = np.zeros_like(taken_LE)
    for layer, expert in np.argwhere(like_LE):
        free = np.flatnonzero(~taken_LE[layer])
        if not free.size:
            made_LE[layer, expert] = True
            continue
        apart = np.abs(usage_LE[layer, free] - usage_LE[layer, expert])
        pick = rng.choice(free[np.argsort(apart, kind="stable")[:near]])
        taken_LE[layer, pick] = made_LE[layer, pick] = True
    return made_LE
