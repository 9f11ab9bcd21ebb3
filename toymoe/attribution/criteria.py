"""Which experts to tune? Criteria, all of them functions from `Evidence` to scores [L, E].

`CRITERIA` holds those of `toymoe.attribution` and what only an attacker needs. A student's own is
one more such function: ``raset.choose(mine(evidence), n)``.
"""

import difflib
from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from ..config import ConfigError
from . import methods
from .evidence import Evidence

EPSILON = 1e-3


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
    hazards_LEB, twins_LEB = methods.gate_sensitivities(e)
    change_LEB = hazards_LEB - twins_LEB
    sd_LE = change_LEB.std(-1)
    return change_LEB.mean(-1) / (sd_LE + EPSILON * sd_LE.max() + 1e-12)


def gate_contrast_bootstrap(e: Evidence, resamples: int = 100, top: float = 0.25) -> np.ndarray:
    """Share of bootstrap resamples of the pairs in which the expert is among the top quarter by
    gate contrast: 1 for the intersection of all the top sets (SAFEx, arXiv 2506.17368)."""
    change_LBE = np.subtract(*(gates.mean(2) for gates in e.gates))
    L, B, E = change_LBE.shape
    rng = np.random.default_rng(0)
    weights_RB = rng.multinomial(B, np.full(B, 1 / B), resamples) / B
    means_RX = np.einsum("rb,lbe->rle", weights_RB, change_LBE).reshape(resamples, L * E)
    ranks_RX = rankdata(-means_RX, axis=1, method="ordinal")
    return (ranks_RX <= max(round(top * L * E), 1)).mean(0).reshape(L, E)


def usage_on_hazards(e: Evidence) -> np.ndarray:
    """Share of all tokens of hazards that select the expert."""
    return methods.token_share(e)


CRITERIA: dict[str, Callable[[Evidence], np.ndarray]] = methods.METHODS | {
    "contrastive_routing_sensitivity": contrastive_routing_sensitivity,
    "gate_contrast_bootstrap": gate_contrast_bootstrap,
    "usage_on_hazards": usage_on_hazards,
}


def named(name: str) -> Callable[[Evidence], np.ndarray]:
    """The criterion of that name.

    Raises:
      ConfigError: there is none.
    """
    if name not in CRITERIA:
        near = difflib.get_close_matches(name, CRITERIA, 1, 0.0)[0]
        raise ConfigError(f"criterion {name!r} is not known: did you mean {near!r}?")
    return CRITERIA[name]
