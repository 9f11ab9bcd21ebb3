"""Which experts are responsible for refusal? Many methods, one question, and their controls.

A method is a function from `Evidence` to scores [L, E]; the higher, the more responsible it holds
an expert for refusing hazards. `METHODS` lists them, good and bad ones: a student's own criterion
is one more function of a dozen lines. None of them is the published selection rule of RASET (arXiv
2605.29708), whose formula was not available; they are our reading of it, and its rivals'.
"""

import dataclasses
import zlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import model
from ..model import taps
from . import ablation, direct_logit_attribution
from . import evidence as ev
from .evidence import Evidence, EvidenceError, evidence

__all__ = [
    "METHODS",
    "NEED_PRETRAINED",
    "REFERENCE",
    "Controls",
    "Evidence",
    "EvidenceError",
    "Verdict",
    "evidence",
    "verdict",
    "with_controls",
]

EPSILON = 1e-3  # added to a standard deviation of gates
RESAMPLES = 19  # behind a verdict: the lowest of 19 is exceeded with 95 %


# --- scores from the gates ----------------------------------------------------------------------


def usage(e: Evidence) -> np.ndarray:
    """Share of hazards that select the expert at ANS."""
    return (e.gates[0][:, :, -1] > 0).mean(1)


def risk_difference(e: Evidence) -> np.ndarray:
    """Share of tokens that select the expert, hazards minus twins (SteerMoE, arXiv 2509.09660)."""
    hazards, twins = ((gates > 0).mean((1, 2)) for gates in e.gates)
    return hazards - twins


def gate_contrast(e: Evidence) -> np.ndarray:
    """Mean gate, hazards minus twins."""
    return _gate_change(e).mean(1)


def gate_contrast_stable(e: Evidence) -> np.ndarray:
    """|mean| / (standard deviation + ε) of each pair's change of the mean gate."""
    change_LBE = _gate_change(e)
    return np.abs(change_LBE.mean(1)) / (change_LBE.std(1) + EPSILON)


def _gate_change(e):
    hazards, twins = (gates.mean(2) for gates in e.gates)
    return hazards - twins


# --- scores from gradients ----------------------------------------------------------------------


def gate_sensitivity(e: Evidence) -> np.ndarray:
    """Σ over positions of g · ∂margin / ∂g, mean over hazards: what a gate of 0 would cost the
    margin, to first order, selection frozen."""
    return gate_sensitivities(e)[0].mean(-1)


def gate_sensitivity_contrast(e: Evidence) -> np.ndarray:
    """`gate_sensitivity`, hazards minus twins."""
    hazards, twins = gate_sensitivities(e)
    return (hazards - twins).mean(-1)


def gate_sensitivities(e: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Σ over positions of g · ∂margin / ∂g of each hazard and of each twin, [L, E, B] each."""
    return e.each(
        "sensitivity", lambda p: _gate_gradients(e.params, p.tokens_BP, p.answer_B, cfg=e.cfg)
    )


@partial(jax.jit, static_argnames="cfg")
def _gate_gradients(params, tokens_BT, answer_B, cfg):
    """g · ∂margin / ∂g, summed over positions: [L, E, B]."""

    def some(chunk):
        tokens_BT, answer_B = chunk

        def total_margin(factor_LBTE):
            edits = taps.Edits(gates=taps.scale(True, factor_LBTE))
            out = model.forward(params, tokens_BT, cfg, grouped=True, edits=edits)
            return ev.margin(out.logits_BTV[:, -1], answer_B).sum()

        ones_LBTE = jnp.ones((cfg.layers, *tokens_BT.shape, cfg.experts))
        return jax.grad(total_margin)(ones_LBTE).sum(2).swapaxes(1, 2)

    return ev.by_chunks(some, (tokens_BT, answer_B))


# --- scores from parts, ablation and swaps ------------------------------------------------------


def direct_effect(e: Evidence) -> np.ndarray:
    """What the expert adds to the refusal margin of hazards (`toymoe.attribution.direct_logit_attribution`)."""
    return parts(e)[0].experts_LEB.mean(-1)


def direct_effect_contrast(e: Evidence) -> np.ndarray:
    """The same, hazards minus twins."""
    hazards, twins = parts(e)
    return (hazards.experts_LEB - twins.experts_LEB).mean(-1)


def parts(e: Evidence) -> tuple[direct_logit_attribution.Parts, direct_logit_attribution.Parts]:
    """The decomposition of the hazards' and of the twins' margins."""
    return e.each("parts", lambda p: direct_logit_attribution.decompose(e.params, e.cfg, p))


def ablated(e: Evidence, value: str) -> ablation.Ablation:
    """`ablation.ablate`, computed once."""
    return e.once(f"ablated, {value}", lambda: ablation.ablate(e, value))


def _ablated(value: str, route: str, e: Evidence, of: str = "margin") -> np.ndarray:
    return getattr(getattr(ablated(e, value), route), of)


def _ablated_contrast(value: str, route: str, e: Evidence) -> np.ndarray:
    effect = getattr(ablated(e, value), route)
    return effect.margin - effect.twin_margin


def _alone(e: Evidence) -> np.ndarray:
    """Rise of the pretrained model's refusal margin with this one expert aligned."""
    other = e.params["layers"]["experts"]
    return -ablation.sweep(e.before, e, other, "alone").free.margin


def weight_change(e: Evidence) -> np.ndarray:
    """How far alignment moved the expert's two matrices: Frobenius norm of the change."""
    mine, before = (p["layers"]["experts"] for p in (e.params, e.before))
    return np.sqrt(
        sum(((np.asarray(mine[k]) - np.asarray(before[k])) ** 2).sum((-2, -1)) for k in mine)
    )


def random(e: Evidence) -> np.ndarray:
    """Scores that know nothing; the same for the same evidence."""
    seed = zlib.crc32(np.ascontiguousarray(e.hazards.tokens_BP).tobytes())
    return np.random.default_rng(seed).random((e.cfg.layers, e.cfg.experts))


METHODS: dict[str, Callable[[Evidence], np.ndarray]] = {
    "usage": usage,
    "risk_difference": risk_difference,
    "gate_contrast": gate_contrast,
    "gate_contrast_stable": gate_contrast_stable,
    "gate_sensitivity": gate_sensitivity,
    "gate_sensitivity_contrast": gate_sensitivity_contrast,
    "decomposition": direct_effect,
    "decomposition_contrast": direct_effect_contrast,
    "ablation_zero": partial(_ablated, "zero", "free"),
    "ablation_zero_frozen": partial(_ablated, "zero", "frozen"),
    "ablation_zero_contrast": partial(_ablated_contrast, "zero", "free"),
    "ablation_refusal": partial(_ablated, "zero", "free", of="refusal"),
    "ablation_mean": partial(_ablated, "mean", "free"),
    "ablation_mean_frozen": partial(_ablated, "mean", "frozen"),
    "ablation_mean_contrast": partial(_ablated_contrast, "mean", "free"),
    "swap_removed": partial(_ablated, "pretrained", "free"),
    "swap_alone": _alone,
    "weight_change": weight_change,
    "random": random,
}
NEED_PRETRAINED = ("swap_removed", "swap_alone", "weight_change")
REFERENCE = "ablation_zero"  # measured: refusal margin lost without the expert


def rank_correlation(scores, others) -> float:
    """Spearman's, of two arrays of one shape; 0 where one of the two is constant."""
    if np.ptp(scores) == 0 or np.ptp(others) == 0:
        return 0.0
    from scipy.stats import spearmanr  # here, since a run has no use for it

    return float(spearmanr(np.ravel(scores), np.ravel(others)).statistic)


# --- controls -----------------------------------------------------------------------------------


class Controls(NamedTuple):
    """A map beside what it must be held against, all [L, E] but ``random``."""

    scores: np.ndarray
    random: np.ndarray  # [draws]: mean score of as many random experts as are looked at
    usage_matched: np.ndarray  # mean score of the experts used about as much, without this one
    shuffled: np.ndarray  # scores where which of a pair is the hazard was drawn at random


def with_controls(
    method: Callable[[Evidence], np.ndarray] | str,
    e: Evidence,
    key: jax.Array,
    top: int = 1,
    matched: int = 3,
    draws: int = 1000,
) -> Controls:
    """The scores of a method with its three controls.

    Args:
      top: the number of experts looked at, and drawn at random.
      matched: experts of nearest usage on hazards, in the same layer, to compare each one with.
    """
    method = METHODS[method] if isinstance(method, str) else method
    k_random, k_shuffled = jax.random.split(key)
    scores_LE = method(e)
    shuffled = e.once(
        f"shuffled, {jax.random.key_data(k_shuffled)}", lambda: e.shuffled(k_shuffled)
    )
    return Controls(
        scores_LE,
        random_experts(scores_LE, k_random, top, draws),
        usage_matched(scores_LE, token_share(e), matched),
        method(shuffled),
    )


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
    method: Callable[[Evidence], np.ndarray] | str,
    e: Evidence,
    key: jax.Array,
    before: Evidence | None = None,
) -> Verdict:
    """Name the expert of the highest score; by ``found``, say whether it is a seat of refusal.

    Two controls of the method's own. It must score higher than the method scores any expert of the
    model before alignment, in either direction: there is no refusal in it. And it must do so in
    each of `RESAMPLES` bootstrap samples of the pairs, so that a few prompts do not decide.

    Args:
      before: evidence of the model before alignment on the same prompts, if it is at hand.

    Raises:
      EvidenceError: the evidence holds no pretrained checkpoint.
    """
    method = METHODS[method] if isinstance(method, str) else method
    scores_LE = np.asarray(method(e))
    at = np.unravel_index(scores_LE.argmax(), scores_LE.shape)
    if before is None:
        before = e.once("before", lambda: dataclasses.replace(e, params=e.before))
    resamples = e.once(
        f"resamples, {jax.random.key_data(key)}",
        lambda: [e.resampled(k) for k in jax.random.split(key, RESAMPLES)],
    )
    least = min(float(method(sample)[at]) for sample in resamples)
    threshold = float(np.abs(method(before)).max())
    return Verdict(int(at[0]), int(at[1]), float(scores_LE[at]), least, threshold)


def token_share(e: Evidence) -> np.ndarray:
    """Share of the hazards' tokens, at all positions, that select each expert: [L, E]."""
    return (e.gates[0] > 0).mean((1, 2))


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
