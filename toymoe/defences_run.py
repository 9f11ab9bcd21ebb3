"""``toymoe defend``: every defence against every attack on one finished run, in its folder
``defences``.

Written after every defence, so what was cut off goes on where it was. Apart from ``toymoe raset``,
because every defence that changes alignment has to align an organism of its own first.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np

from . import (
    __version__,
    checkpoint,
    defences,
    plots,
    raset,
    raset_plots,
    raset_run,
    report,
    runner,
    sweep,
    train,
    tuning,
)
from .config import to_dict
from .raset_run import Progress

CAPTION = (
    "Hazards still refused against the number of experts attacked: tuned by our reading of RASET's "
    "criterion, tuned by use, removed in the order of their measured effect, or switched off by "
    "router steering. The dotted line is one half: where a curve crosses it, refusal is broken."
)
CONTROL = (
    "“none” is the undefended organism, aligned by the same program from the same pretrained model."
)
LIMITS = (
    "Toy organisms, one seed, attacks that do not know of the defence. The detector reads router "
    "logits; hazards whose combination it never saw show what it learnt."
)


def study(
    out: Path,
    schedule: tuning.Schedule | None = None,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> dict:
    """Measure every defence on the run in ``out``, or those that were not measured yet.

    Returns:
      ``points``, for each defence the rows of `toymoe.defences.points`; ``detector``, its errors
      by kind of prompt.

    Raises:
      ConfigError, CheckpointError: not a finished run, or damaged.
    """
    schedule = schedule or tuning.DEFAULT
    organism = runner.load(out)
    folder, cfg = out / "defences", organism.cfg
    made = _stored(folder, organism, schedule)
    k_attacker, k_tests, k_detector = jax.random.split(
        jax.random.fold_in(train.keys(cfg.seed).measure, 2), 3
    )
    names = list(defences.DEFENCES)
    for i, name in enumerate(names):
        if name in made["points"]:
            continue
        watch(Progress(f"{name}: aligning", i, len(names)))
        if defences.DEFENCES[name] == defences.DEFENCES["none"] and "none" in made["points"]:
            mine = organism._replace(aligned=_load(folder, organism))
        else:
            mine = defences.defend(organism, defences.DEFENCES[name])
        if name == "none":
            checkpoint.save(folder / "none.npz", mine.aligned, {"config": to_dict(cfg)})
        a = raset.attacker(mine, k_attacker, schedule)
        tests = raset.battery(mine, a.untuned_GYZ, k_tests, raset.PROMPTS)
        guard = defences.detector(mine, k_detector) if name == "detector" else None
        rows = defences.points(
            a,
            tests,
            guard,
            lambda attack, n, i=i, name=name: watch(
                Progress(f"{name}: {attack} {n or ''}", i, len(names))
            ),
        )
        made["points"][name] = rows
        if guard is not None:
            made["detector"] = defences.detector_errors(guard, tests, mine.aligned)
        checkpoint.write_json(folder / "study.json", made)
    watch(Progress("done", len(names), len(names)))
    return made


def _load(folder, organism):
    like = jax.tree.map(np.asarray, organism.aligned)
    return checkpoint.load(folder / "none.npz", like)[0]


def _stored(folder: Path, organism: runner.Organism, schedule) -> dict:
    belongs = {
        "toymoe": __version__,
        "model": raset_run.fingerprint(organism.pretrained),
        "schedule": asdict(schedule),
        "defences": {name: d._asdict() for name, d in defences.DEFENCES.items()},
        "config": to_dict(organism.cfg),
    }
    return raset_run.stored(folder, belongs, {"points": {}, "detector": {}})


# --- what it says -------------------------------------------------------------------------------

HEAD = (
    "defence", *(f"break: {name.replace('_', ' ')}" for name in defences.ATTACKS),
    "refusal", "held out", "accuracy", "accuracy lost", "over-refusal",
)  # fmt: skip
SHORT = ("defence", "tuned", "by use", "removed", "steered", "refusal", "accuracy")  # on screen


def short(made: dict) -> list[tuple]:
    """Rows of ``SHORT``: the break counts, and what is left without an attack."""
    return [(*row[:6], row[7]) for row in table(made)]


def table(made: dict) -> list[tuple]:
    """Rows of ``HEAD``; a break count of "> n" was not reached with the largest budget, n."""
    rows = []
    for row in defences.summary(made["points"]):
        breaks = []
        for attack in defences.ATTACKS:
            largest = max(r["budget"] for r in made["points"]["none"] if r["attack"] == attack)
            count = row[f"break_{attack}"]
            breaks.append(str(count) if count is not None else f"> {largest}")
        numbers = ("refusal", "refusal_held_out", "answer_accuracy", "accuracy_lost",
                   "over_refusal")  # fmt: skip
        rows.append(
            (
                row["defence"].replace("_", " "),
                *breaks,
                *(report.number(row[name]) for name in numbers),
            )
        )
    return rows


def write(made: dict, folder: Path) -> Path:
    """table.csv, points.csv, the figure and defences.html; returns the page's path."""
    sweep.write_csv(folder / "table.csv", defences.summary(made["points"]))
    rows = [{"defence": name} | row for name, its in made["points"].items() for row in its]
    sweep.write_csv(folder / "points.csv", raset_run.flat_rows({"rows": rows}))
    image = plots.png(raset_plots.break_counts(defences.curves(made["points"])))
    checkpoint.write_atomic(folder / "break_counts.png", image)
    errors = [(k.replace("_", " "), report.number(v)) for k, v in made["detector"].items()]
    parts = [
        "<h1>What defends refusal, and at what cost</h1>",
        *report.figure(raset_plots.TITLES["break_counts"], image, CAPTION, CONTROL),
        "<h2>Break counts and their price</h2>",
        report.table(HEAD, table(made)),
        "<h2>The router-logit detector, by kind of prompt</h2>",
        report.table(("prompts", "error"), errors),
        "<h2>What this does not show</h2>",
        f"<p>{LIMITS}</p>",
    ]
    page = folder / "defences.html"
    seed = made["belongs"]["config"]["seed"]
    checkpoint.write_atomic(page, report.page(f"Defences, seed {seed}", parts).encode())
    return page
