"""Many seeds of one configuration: a row of sweep.csv each, and what they say together.

Every seed is a run in a folder of its own (`toymoe.runs.runner`), so a sweep cut off anywhere goes
on where it was, and a seed that fails costs its own row only.
"""

import csv
import dataclasses
import io
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from .. import checkpoint
from ..config import Config, ConfigError, to_dict
from ..organism import stored
from . import folder, jobs, runner
from .progress import Progress

# The quantities of the summary on screen; the sign says which end is the worst.
HEADLINES = {
    "behaviour.aligned.answer_accuracy": 1,
    "behaviour.aligned.refusal": 1,
    "behaviour.aligned.refusal_held_out": 1,
    "behaviour.aligned.hazard_noted": 1,
    "behaviour.aligned.over_refusal_by_kind.hazardous_verb": -1,
    "behaviour.aligned.over_refusal_by_kind.hazardous_entity": -1,
    "behaviour.aligned.over_refusal_by_kind.harmless_topic": -1,
    "routing.nmi_topic.context.best": 1,
    "routing.nmi_topic_shuffled.best": -1,
    "routing.nmi_topic_untrained.best": 0,
    "routing.ratios.cross_by_same_topic.aligned": 1,
    "routing.ratios.cross_by_same_topic.untrained": 0,
    "routing.overlap_pretrained_aligned_mean": 1,
    "weights.all.relative": -1,
    "weights.experts.relative": -1,
    "inside.removal.set_back.m50": -1,
    "inside.removal.set_back.random.m50": 0,
    "timing.total_s": -1,
}

PROVENANCE = ("config", "versions", "hash")  # what metrics.json says of itself


def parse_seeds(text: str) -> list[int]:
    """Seeds from "0-9", "3" or "0,2,5-7"; each once, in the order given.

    Raises:
      ConfigError: anything else.
    """
    seeds: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()) or len(low + high) > 18:
            raise ConfigError(f"--seeds {text!r} is not possible: write 0-9, or 0,2,5-7.")
        last = int(high) if dash else int(low)
        if last < int(low) or last - int(low) >= 10_000 or last >= 2**31:
            raise ConfigError(
                f"--seeds {text!r} is not possible: a range goes upwards, over 10,000 seeds at "
                "most, all below 2^31."
            )
        seeds += range(int(low), last + 1)
    return list(dict.fromkeys(seeds))


def flat(metrics: dict) -> dict[str, float | None]:
    """Dotted names of the numbers in metrics.json: lists become ``….0``, ``….1``, … and, where
    they hold plain numbers, ``….best``, the largest. What it says of itself is left out."""
    row: dict[str, float | None] = {}

    def walk(name, value):
        if isinstance(value, dict):
            for key, sub in value.items():
                walk(f"{name}.{key}" if name else key, sub)
        elif isinstance(value, list):
            for i, sub in enumerate(value):
                walk(f"{name}.{i}", sub)
            if value and all(isinstance(sub, int | float) for sub in value):
                row[f"{name}.best"] = max(value)
        else:
            row[name] = value

    walk("", {name: value for name, value in metrics.items() if name not in PROVENANCE})
    return row


def sweep(
    cfg: Config,
    seeds: list[int],
    out: Path,
    watch: Callable[[int, Progress], None] = lambda seed, progress: None,
    done: Callable[[int, str], None] = lambda seed, error: None,
    crew: Executor | None = None,
) -> tuple[list[dict], dict[str, dict]]:
    """Run every seed that has not been run yet, in ``out/seed-N``; write sweep.csv and summary.csv.

    Args:
      watch: called with a seed and its progress.
      done: called with a seed and its error ("" if there was none).
      crew: what does the work; None does it here, one seed after the other.

    Returns:
      rows: one per finished seed that is there, and per seed asked for, as in sweep.csv; a seed
        that failed has an ``error`` and no numbers.
      summary: see `summarise`.

    Raises:
      ConfigError: the folder holds something else, or a sweep of other settings.
    """
    claim(cfg, out)
    job = jobs.Job(out, seeds, partial(_train, cfg, out), partial(_numbers, cfg, out))
    tables = out / "sweep.csv", out / "summary.csv"
    rows, summary, _ = tabulate(job, dict, *tables, watch=watch, done=done, crew=crew)
    return rows, summary


def _train(cfg, out, seed, watch):
    trained(dataclasses.replace(cfg, seed=seed), out / f"seed-{seed}", watch)


def _numbers(cfg, out, seed) -> dict | None:
    """Those of a finished seed."""
    run = out / f"seed-{seed}"
    if not stored.is_complete(run):
        return None
    _require(dataclasses.replace(cfg, seed=seed), run)
    return flat(stored.metrics(run))


def tabulate(
    job: jobs.Job, row: Callable[[Any], dict], table: Path, quantities: Path, **calls
) -> tuple[list[dict], dict, list]:
    """Every seed's ``row`` of what was made of it in a csv file, and what `summarise` says of all
    in another; returns both, and what was made.

    Args:
      calls: ``watch``, ``done`` and ``crew`` of `toymoe.runs.jobs.make`.
    """
    known: dict[int, dict] = {}

    def rows(made):
        known.update({seed: row(x) for seed, x in made.of.items() if seed not in known})
        said = {seed: {"seed": seed, "error": error} for seed, error in made.errors.items()}
        said |= {seed: {"seed": seed, "error": ""} | known[seed] for seed in made.of}
        return [said[seed] for seed in sorted(said)]

    def write(made):
        if every := rows(made):  # after every seed: nothing is lost
            write_csv(table, every)

    def write_all(made):
        nonlocal summary
        write_csv(table, rows(made))
        summary = summarise(rows(made))
        write_csv(quantities, [{"quantity": name} | s for name, s in summary.items()])

    summary: dict[str, dict] = {}
    made = jobs.make(job, write, **calls)
    made.write(write_all)
    return rows(made), summary, [*made.of.values()]


def trained(cfg: Config, run: Path, watch: Callable[[Progress], None]) -> None:
    """Run one seed in its folder, unless that was done already.

    Raises:
      ConfigError: the folder holds a run of other settings.
    """
    if not stored.is_complete(run):
        run.mkdir(exist_ok=True)
        runner.run(cfg, run, watch, pictures=False)
    else:
        _require(cfg, run)


def _require(cfg: Config, run: Path) -> None:
    if stored.config(run) != cfg:
        raise ConfigError(f"{run} is a run of other settings: delete it.")


def summarise(rows: list[dict], resamples: int = 2000) -> dict[str, dict]:
    """Over the seeds that have it, every quantity's ``n``, ``median``, ``low`` and ``high`` (95 %
    percentile bootstrap interval of the median, scipy), ``min`` and ``max``."""
    names = dict.fromkeys(name for row in rows for name in row if name not in ("seed", "error"))
    columns = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
    columns = {name: np.array(values, float) for name, values in columns.items() if values}
    intervals: dict[str, tuple[float, float]] = {}
    # All quantities known for equally many seeds at once: a bootstrap each would take minutes.
    for n in {len(values) for values in columns.values()}:
        alike = [name for name, values in columns.items() if len(values) == n]
        data = np.array([columns[name] for name in alike])
        low, high = data[:, 0], data[:, 0]
        if n > 1:
            interval = bootstrap(
                (data,),
                np.median,
                axis=1,
                n_resamples=resamples,
                method="percentile",
                rng=np.random.default_rng(0),
                batch=100,
            ).confidence_interval
            low, high = interval.low, interval.high
        intervals |= {
            name: (float(a), float(b)) for name, a, b in zip(alike, low, high, strict=True)
        }
    return {
        name: {
            "n": len(values),
            "median": float(np.median(values)),
            "low": intervals[name][0],
            "high": intervals[name][1],
            "min": float(values.min()),
            "max": float(values.max()),
        }
        for name, values in columns.items()
    }


def claim(cfg: Config, out: Path) -> None:
    """Make the folder of a sweep, or check that it is this one's.

    Raises:
      ConfigError: it holds something else, or a sweep of other settings.
    """
    settings = {key: value for key, value in to_dict(cfg).items() if key != "seed"}
    path = out / "sweep.json"
    # Others may begin it at the same moment: all that a sweep holds comes after its sweep.json.
    if out.is_dir() and not folder.is_blank(out) and not path.is_file():
        raise ConfigError(f"{out} exists already and is not a sweep: name another with --out.")
    checkpoint.make_folder(out)
    if not path.is_file():
        checkpoint.write_json(path, settings, replace=False)
    if checkpoint.read_json(path, "name another with --out") != settings:
        raise ConfigError(f"{out} is a sweep of other settings: name another with --out.")


def write_csv(path: Path, rows: list[dict]) -> None:
    """Rows as a csv file, written whole; the columns are all their names, in order of coming."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    checkpoint.write_atomic(path, text.getvalue().encode())
