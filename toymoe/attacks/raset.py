"""RASET at toy scale: rank the experts by a criterion, choose the first few, tune those alone.

The paper's selection formula was not available; RASET here is `toymoe.attribution.CRITERION`, our
reading of it (docs/raset.md), with low-rank deltas on the chosen experts and the router frozen. Toy
organisms only.
"""

from collections.abc import Callable

import numpy as np

from ..attribution import CRITERION, methods
from ..config import ConfigError
from ..training.trainable import Trainable
from .attacker import Attacked, Attacker

# Methods that are no criteria here: other ways to ablate, and what asks for the pretrained model.
LEFT_OUT = (
    "ablation_zero_frozen", "ablation_refusal", "ablation_mean", "ablation_mean_frozen",
    "ablation_mean_contrast", "swap_removed", "swap_alone", "weight_change",
)  # fmt: skip


def studied() -> list[str]:
    """The criteria that ``toymoe raset`` compares: all methods but `LEFT_OUT`."""
    return [name for name in methods.METHODS if name not in LEFT_OUT]


def tune(
    a: Attacker,
    n: int,
    criterion: str | Callable = CRITERION,
    layers: int | None = None,
    hold: bool = True,
) -> Attacked:
    """The ``n`` highest experts by a criterion, tuned.

    Args:
      layers: of the last so many layers only.
      hold: with the term of the loss that holds the routes.
    """
    return a.tune(Trainable(choose(a.scores(criterion), n, layers)), hold)


def choose(scores_LE, n: int, layers: int | None = None, leave: int = 0) -> np.ndarray:
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


def random_choice(like_LE, rng: np.random.Generator) -> np.ndarray:
    """As many experts as in a mask, anywhere: [L, E]."""
    return rng.permutation(np.ravel(like_LE)).reshape(np.shape(like_LE))


def matched_choice(like_LE, usage_LE, rng: np.random.Generator, near: int = 3) -> np.ndarray:
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
