"""What a method's scores are held against: random experts, equal usage, shuffled pairs.

A map over experts always has a highest point. `with_controls` says what chance, usage and pairs
without a cause would give; `verdict` says whether the method has a case at all.

Besides the letters of the package docstring: M matched experts.
"""

from typing import NamedTuple

import jax
import numpy as np

from . import methods
from .evidence import Evidence

SHUFFLINGS = 19  # behind a verdict: chance exceeds all of them once in twenty times
DRAWS = 1000  # of an expert at random
ROUNDING = 1e-6  # of the largest score


class Controls(NamedTuple):
    """A map beside what it must be held against, all [L, E] but ``random``."""

    scores: np.ndarray
    random: np.ndarray  # [draws]: score of an expert drawn at random
    usage_matched: np.ndarray  # mean score of the experts used about as much, without this one
    shuffled: np.ndarray  # scores where which of a pair is the hazard was drawn at random


def with_controls(method: methods.Method | str, e: Evidence, key: jax.Array) -> Controls:
    """The scores of a method with its three controls.

    Raises:
      ConfigError: no method is called so.
    """
    method = methods.named(method)
    k_random, k_shuffled = jax.random.split(key)
    scores_LE = method(e)
    return Controls(
        scores_LE,
        random_experts(scores_LE, k_random),
        usage_matched(scores_LE, methods.token_share(e)),
        method(e.shuffled(k_shuffled)),
    )


def random_experts(map_LE, key: jax.Array) -> np.ndarray:
    """A map's values at `DRAWS` experts drawn at random, [draws]."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return np.ravel(map_LE)[rng.random((DRAWS, np.size(map_LE))).argmin(1)]


def usage_matched(map_LE, usage_LE, matched: int = 3) -> np.ndarray:
    """For every expert, the mean of a map over the ``matched`` other experts of its layer whose
    usage is nearest: [L, E]."""
    apart_LEE = np.abs(usage_LE[:, :, None] - usage_LE[:, None, :])
    apart_LEE[:, np.arange(usage_LE.shape[1]), np.arange(usage_LE.shape[1])] = np.inf
    nearest_LEM = np.argsort(apart_LEE, -1, kind="stable")[..., :matched]
    return np.take_along_axis(np.asarray(map_LE)[:, None], nearest_LEM, -1).mean(-1)


class Verdict(NamedTuple):
    """Whether a method has a case: its highest score, and what that is in `shuffled` evidence."""

    case: float
    null: tuple[float, ...]

    @property
    def found(self) -> bool:
        """The case exceeds all of the null, by more than rounding: where hazards are no more than
        twins, one of `SHUFFLINGS` + 1 does."""
        return self.case > max(self.null) + ROUNDING * self._scale

    @property
    def statistic(self) -> float:
        """(case - mean) / (standard deviation + ε) of the null; ε = 0.001 of the largest score."""
        apart = self.case - float(np.mean(self.null))
        if abs(apart) <= ROUNDING * self._scale:
            return 0.0
        return apart / (float(np.std(self.null)) + methods.EPSILON * self._scale)

    @property
    def _scale(self):
        return max(map(abs, (self.case, *self.null)))


def verdict(method: methods.Method | str, e: Evidence, key: jax.Array) -> Verdict:
    """Does a method's highest score say anything of hazards, beyond their twins?

    It is held against models that can refuse, which is to say this one: where which of a pair is
    called the hazard was drawn at random, the parts that answer and refuse are the same, and there
    is nothing to find. A model that cannot refuse would be no control, since of many methods it
    gets zeros whatever they do.

    Raises:
      ConfigError: no method is called so.
    """
    method = methods.named(method)
    null = (float(np.max(method(other))) for other in shuffled(e, key))
    return Verdict(float(np.max(method(e))), tuple(null))


def shuffled(e: Evidence, key: jax.Array) -> list[Evidence]:
    """`SHUFFLINGS` arrangements of the pairs, see `Evidence.shuffled`."""
    return [e.shuffled(k) for k in jax.random.split(key, SHUFFLINGS)]
