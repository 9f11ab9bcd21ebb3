"""Which experts are responsible for refusal? Many methods, one question, one table.

A method is a function from `Evidence` to scores [L, E]; the higher, the more responsible it holds
an expert for refusing hazards. `METHODS` lists them, good and bad ones: a student's own criterion
is one more function of a dozen lines, and one more row. None of them is the published selection
rule of RASET (arXiv 2605.29708), whose formula was not available; they are our reading of it, and
its rivals'.

Besides the letters of the package docstring: R resamples, X experts of all layers (L * E).
"""

import difflib
import zlib
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .. import model
from ..config import ConfigError
from ..model import taps
from . import ablation, attribution_patching, coalitions, direct_logit_attribution
from .evidence import Evidence, by_chunks, refusal_logit_diff

Method = Callable[[Evidence], np.ndarray]  # scores [L, E]
RESAMPLES = 100  # of `gate_contrast_bootstrap`
EPSILON = 1e-3  # keeps what is divided by a standard deviation within bounds


# --- scores from the gates ----------------------------------------------------------------------


def usage(e: Evidence) -> np.ndarray:
    """Share of hazards that select the expert at ANS."""
    return (e.gates[0][:, :, -1] > 0).mean(1)


def token_share(e: Evidence) -> np.ndarray:
    """Share of the hazards' tokens, at all positions, that select the expert."""
    return (e.gates[0] > 0).mean((1, 2))


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


def gate_contrast_bootstrap(e: Evidence) -> np.ndarray:
    """Share of `RESAMPLES` bootstrap samples of the pairs in which the expert is among the top
    quarter by gate contrast: 1 for the intersection of all the top sets (SAFEx, arXiv
    2506.17368)."""
    change_LBE = _gate_change(e)
    L, B, E = change_LBE.shape
    rng = np.random.default_rng(0)
    weights_RB = rng.multinomial(B, np.full(B, 1 / B), RESAMPLES) / B
    means_RX = np.einsum("rb,lbe->rle", weights_RB, change_LBE).reshape(RESAMPLES, L * E)
    ranks_RX = (-means_RX).argsort(1, kind="stable").argsort(1)
    return (ranks_RX < max(round(L * E / 4), 1)).mean(0).reshape(L, E)


def _gate_change(e):
    """Change of each pair's mean gate, hazard minus twin: [L, B, E]."""
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
    return e.each(_sensitivities)


def contrastive_routing_sensitivity(e: Evidence) -> np.ndarray:
    """OUR READING of the criterion that the paper (arXiv 2605.29708) names without a formula known
    to us:

        S[l,e](x) = Σ_t g[l,t,e] · ∂margin(x) / ∂g[l,t,e]          routing sensitivity
        C[l,e]    = mean_i (S(h_i) - S(b_i)) / (sd_i (S(h_i) - S(b_i)) + ε)   contrasted

    over hazards h_i and their twins b_i, ε = 0.001 of the largest standard deviation. Reasons: the
    twin takes the topic out, and what the expert does for any request of it; the gradient asks what
    the gate does to refusal, which a gate's size does not; and division by the standard deviation
    prefers experts that carry refusal on all hazards to those that carry it on a few.
    """
    hazards_LEB, twins_LEB = gate_sensitivities(e)
    change_LEB = hazards_LEB - twins_LEB
    sd_LE = change_LEB.std(-1)
    return change_LEB.mean(-1) / (sd_LE + EPSILON * sd_LE.max() + 1e-12)


def _sensitivities(e, prompts):
    return _gate_gradients(e.params, prompts.tokens_BP, prompts.answer_B, cfg=e.cfg)


@partial(jax.jit, static_argnames="cfg")
def _gate_gradients(params, tokens_BT, answer_B, cfg):
    """g · ∂margin / ∂g, summed over positions: [L, E, B]."""

    def some(chunk):
        tokens_BT, answer_B = chunk

        def total_margin(factor_LBTE):
            edits = taps.Edits(gates=taps.scale(True, factor_LBTE))
            out = model.forward(params, tokens_BT, cfg, grouped=True, edits=edits)
            return refusal_logit_diff(out.logits_BTV[:, -1], answer_B).sum()

        ones_LBTE = jnp.ones((cfg.layers, *tokens_BT.shape, cfg.experts))
        return jax.grad(total_margin)(ones_LBTE).sum(2).swapaxes(1, 2)

    return by_chunks(some, (tokens_BT, answer_B))


# --- scores from parts, ablation and weights ----------------------------------------------------


def direct_effect(e: Evidence) -> np.ndarray:
    """What the expert adds to the refusal margin of hazards, without what later layers make of it
    (`toymoe.attribution.direct_logit_attribution`)."""
    return direct_logit_attribution.parts(e)[0].experts_LEB.mean(-1)


def direct_effect_contrast(e: Evidence) -> np.ndarray:
    """The same, hazards minus twins."""
    hazards, twins = direct_logit_attribution.parts(e)
    return (hazards.experts_LEB - twins.experts_LEB).mean(-1)


def ablation_contrast(e: Evidence, value: str) -> np.ndarray:
    """Refusal margin lost without the expert, hazards minus twins."""
    effect = ablation.ablate(e, value).free
    return effect.margin - effect.twin_margin


def restored(e: Evidence, value: str) -> np.ndarray:
    """Refusal margin that twins gain by what the expert says, or how it is selected, in the run of
    their hazard (`ablation.RUNS`). It finds what suffices, where the loss of hazards by the run of
    their twin finds what is needed (Heimersheim & Nanda, arXiv 2404.15255)."""
    return -ablation.ablate(e, value).free.twin_margin


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


METHODS: dict[str, Method] = {
    "usage": usage,
    "usage_on_hazards": token_share,
    "risk_difference": risk_difference,
    "gate_contrast": gate_contrast,
    "gate_contrast_stable": gate_contrast_stable,
    "gate_contrast_bootstrap": gate_contrast_bootstrap,
    "gate_sensitivity": gate_sensitivity,
    "gate_sensitivity_contrast": gate_sensitivity_contrast,
    "contrastive_routing_sensitivity": contrastive_routing_sensitivity,
    "decomposition": direct_effect,
    "decomposition_contrast": direct_effect_contrast,
    "ablation_zero": lambda e: ablation.ablate(e, "zero").free.margin,
    "ablation_zero_frozen": lambda e: ablation.ablate(e, "zero").frozen.margin,
    "ablation_zero_contrast": lambda e: ablation_contrast(e, "zero"),
    "ablation_refusal": lambda e: ablation.ablate(e, "zero").free.refusal,
    "ablation_mean": lambda e: ablation.ablate(e, "mean").free.margin,
    "ablation_mean_frozen": lambda e: ablation.ablate(e, "mean").frozen.margin,
    "ablation_mean_contrast": lambda e: ablation_contrast(e, "mean"),
    "resample_other": lambda e: ablation.ablate(e, "other").free.margin,
    "resample_removed": lambda e: ablation.ablate(e, "twin").free.margin,
    "resample_restored": lambda e: restored(e, "twin"),
    "resample_both": lambda e: ablation_contrast(e, "twin"),  # the sum of these two
    "attribution_patching": attribution_patching.estimate,  # of resample_removed
    "route_removed": lambda e: ablation.ablate(e, "route").free.margin,
    "route_restored": lambda e: restored(e, "route"),
    # Set back to its weights before alignment; its own weights in the model before alignment.
    "swap_removed": lambda e: ablation.ablate(e, "pretrained").free.margin,
    "swap_alone": lambda e: -ablation.align_alone(e).free.margin,
    "shapley": coalitions.shapley,
    "weight_change": weight_change,
    "random": random,
}


def named(method: str | Method) -> Method:
    """The method of that name; a function is a method of its own, whoever wrote it.

    Raises:
      ConfigError: no method is called so.
    """
    if callable(method):
        return method
    if method not in METHODS:
        near = difflib.get_close_matches(str(method), METHODS, 1, 0.0)[0]
        raise ConfigError(f"method {method!r} is not known: did you mean {near!r}?")
    return METHODS[method]


def rank_correlation(scores, others) -> float:
    """Spearman's, of two arrays of one shape; 0 where one of the two is constant."""
    if np.ptp(scores) == 0 or np.ptp(others) == 0:
        return 0.0
    from scipy.stats import spearmanr  # here, since a run has no use for it

    return float(spearmanr(np.ravel(scores), np.ravel(others)).statistic)
