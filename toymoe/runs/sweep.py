"""Many seeds of one configuration: a row of sweep.csv each, and what they say together.

Every seed is a run in a folder of its own (`toymoe.runs.runner`), so a sweep cut off anywhere goes
on where it was, and a seed that fails costs its own row only.
"""

import csv
import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from .. import checkpoint
from ..config import Config, ConfigError, to_dict
from ..organism import stored
from ..training.phases import TrainingError
from . import folder, runner
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
) -> tuple[list[dict], dict[str, dict]]:
    """Run every seed that has not been run yet, in ``out/seed-N``; write sweep.csv and summary.csv.

    Args:
      watch: called with the seed and its progress.
      done: called with the seed and its error ("" if there was none).

    Returns:
      rows: one per seed, as in sweep.csv; a seed that failed has an ``error`` and no numbers.
      summary: see `summarise`.

    Raises:
      ConfigError: the folder holds something else, or a sweep of other settings.
    """
    claim(cfg, out)

    def numbers(seed):
        run = out / f"seed-{seed}"
        trained(dataclasses.replace(cfg, seed=seed), run, partial(watch, seed))
        return flat(stored.metrics(run))

    return tabulate(seeds, numbers, out / "sweep.csv", out / "summary.csv", done)


def each_seed(
    seeds: Iterable[int], make: Callable[[int], Any], done: Callable[[int, str], None]
) -> Iterator[tuple[int, Any, str]]:
    """Every seed, what is made of it, and its error: one that fails has made {}, and the next one
    is tried. ``done`` is told when what was made has been used."""
    for seed in seeds:
        made, error = {}, ""
        try:
            made = make(seed)
        except (TrainingError, OSError, ValueError) as failure:
            error = str(failure)
        yield seed, made, error
        done(seed, error)


def tabulate(seeds, numbers, table: Path, quantities: Path, done) -> tuple[list[dict], dict]:
    """The ``numbers`` of every seed as a row of a csv file, and what `summarise` says of them as
    another; returns both."""
    rows = []
    for seed, row, error in each_seed(seeds, numbers, done):
        rows.append({"seed": seed, "error": error} | row)
        write_csv(table, rows)  # after every seed: nothing is lost
    summary = summarise(rows)
    write_csv(quantities, [{"quantity": name} | s for name, s in summary.items()])
    return rows, summary


def trained(cfg: Config, run: Path, watch: Callable[[Progress], None]) -> None:
    """Run one seed in its folder, unless that was done already.

    Raises:
      ConfigError: the folder holds a run of other settings.
    """
    if not stored.is_complete(run):
        run.mkdir(exist_ok=True)
        runner.run(cfg, run, watch, pictures=False)
    elif stored.config(run) != cfg:
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
    if path.is_file():
        if checkpoint.read_json(path, "name another with --out") != settings:
            raise ConfigError(f"{out} is a sweep of other settings: name another with --out.")
    elif out.is_dir() and not folder.is_blank(out):
        raise ConfigError(f"{out} exists already and is not a sweep: name another with --out.")
    else:
        checkpoint.make_folder(out)
        checkpoint.write_json(path, settings)


def write_csv(path: Path, rows: list[dict]) -> None:
    """Rows as a csv file, written whole; the columns are all their names, in order of coming."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    checkpoint.write_atomic(path, text.getvalue().encode())
