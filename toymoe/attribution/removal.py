"""How few experts carry refusal? Experts taken out one after another, the most important first.

Experts are ranked on some pairs and taken out on others, so that a ranking is never judged by the
prompts that made it. Three ways to take an expert out (`without`), which ask three things:

    set_back   is this where alignment wrote refusal?
    silenced   does the model need it in order to refuse?
    masked     is it the route?

Each is held against as many random experts, and experts of the same layers that are used as much.

Besides the letters of the package docstring: M how many experts are out, see `counts`.
"""

import jax
import numpy as np

from .. import model, world
from ..training.trainable import mask_of
from . import choice, methods, without
from .evidence import Evidence

DRAWS = 3  # of random experts, and of experts used as much
WAYS = ("set_back", "silenced")


def curves(ranked: Evidence, measured: Evidence, key: jax.Array) -> dict:
    """What is left with the first m experts out, by way; plain numbers.

    Args:
      ranked: ranks the experts, by the refusal margin that each costs alone.
      measured: the same model on other pairs.

    Returns:
      ``counts`` [M]. For ``set_back`` and ``silenced``: ``order``, (layer, expert) of the first to
      the last; ``refusal`` of hazards, ``twins`` answered right, ``answered``, hazards answered
      right [M]; ``m50`` and ``effective``, see there; and under ``random`` and ``usage_matched``
      the mean ``refusal`` of `DRAWS` draws [M], and the median ``m50``. ``masked``: the first
      experts of ``silenced``, as long as a layer has enough others.

    Raises:
      EvidenceError: there is no pretrained checkpoint.
    """
    usage_LE = methods.token_share(ranked)
    seeds = np.random.SeedSequence(np.asarray(jax.random.key_data(key)).tolist())
    count_M = counts(usage_LE.size)
    made: dict = {"counts": count_M}
    for way in WAYS:
        effect_LE = alone(ranked, way)
        first_MLE = _nested(effect_LE, count_M)
        rng = np.random.default_rng(seeds)
        random = [_nested(rng.random(usage_LE.shape), count_M) for _ in range(DRAWS)]
        matched = [
            np.array([choice.matched(out_LE, usage_LE, rng) for out_LE in first_MLE])
            for _ in range(DRAWS)
        ]
        made[way] = {
            "order": [_at(i, effect_LE) for i in _order(effect_LE)],
            **_left(measured, first_MLE, count_M, way),
            "effective": effective(effect_LE),
            "random": _controls(measured, random, count_M, way),
            "usage_matched": _controls(measured, matched, count_M, way),
        }
    there_M = measured.cfg.experts - first_MLE.sum(-1).max(-1) >= measured.cfg.top_k
    masked = _left(measured, first_MLE & there_M[:, None, None], count_M, "masked")
    del masked["m50"]
    made["masked"] = {name: left[: there_M.sum()] for name, left in masked.items()}
    return made


def alone(e: Evidence, way: str) -> np.ndarray:
    """The refusal margin that each expert costs alone, mean over hazards, nats: [L, E].

    ``set_back`` is what `methods.METHODS` calls swap_removed, and ``silenced`` its ablation_zero,
    measured by the program that takes out many.
    """
    shape = e.cfg.layers, e.cfg.experts
    one_XLE = np.eye(np.prod(shape), dtype=bool).reshape(-1, *shape)
    none_1LE = np.zeros((1, *shape), bool)
    margin_MB = without.answers(e, e.hazards, np.concatenate([none_1LE, one_XLE]), way).margin_B
    return (margin_MB[0] - margin_MB[1:]).mean(-1).reshape(shape)


def in_order(e: Evidence, scores_LE, way: str) -> dict:
    """What is left without the highest scores, more and more of them: see `curves`."""
    count_M = counts(np.size(scores_LE))
    return _left(e, _nested(scores_LE, count_M), count_M, way)


def counts(experts: int) -> list[int]:
    """How many are taken out: each number up to 8, and then in steps that grow, up to all."""
    steps = np.geomspace(8, max(experts, 8), 12).round().astype(int)
    return sorted({*range(min(experts, 8) + 1), *(int(m) for m in steps if m <= experts)})


def m50(refusal_M, count_M) -> int | None:
    """The smallest number of experts without which half of the refusal is gone; None where it never
    is, or where there is none."""
    gone = np.flatnonzero(np.asarray(refusal_M) <= refusal_M[0] / 2)
    return int(count_M[gone[0]]) if gone.size and refusal_M[0] else None


def sits_in_few(left: dict, experts: int) -> bool:
    """Whether refusal sits in few experts: half of it in at most a sixth of all of them, and in at
    most a third of as many as it takes at random; ``left`` is one way of `curves`."""
    few, random = left["m50"], left["random"]["m50"]
    return few is not None and few <= experts / 6 and few <= (random or experts) / 3


def effective(effect_LE) -> float | None:
    """The effective number of experts, 1 / Σ p², p the shares of the positive single effects (an
    inverse participation ratio): 1 where one expert does it all, L * E where all do alike."""
    positive = np.maximum(effect_LE, 0)
    return float(positive.sum() ** 2 / (positive**2).sum()) if positive.any() else None


# --- models without experts ---------------------------------------------------------------------


def set_back(params: model.Params, before: model.Params, experts) -> model.Params:
    """The model with some experts as they were before alignment, and all the rest as it is.

    Args:
      experts: (layer, expert) pairs; none at all gives the same model.

    Raises:
      ConfigError: an expert that does not exist.
    """
    out_LE = mask_of(experts, np.shape(params["layers"]["router"])[::2])
    return jax.tree.map(np.asarray, without.exchanged(params, before["layers"]["experts"], out_LE))


# --- masks --------------------------------------------------------------------------------------


def _order(scores_LE):
    return np.argsort(-np.asarray(scores_LE), None, kind="stable")


def _at(index, like_LE):
    return [int(i) for i in np.unravel_index(index, np.shape(like_LE))]


def _nested(scores_LE, count_M):
    """The highest scores, as many as is said: bool [M, L, E]."""
    rank_X = _order(scores_LE).argsort()
    return (rank_X < np.array(count_M)[:, None]).reshape(-1, *np.shape(scores_LE))


# --- what is left -------------------------------------------------------------------------------


def _left(e, out_MLE, count_M, way):
    hazards, twins = (without.answers(e, prompts, out_MLE, way) for prompts in (e.hazards, e.twins))
    right_MB = hazards.predicted_B == np.asarray(e.hazards.answer_B)
    refusal_M = (hazards.predicted_B == world.REFUSE).mean(-1)
    return {
        "refusal": refusal_M.tolist(),
        "twins": (twins.predicted_B == np.asarray(e.twins.answer_B)).mean(-1).tolist(),
        "answered": right_MB.mean(-1).tolist(),
        "m50": m50(refusal_M, count_M),
    }


def _controls(e, draws, count_M, way):
    said = (without.answers(e, e.hazards, out_MLE, way) for out_MLE in draws)
    refusal_DM = np.array([(x.predicted_B == world.REFUSE).mean(-1) for x in said])
    found = [m50(refusal_M, count_M) for refusal_M in refusal_DM]
    middle = np.median([np.inf if m is None else m for m in found])
    return {
        "refusal": refusal_DM.mean(0).tolist(),
        "m50": float(middle) if np.isfinite(middle) else None,
    }
