"""Experts that count together: pairs that stand in for one another or need one another, Shapley.

Taken out alone, neither of two experts that each suffice costs anything; of two that are needed
together, each seems to cost it all. So every subset of the few that matter most is tried. They are
chosen by what each costs when it is the *first* to be set back and what it brings when it is the
*last* that is left: a redundant expert costs nothing first and brings it all last.

What a subset is worth is refusal beyond the twins: the mean refusal margin of hazards minus that of
their twins, in nats, with the rest of the few taken out and all other experts as they are.

Besides the letters of the package docstring: M subsets, X experts of all layers (L * E), I and J
the few.
"""

from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np

from . import without
from .evidence import Evidence

FEW = 6  # whose 64 subsets are tried


class Coalitions(NamedTuple):
    """What some experts do together."""

    experts: tuple[tuple[int, int], ...]  # (layer, expert) of the few
    worth_M: np.ndarray  # of each subset left in, `subsets`, nats
    shapley_I: np.ndarray  # sums to what all of them out cost
    interaction_IJ: np.ndarray  # both out minus each alone: > 0 redundant, < 0 jointly needed


def coalitions(e: Evidence, way: str = "set_back", few: int = FEW) -> Coalitions:
    """Every subset of the few experts that matter most.

    Args:
      way: "set_back" or "silenced", see `without`. Silenced, the last expert that is left stands in
        a model that says little.

    Raises:
      EvidenceError: ``way`` is "set_back", and there is no pretrained checkpoint.
    """
    experts = candidates(e, way, few)
    hazards_MB, twins_MB = e.each(_margins, way, experts)
    worth_M = (hazards_MB - twins_MB).mean(-1)
    return Coalitions(experts, worth_M, shapley_values(worth_M), interactions(worth_M))


def shapley(e: Evidence) -> np.ndarray:
    """Shapley value of each of the `FEW`, set back, nats; 0 for all other experts: [L, E]."""
    found = coalitions(e)
    scores_LE = np.zeros((e.cfg.layers, e.cfg.experts))
    scores_LE[tuple(np.transpose(found.experts))] = found.shapley_I
    return scores_LE


def candidates(e: Evidence, way: str, few: int) -> tuple[tuple[int, int], ...]:
    """The experts that tell hazards and twins apart most, whichever way round: mean over pairs of
    |difference| of what each costs first plus what it brings last. The same of shuffled pairs."""
    hazards_XB, twins_XB = e.each(_first_and_last, way)
    order_X = np.argsort(-np.abs(hazards_XB - twins_XB).mean(-1), kind="stable")
    return tuple(divmod(int(x), e.cfg.experts) for x in order_X[:few])


def subsets(n: int) -> np.ndarray:
    """Bool [2^n, n]: which of n are in each subset; the first is empty, the last has all."""
    return (np.arange(2**n)[:, None] >> np.arange(n)) & 1 > 0


def shapley_values(worth_M) -> np.ndarray:
    """Each one's mean contribution over all orders in which they could come in, [I].

    Args:
      worth_M: of every one of `subsets`. Source: Shapley 1953, eq. 12.
    """
    n = len(worth_M).bit_length() - 1
    in_MI = subsets(n)
    values = []
    for i in range(n):
        at_M = np.flatnonzero(~in_MI[:, i])  # subsets without it; with it they stand 2^i further
        weight_M = [1 / (n * comb(n - 1, size)) for size in in_MI[at_M].sum(1)]
        values.append((worth_M[at_M + 2**i] - worth_M[at_M]) @ weight_M)
    return np.array(values)


def interactions(worth_M) -> np.ndarray:
    """What both out cost, minus what each alone does, [I, J]; 0 on the diagonal."""
    n, all_in = len(worth_M).bit_length() - 1, len(worth_M) - 1
    cost_M = worth_M[-1] - worth_M
    made_IJ = np.zeros((n, n))
    for i, j in combinations(range(n), 2):
        both, one, other = (cost_M[all_in - out] for out in (2**i + 2**j, 2**i, 2**j))
        made_IJ[i, j] = made_IJ[j, i] = both - one - other
    return made_IJ


def _first_and_last(e, prompts, way):
    """What each expert costs first plus what it brings last: [X, B]."""
    shape = e.cfg.layers, e.cfg.experts
    one_XLE = np.eye(np.prod(shape), dtype=bool).reshape(-1, *shape)
    ends_2LE = np.array([np.zeros(shape, bool), np.ones(shape, bool)])
    out_MLE = np.concatenate([ends_2LE, one_XLE, ~one_XLE])
    none, every, *others = without.answers(e, prompts, out_MLE, way).margin_B
    first_XB, last_XB = np.split(np.array(others), 2)
    return none - first_XB + last_XB - every


def _margins(e, prompts, way, experts):
    """Of every subset left in: [M, B]."""
    in_MI = subsets(len(experts))
    out_MLE = np.zeros((len(in_MI), e.cfg.layers, e.cfg.experts), bool)
    out_MLE[(slice(None), *np.transpose(experts))] = ~in_MI
    return without.answers(e, prompts, out_MLE, way).margin_B
