"""Attribution patching: what exchanging an expert would cost, from one gradient for all experts.

    estimate[l,e] = Σ_t (what the stream after layer l loses at t) · ∂margin / ∂(that stream)

The first-order estimate of `ablation.ablate`, of any of its values: two runs and one gradient in
place of a run for each expert. It is exact where the margin is linear in what the expert adds; it
misleads where the margin saturates (a redundant part has a slope of 0) and where another expert
would be selected. So it comes with its `faithfulness`. Sources: Nanda 2023, "Attribution patching";
Syed et al. (arXiv 2310.10348); AtP* (arXiv 2403.00745).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import model
from ..model import taps
from . import ablation
from .evidence import Evidence, by_chunks, refusal_logit_diff


class Faithfulness(NamedTuple):
    """Of estimates beside what they estimate, over all experts."""

    correlation: float  # Pearson's
    rank: float  # Spearman's
    slope: float  # of the truth by the estimate: 1 where sizes are right, above where too small


def estimate(e: Evidence, value: str = "twin") -> np.ndarray:
    """The refusal margin that hazards would lose, to first order, nats: [L, E].

    Args:
      value: what the expert says instead, as for `ablation.ablate`.
    """
    return estimates(e, value)[0].mean(-1)


def estimates(e: Evidence, value: str = "twin") -> tuple[np.ndarray, np.ndarray]:
    """The same of each hazard and of each twin, [L, E, B] each."""
    return e.each(_estimates, value)


def faithfulness(e: Evidence, value: str = "twin") -> Faithfulness:
    """`estimate` beside the patching that it estimates; zeros where either is constant."""
    found, true = estimate(e, value).ravel(), ablation.ablate(e, value).free.margin.ravel()
    if not np.ptp(found) or not np.ptp(true):
        return Faithfulness(0.0, 0.0, 0.0)
    from scipy.stats import linregress, spearmanr  # here, since a run has no use for it

    line = linregress(found, true)
    return Faithfulness(*map(float, (line.rvalue, spearmanr(found, true).statistic, line.slope)))


def _estimates(e, prompts, value):
    return _first_order(*ablation.change(e, prompts, value), cfg=e.cfg)


@partial(jax.jit, static_argnames="cfg")
def _first_order(params, other, prompts, cfg):
    def some(chunk):
        tokens_BT, source_BT, answers_B2 = chunk

        def margin(shift_LBTD):
            edits = taps.Edits(resid_post=taps.add(True, shift_LBTD))
            record = ("resid_mid",)
            out = model.forward(params, tokens_BT, cfg, grouped=True, edits=edits, record=record)
            return refusal_logit_diff(out.logits_BTV[:, -1], answers_B2).sum(), out

        nothing_LBTD = jnp.zeros((cfg.layers, *tokens_BT.shape, cfg.width))
        slope_LBTD, out = jax.grad(margin, has_aux=True)(nothing_LBTD)
        source = ablation.source_of(params, other, source_BT, cfg)
        layers = []
        for index in range(cfg.layers):
            at_BTA, lost_BTAD = ablation.lost(params, other, index, out, source)
            cost_BTA = jnp.einsum("btad,btd->bta", lost_BTAD, slope_LBTD[index])
            hit_BTAE = at_BTA[..., None] == jnp.arange(cfg.experts)
            layers.append(jnp.where(hit_BTAE, cost_BTA[..., None], 0).sum((1, 2)).T)
        return jnp.stack(layers)

    return by_chunks(some, prompts)
