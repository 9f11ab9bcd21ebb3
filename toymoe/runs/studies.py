"""Studies of finished runs: stored as they grow, and gone on with where they were cut off.

Over many seeds a row each, and a table with medians and intervals. A study is a dict of plain
numbers in ``study.json``, in a folder of its own beside the run's files.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import checkpoint, model, numerics
from ..config import ConfigError
from ..organism import stored as organism
from . import jobs, records
from .progress import Progress

Watch = Callable[[Progress], None]


def stored(folder: Path, belongs: dict, blank: dict) -> dict:
    """What study.json of a folder holds, if it was measured on the same model with the same
    settings; else the blank.

    Raises:
      CheckpointError: the file is damaged.
    """
    folder.mkdir(exist_ok=True)
    path = folder / "study.json"
    if path.is_file():
        found = checkpoint.read_json(path, "delete it and run again")
        if found.get("belongs") == json.loads(json.dumps(belongs)):
            return blank | found
    return {"belongs": belongs} | blank


def is_begun(run: Path, name: str) -> bool:
    """Whether a finished run has a study in its folder ``name``."""
    return (run / name / "study.json").is_file() and organism.is_complete(run)


def fingerprint(params: model.Params) -> str:
    """A hash of parameters."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def ahead(makers: list[Callable]) -> Iterator[Iterator]:
    """What each of the functions returns, in order. The first two are called when they are asked
    for, since they compile; then two at a time, since one leaves a core half idle."""
    pool = ThreadPoolExecutor(2)

    def made():
        yield from (make() for make in makers[:2])
        yield from pool.map(numerics.fixed()(lambda make: make()), makers[2:])

    try:
        yield made()
    finally:
        pool.shutdown(cancel_futures=True)


def write_rows(path: Path, rows: list[dict]) -> None:
    """Rows as a csv file; lists by layer become ``….0``, ``….1``, …"""
    flat = [{k: v for k, v in records.flat(row).items() if not k.endswith(".best")} for row in rows]
    records.write_csv(path, flat)


# --- many seeds ---------------------------------------------------------------------------------


def seeds_of(out: Path) -> list[int]:
    """The seeds of a sweep's folder.

    Raises:
      ConfigError: there are none.
    """
    found = jobs.there(out)
    if not found:
        raise ConfigError(
            f"{out} holds no runs (seed-0, …): `toymoe sweep --out {out}` makes them."
        )
    return found


class Many(NamedTuple):
    """Studies of many seeds."""

    rows: list[dict]  # one per seed; one that failed has an ``error`` and no numbers
    summary: dict[str, dict]  # see `toymoe.runs.records.summarise`
    studies: list[dict]  # those that came to their end


def many(
    study: Callable[[int, Path, Watch], Any],
    finished: Callable[[Path], dict | None],
    row: Callable[[dict], dict],
    asked: list[int],
    files: Path,
    **calls,
) -> Many:
    """A study of every seed; a failure costs its own row only.

    Args:
      study: of a seed, from the folder of its run, ``seed-N``; pickled where a crew does it.
      finished: what a study left in such a folder; None before it came to its end.
      row: its numbers by name.
      asked: the seeds; all others that are finished get a row, too.
      files: path and beginning of the names of the tables, beside the runs: ``….csv``, a row per
        seed, and ``…-summary.csv``.
      calls: ``watch``, ``done`` and ``crew`` of `toymoe.runs.jobs.make`.
    """
    out = files.parent
    job = jobs.Job(out, asked, partial(_study, study, out), partial(_finished, finished, out))
    tables = (files.with_name(f"{files.name}{end}.csv") for end in ("", "-summary"))
    return Many(*records.tabulate(job, row, *tables, **calls))


def _study(study, out, seed, watch):
    study(seed, out / f"seed-{seed}", watch)


def _finished(finished, out, seed):
    return finished(out / f"seed-{seed}")
