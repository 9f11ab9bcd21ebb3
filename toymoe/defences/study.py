"""``toymoe defend``: every defence against every attack on one finished run, in its folder
``defences``, or on all runs of a sweep.

Written after every defence, so what was cut off goes on where it was. Apart from ``toymoe raset``,
because every defence that changes alignment has to align an organism of its own first.
"""

from dataclasses import asdict
from pathlib import Path

import jax

from .. import __version__, checkpoint, numerics
from ..attacks import raset, tuning
from ..config import to_dict
from ..organism import Organism, stored
from ..runs import studies
from ..runs.studies import Progress
from ..training import phases
from . import detector


@numerics.fixed()
def study(
    out: Path,
    schedule: tuning.Schedule | None = None,
    watch: studies.Watch = lambda progress: None,
) -> dict:
    """Measure every defence on the run in ``out``, or those that were not measured yet.

    Returns:
      ``points``, for each defence the rows of `toymoe.defences.detector.points`; ``detector``, its errors
      by kind of prompt.

    Raises:
      ConfigError, CheckpointError: not a finished run, or damaged.
    """
    schedule = schedule or tuning.DEFAULT
    organism = stored.load(out)
    folder, cfg = out / "defences", organism.cfg
    made = _stored(folder, organism, schedule)
    k_attacker, k_tests, k_detector = jax.random.split(
        jax.random.fold_in(phases.keys(cfg.seed).measure, 2), 3
    )
    names = list(detector.DEFENCES)
    for i, name in enumerate(names):
        if name in made["points"]:
            continue
        watch(Progress(f"{name}: aligning", i, len(names)))
        mine = detector.defend(organism, detector.DEFENCES[name])
        a = raset.attacker(mine, k_attacker, schedule)
        tests = raset.test_set(mine, a.untuned_GYZ, k_tests, raset.PROMPTS)
        guards = {  # of all defences that are aligned alike
            other: detector.detector(mine, k_detector) if other == "detector" else None
            for other in names
            if detector.DEFENCES[other] == detector.DEFENCES[name]
        }

        def step(attack, n, i=i, name=name):
            watch(Progress(f"{name}: {attack} {n or ''}", i, len(names)))

        made["points"] |= detector.points(a, tests, guards, step)
        if guards.get("detector"):
            made["detector"] = detector.detector_errors(guards["detector"], tests, mine.aligned)
        checkpoint.write_json(folder / "study.json", made)
    made["points"] = {name: made["points"][name] for name in names}
    watch(Progress("done", len(names), len(names)))
    return made


def _stored(folder: Path, organism: Organism, schedule) -> dict:
    belongs = {
        "toymoe": __version__,
        "model": studies.fingerprint(organism.pretrained),
        "schedule": asdict(schedule),
        "defences": {name: d._asdict() for name, d in detector.DEFENCES.items()},
        "attacks": list(detector.ATTACKS),
        "config": to_dict(organism.cfg),
    }
    return studies.stored(folder, belongs, {"points": {}, "detector": {}})


# --- many seeds ---------------------------------------------------------------------------------

LEFT = ("refusal", "hazard_answered", "answer_accuracy")  # after an attack
PRICE = ("refusal", "refusal_held_out", "answer_accuracy", "accuracy_lost", "over_refusal")


def seed_row(made: dict) -> dict:
    """One study as numbers, for `toymoe.runs.sweep.summarise`: of each defence its price (``PRICE``),
    break counts by attack (``spread.break.tuned``; ``tuning`` is the best of those that tune),
    how many times the undefended model's they are (``spread.times.tuning``), and what each attack
    leaves (``spread.tuned.8.refusal``).

    A break count not reached counts as one more than the largest budget, so that a median over
    seeds can be taken.
    """
    row: dict = {}
    largest = largest_budget(made)
    plain: dict[str, float] = {}
    for its in detector.summary(made["points"]):
        name = its["defence"]
        row |= {f"{name}.{quantity}": its[quantity] for quantity in PRICE}
        breaks = {attack: its[f"break_{attack}"] for attack in detector.attacks_on(name)}
        breaks = {attack: largest + 1 if n is None else n for attack, n in breaks.items()}
        plain = plain or breaks  # the first row is the undefended model's
        tuning = [attack for attack in breaks if attack in detector.TUNING]
        before = plain | {"tuning": min(plain[attack] for attack in tuning)}
        breaks["tuning"] = min(breaks[attack] for attack in tuning)
        for attack, n in breaks.items():
            row[f"{name}.break.{attack}"] = n
            if 0 < before[attack] <= largest:  # else the ratio is not known
                row[f"{name}.times.{attack}"] = n / before[attack]
        for point in made["points"][name]:
            for quantity in LEFT:
                key = f"{name}.{point['attack']}.{point['budget']}.{quantity}"
                row[key] = point[quantity]
    return row | {f"error.{kind}": error for kind, error in made["detector"].items()}


def largest_budget(made: dict) -> int:
    """The largest number of experts attacked."""
    return max(point["budget"] for point in made["points"]["none"])


def many(folders: dict[int, Path], out: Path, schedule=None, **calls) -> studies.Many:
    """A study of every seed's run, as `toymoe.runs.studies.many`, with defences.csv and
    defences-summary.csv."""

    def one(seed, folder, watch):
        return study(folder, schedule, watch)

    return studies.many(one, seed_row, folders, out / "defences", **calls)
