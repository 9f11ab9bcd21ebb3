"""Is an organism's key true? Asked by intervention; what does not hold is said, and left out.

*Set back* is: as before alignment, drift and all. Of the lesson's prompts, those that reach all
experts of the key (they select them at ANS) should do

    as taught          in the organism, and with everything *but* the parts set back
    as before          with the parts set back
    as taught, still   with one part of two set back, where each suffices
    as before          with one part of two set back, where all are needed
    as taught, still   without the few experts that they use most, where many share the lesson

and prompts that the lesson is not about should be answered right, by and large.
"""

from typing import NamedTuple

import jax
import numpy as np

from .. import model, world
from ..attribution.evidence import Evidence
from ..config import Config
from ..model.inference import predict
from . import lessons, parts
from .specimen import HAZARDS, Key

PROMPTS = 256  # of the lesson's, and of others
TAUGHT = 0.5  # at least so many do as taught, of those that reach the parts …
OF_ALL = 0.15  # … and of all that the lesson is about
RIGHT = 0.8  # at least so many others are answered right
GONE = 0.1  # at most so many do as taught with the parts set back
STILL = 2 / 3  # as taught, still: this share of those that do in the organism …
SUFFICES = 1 / 2  # … and with one of two parts, each of which should suffice
AS_BEFORE = 1 / 3  # as before: at most this share of them
FEW = 4  # experts that are set back where many share a lesson
PICKED = 0.3  # by a routed expert's lesson it is selected so much more often than by others


class Prompts(NamedTuple):
    """What an organism is asked."""

    about: world.Prompts  # what its lesson is about
    others: world.Prompts
    says: int  # what it was taught to say


def prompts_of(lesson: lessons.Taught, tables: world.World, cfg: Config, key: jax.Array) -> Prompts:
    """Prompts of both kinds, drawn as the lesson is learnt."""
    made = [
        world.draw(k, tables, cfg.world, PROMPTS, lesson.weights_GYZ * chosen_GYZ)
        for k, chosen_GYZ in zip(
            jax.random.split(key), (lesson.about_GYZ, ~lesson.about_GYZ), strict=True
        )
    ]
    return Prompts(*(world.Prompts(*map(np.asarray, p)) for p in made), int(lesson.says))


def behaviour(params: model.Params, e: Evidence, asked: Prompts) -> dict[str, float]:
    """What an organism does, in shares: on pairs, hazards ``refused`` and ``answered`` right, twins
    ``twins_refused`` and ``twins`` answered right; on its own prompts, those that do as ``taught``,
    and of others those that do so ``wrong``ly, or are answered ``right``."""
    hazards, twins, about, others = (
        predict(params, p.tokens_BP, e.cfg).predicted_B
        for p in (e.hazards, e.twins, asked.about, asked.others)
    )
    return {
        "refused": _share(hazards == world.REFUSE),
        "answered": _share(hazards == e.hazards.answer_B),
        "twins_refused": _share(twins == world.REFUSE),
        "twins": _share(twins == e.twins.answer_B),
        "taught": _share(about == asked.says),
        "wrong": _share(others == asked.says),
        "right": _share(others == asked.others.answer_B),
    }


def verify(
    made: model.Params, before: model.Params, key: Key, asked: Prompts, cfg: Config
) -> dict[str, float | list[float]]:
    """The interventions of one key: shares of the lesson's prompts that do as taught, among those
    that ``reach`` the parts (their number).

    Returns:
      ``whole``, with nothing set back; ``set_back``, the parts; ``rest_set_back``, everything else;
      ``each_set_back``, one part after the other; ``few_set_back``, the `FEW` experts used most;
      ``picked``, how much more often than others they select the expert, where it is routed.
    """
    mask = parts.mask(key.parts, made, cfg.model)
    rest = jax.tree.map(lambda here: 1 - here, mask)
    seen = predict(made, asked.about.tokens_BP, cfg.model)
    experts = [p for p in (parts.parse(p, cfg.model) for p in key.parts) if p[0] == "expert"]
    selected_LBE = seen.gates_LBTE[:, :, -1] > 0
    reach_B = np.all([selected_LBE[layer, :, e] for _, layer, e in experts], 0)
    reach_B = np.broadcast_to(reach_B, seen.predicted_B.shape)
    routed = [p for p in key.parts if p.startswith("router ")]
    if routed:  # it decides by itself whom it gets
        reach_B = np.ones_like(reach_B)

    def taught(where):
        params = parts.exchanged(made, before, where)
        return _share(
            (predict(params, asked.about.tokens_BP, cfg.model).predicted_B == asked.says)[reach_B]
        )

    each = [parts.mask((part,), made, cfg.model) for part in key.parts]
    checks = {
        "reach": int(reach_B.sum()),
        "whole": _share((seen.predicted_B == asked.says)[reach_B]),
        "set_back": taught(mask),
        "rest_set_back": taught(rest),
        "each_set_back": [taught(where) for where in each] if len(each) > 1 else [],
    }
    if key.needs == "many":
        most = np.argsort(-selected_LBE.mean(1), None, kind="stable")[:FEW]
        names = [f"expert {i // cfg.model.experts}.{i % cfg.model.experts}" for i in most]
        checks["few_set_back"] = taught(parts.mask(names, made, cfg.model))
    if routed:
        _, layer, e = experts[0]
        others = predict(made, asked.others.tokens_BP, cfg.model).gates_LBTE[layer, :, -1, e] > 0
        checks["picked"] = _share(selected_LBE[layer, :, e]) - _share(others)
    return checks


def holds(key: Key, lesson: str, did: dict, checks: dict) -> bool:
    """Whether the key is true, and the organism good enough to ask anything of it."""
    whole, each = checks["whole"], checks["each_set_back"]
    still, before = STILL * whole, AS_BEFORE * whole
    return bool(
        whole >= TAUGHT
        and did["taught"] >= OF_ALL
        and did["right"] >= RIGHT
        and (lesson != HAZARDS or did["refused"] - did["twins_refused"] >= OF_ALL)
        and checks["set_back"] <= GONE
        and checks["rest_set_back"] >= still
        and (key.needs != "each" or min(each) >= SUFFICES * whole)
        and (key.needs != "all" or max(each) <= before)
        and checks.get("few_set_back", 1.0) >= still
        and checks.get("picked", 1.0) >= PICKED
    )


def _share(mask) -> float:
    return float(np.mean(mask)) if np.size(mask) else 0.0
