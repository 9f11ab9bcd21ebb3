"""What a method's scores are held against: random experts, equal usage, shuffled pairs, no refusal.

A map over experts always has a highest point. `with_controls` says what chance, usage and pairs
without a cause would give; `verdict` says whether the method has a case at all.

Besides the letters of the package docstring: M matched experts.
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from . import methods
from .evidence import Evidence

RESAMPLES = 19  # behind a verdict: the lowest of 19 is exceeded with 95 %


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


def random_experts(map_LE, key: jax.Array, top: int = 1, draws: int = 1000) -> np.ndarray:
    """The mean of a map over ``top`` experts drawn at random, [draws]."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    order = rng.random((draws, np.size(map_LE))).argsort(1)[:, :top]
    return np.asarray(map_LE).ravel()[order].mean(1)


def usage_matched(map_LE, usage_LE, matched: int = 3) -> np.ndarray:
    """For every expert, the mean of a map over the ``matched`` other experts of its layer whose
    usage is nearest: [L, E]."""
    apart_LEE = np.abs(usage_LE[:, :, None] - usage_LE[:, None, :])
    apart_LEE[:, np.arange(usage_LE.shape[1]), np.arange(usage_LE.shape[1])] = np.inf
    nearest_LEM = np.argsort(apart_LEE, -1, kind="stable")[..., :matched]
    return np.take_along_axis(np.asarray(map_LE)[:, None], nearest_LEM, -1).mean(-1)


class Verdict(NamedTuple):
    """The expert a method holds most responsible, and whether it has a case at all."""

    layer: int
    expert: int
    score: float
    least: float  # the expert's lowest score among resamples of the pairs
    threshold: float  # the largest score, in size, before alignment

    @property
    def found(self) -> bool:
        return self.least > self.threshold


def verdict(
    method: methods.Method | str, e: Evidence, key: jax.Array, before: Evidence | None = None
) -> Verdict:
    """Name the expert of the highest score; by ``found``, say whether it is a seat of refusal.

    Two controls of the method's own. It must score higher than the method scores any expert of the
    model before alignment, in either direction: there is no refusal in it. And it must do so in
    each of `RESAMPLES` bootstrap samples of the pairs, so that a few prompts do not decide.

    Args:
      before: evidence of the model before alignment on the same prompts, if it is at hand.

    Raises:
      EvidenceError: the evidence holds no pretrained checkpoint.
      ConfigError: no method is called so.
    """
    method = methods.named(method)
    scores_LE = np.asarray(method(e))
    at = np.unravel_index(scores_LE.argmax(), scores_LE.shape)
    before = before or e.once(_before_alignment)
    resamples = (e.resampled(k) for k in jax.random.split(key, RESAMPLES))
    least = min(float(method(sample)[at]) for sample in resamples)
    threshold = float(np.abs(method(before)).max())
    return Verdict(int(at[0]), int(at[1]), float(scores_LE[at]), least, threshold)


def _before_alignment(e):
    return dataclasses.replace(e, params=e.before)
