"""Rows of numbers over seeds: flattened, in csv files, and what many of them say together."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from .. import checkpoint
from . import jobs

PROVENANCE = ("config", "versions", "hash")  # what metrics.json says of itself


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


def write_csv(path: Path, rows: list[dict]) -> None:
    """Rows as a csv file, written whole; the columns are all their names, in order of coming."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    checkpoint.write_atomic(path, text.getvalue().encode())
