"""Is the same seat found again? The pretrained model aligned once more, and to another lesson.

Two alignments, each by the recipe and with the steps of the first:

    second    the same lesson, other prompts: does alignment write refusal into the same experts?
    sham      the same prompts, another lesson: as many requests are refused, but none that is
              hazardous. Are the experts found those of this lesson, or those of any?

Each is ranked and taken apart as a run does it (`toymoe.attribution.removal`), and its ranking is
tried on the first model: ``m50_of_first`` experts in its order have to be set back until half of
the first model's refusal is gone.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from .. import __version__, checkpoint, numerics, world
from ..attribution import localisation, methods, removal
from ..attribution.evidence import gather
from ..config import to_dict
from ..organism import Organism, stored
from ..runs import records, studies
from ..runs.progress import Progress
from ..training import phases

TOP = 8  # experts of either ranking that are compared


@numerics.fixed()
def study(out: Path, watch: studies.Watch = lambda progress: None) -> dict:
    """Measure the run in ``out``, or take what is known of it.

    Returns:
      ``belongs``, what was measured by which version, and ``rankings``: see `measure`.

    Raises:
      ConfigError, CheckpointError: not a finished run, or damaged.
    """
    organism = stored.load(out)
    made = _stored(out, organism)
    if not made["rankings"]:
        made["rankings"] = measure(organism, watch)
        checkpoint.write_json(out / "realigned" / "study.json", made)
    return made


def finished(out: Path) -> dict | None:
    """What `study` made of a run; None before it came to its end.

    Raises:
      ConfigError, CheckpointError: damaged.
    """
    made = studies.is_begun(out, "realigned") and _stored(out, stored.load(out))
    return made if made and made["rankings"] else None


def _stored(out: Path, organism: Organism) -> dict:
    belongs = {
        "toymoe": __version__,
        "model": studies.fingerprint(organism.aligned),
        "config": to_dict(organism.cfg),
    }
    return studies.stored(out / "realigned", belongs, {"rankings": {}})


def measure(o: Organism, watch: studies.Watch = lambda progress: None) -> dict[str, dict]:
    """Of the ``first`` alignment, a ``second`` one and a ``sham``: ``refusal`` of what it was
    taught to refuse, ``hazards_refused`` of the world's hazards, ``m50`` of its own refusal,
    ``m50_of_first`` of the first model's refusal in its order; and of its ranking and the first
    one's, ``correlation`` (Spearman's) and ``shared``, the share in common of the `TOP` highest,
    with ``chance``, what two rankings share that know nothing of each other."""
    key = jax.random.fold_in(phases.keys(o.cfg.seed).measure, 4)
    again = dataclasses.replace(o.cfg, seed=(o.cfg.seed + 1) % 2**31)  # its key draws the prompts
    other = sham_tables(o.tables)
    ranked, tested = _pairs(o, o.aligned, o.tables, key)
    first_LE = removal.alone(ranked, "set_back")
    made = {}
    for name, tables, cfg in (
        ("first", o.tables, None),
        ("second", o.tables, again),
        ("sham", other, o.cfg),
    ):
        watch(Progress(f"{name}: aligning", len(made), 3))
        params = o.aligned if cfg is None else _aligned(o, tables, cfg)
        own = _pairs(o, params, tables, key)
        effect_LE = removal.alone(own[0], "set_back")
        left = removal.in_order(own[1], effect_LE, "set_back")
        of_first = removal.in_order(tested, effect_LE, "set_back")
        hazards = dataclasses.replace(tested, params=params).answers[0]
        made[name] = {
            "refusal": left["refusal"][0],
            "hazards_refused": float((hazards.predicted_B == world.REFUSE).mean()),
            "m50": left["m50"],
            "m50_of_first": of_first["m50"],
            "correlation": methods.rank_correlation(effect_LE, first_LE),
            "shared": len(_top(effect_LE) & _top(first_LE)) / TOP,
            "chance": TOP / effect_LE.size,
        }
    watch(Progress("done", 3, 3))
    return made


def sham_tables(tables: world.World) -> world.World:
    """The world with other requests in the place of its hazards, held out and controls alike: those
    of the harmless topics instead of the hazardous ones, or of another verb where the topic does
    not matter."""
    hazard_GYZ = np.asarray(tables.hazard_GYZ)
    hazardous_G = hazard_GYZ.any((1, 2))
    order = np.arange(len(hazardous_G))
    if hazardous_G.all():
        moved = {name: np.roll(getattr(tables, name), 1, 1) for name in _REQUESTS}
    else:
        pairs = zip(np.flatnonzero(hazardous_G), np.flatnonzero(~hazardous_G), strict=False)
        for a, b in pairs:
            order[[a, b]] = order[[b, a]]
        moved = {name: np.asarray(getattr(tables, name))[order] for name in _REQUESTS}
        left_G = hazardous_G[order] & hazardous_G  # more hazardous topics than harmless ones
        moved["hazard_GYZ"] = moved["hazard_GYZ"] & ~left_G[:, None, None]
    return tables._replace(**moved)


_REQUESTS = ("hazard_GYZ", "control_GYZ", "held_out_GYZ")


def _aligned(o, tables, cfg):
    probe_BP = o.sample(2).tokens_BP
    state = phases.start(o.pretrained, cfg, "align")
    *_, last = phases.run_phase(state, 0, tables, probe_BP, cfg, "align")
    return jax.tree.map(np.asarray, last.state.params)


def _pairs(o, params, tables, key):
    """Two halves of some pairs: to rank the experts on, and to try the ranking on."""
    return localisation.halves(gather(params, tables, o.cfg, key, localisation.PAIRS, o.pretrained))


def _top(scores_LE):
    return {*np.argsort(-scores_LE, None, kind="stable")[:TOP].tolist()}


# --- many seeds ---------------------------------------------------------------------------------


def row(made: dict) -> dict:
    """The numbers of one seed by name."""
    return records.flat(made["rankings"])


def many(seeds: list[int], out: Path, **calls) -> studies.Many:
    """`study` of every seed; writes realigned.csv and realigned-summary.csv."""
    return studies.many(_one, finished, row, seeds, out / "realigned", **calls)


def _one(seed, folder, watch):
    study(folder, watch)
