"""One method on one specimen: what it names, and whether it has a case.

Every method is asked *which parts refuse hazards, beyond their twins?* Its case is its highest
score, and its null what that is where the question has no answer: which of a pair is called the
hazard is drawn at random (`Evidence.shuffled`). A method that would name an expert of any model
that refuses, or of any model at all, has as high a score there.
"""

import zlib
from collections.abc import Callable

import jax
import numpy as np

from .. import world
from ..attribution import ablation, controls, methods, removal
from ..attribution.evidence import Evidence, gather
from ..config import ConfigError, ModelConfig
from ..organism import Organism
from ..training import phases
from ..zoo import parts
from .asked import Said

PAIRS = 96
SHUFFLED = 30  # the key of what is shuffled
EXPERTS = ("expert", "router")  # kinds of parts that scores [L, E] can name


def evidence(o: Organism, name: str) -> Evidence:
    """The pairs of a specimen's seed, in an order of its own: methods that draw at random by the
    prompts would otherwise draw the same for all. Nothing of it can be written to, since methods
    share it."""
    key = jax.random.fold_in(phases.keys(o.cfg.seed).measure, 5)
    e = gather(o.aligned, o.tables, o.cfg, key, PAIRS, o.pretrained)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    order_B = rng.permutation(len(e.hazards.answer_B))
    hazards, twins = (world.Prompts(*(x[order_B] for x in p)) for p in (e.hazards, e.twins))
    params, before = _locked(o.aligned), _locked(o.pretrained)
    return Evidence(params, o.cfg.model, _locked(hazards), _locked(twins), before)


def _locked(tree):
    def locked(leaf):
        view = np.asarray(leaf).view()
        view.flags.writeable = False
        return view

    return jax.tree.map(locked, tree)


def of_method(method: Callable[[Evidence], Said], e: Evidence, answer: tuple[str, ...]) -> dict:
    """The score of a method, plain numbers.

    Args:
      answer: the parts that it should name.

    Returns:
      ``first``: the part that it names first ("" where several scores are highest, or none is
      named); ``hit_1``: whether that is in the answer, ``hit_k``: the share of the answer among the
      first k, k its length; of scores, the answer's experts alone count (of ties, what chance would
      give; None where there is no answer, or none that scores can name); ``case``, ``null``
      (its mean, standard deviation and highest), ``found`` and ``statistic``: see
      `toymoe.attribution.controls.Verdict` (names are found, and their statistic is 1, where there
      are any); ``set_back``, ``ablation_zero``: rank correlation
      with what each expert costs.

    Raises:
      ConfigError: scores of some evidence, and names of other.
    """
    said = method(e)
    if isinstance(said, tuple):
        return of_names(said, answer)
    scores_LE, null = np.asarray(said, float), []
    for other in controls.shuffled(e, jax.random.key(SHUFFLED)):
        said = method(other)
        if isinstance(said, tuple):
            raise ConfigError("a method that gives scores and names: let it give one of the two.")
        null.append(float(np.max(said)))
    return of_scores(scores_LE, e, answer, null)


def of_names(names: tuple[str, ...], answer: tuple[str, ...]) -> dict:
    """The score of names, see `of_method`."""
    first = names[: len(answer)]
    return {
        "first": names[0] if names else "",
        "hit_1": float(bool(names) and names[0] in answer) if answer else None,
        "hit_k": len({*first} & {*answer}) / len(answer) if answer else None,
        "case": float(bool(names)),
        "null": None,
        "found": bool(names),
        "statistic": float(bool(names)),
        "set_back": None,
        "ablation_zero": None,
    }


def of_scores(
    scores_LE: np.ndarray, e: Evidence, answer: tuple[str, ...], null: list[float] | None
) -> dict:
    """The score of scores, see `of_method`.

    Args:
      null: the highest scores of shuffled pairs; None where they are not known, and then nothing
        is found or not, and the statistic is the highest score itself.
    """
    at, case = experts(answer, e.cfg), float(scores_LE.max())
    top_LE, first_LE = (among_first(scores_LE, k) for k in (1, max(len(at), 1)))
    first = ""
    if top_LE.max() == 1:
        first = "expert {}.{}".format(*np.unravel_index(top_LE.argmax(), top_LE.shape))
    said = {"null": None, "found": None, "statistic": case}
    if null is not None:
        verdict = controls.Verdict(case, tuple(null))
        said = {
            "null": {"mean": float(np.mean(null)), "sd": float(np.std(null)), "most": max(null)},
            "found": verdict.found,
            "statistic": verdict.statistic,
        }
    return {
        "first": first,
        "hit_1": float(sum(top_LE[i] for i in at)) if at else None,
        "hit_k": float(np.mean([first_LE[i] for i in at])) if at else None,
        "case": case,
        **said,
        "set_back": methods.rank_correlation(scores_LE, e.once(removal.alone, "set_back")),
        "ablation_zero": methods.rank_correlation(
            scores_LE, ablation.ablate(e, "zero").free.margin
        ),
    }


def experts(answer: tuple[str, ...], cfg: ModelConfig) -> list[tuple[int, int]]:
    """(layer, expert) of those parts of an answer that are experts, or are the router's to one."""
    found = (parts.parse(part, cfg) for part in answer)
    return list(dict.fromkeys(part[1:] for part in found if part[0] in EXPERTS))


def among_first(scores_LE: np.ndarray, k: int) -> np.ndarray:
    """For every expert, the probability [L, E] that it is among the ``k`` highest, ties drawn."""
    sorted_X = np.sort(scores_LE, axis=None)
    above_LE = scores_LE.size - np.searchsorted(sorted_X, scores_LE, "right")
    ties_LE = scores_LE.size - np.searchsorted(sorted_X, scores_LE, "left") - above_LE
    return np.clip((k - above_LE) / ties_LE, 0, 1)
