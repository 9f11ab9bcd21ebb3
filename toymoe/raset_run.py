"""``toymoe raset``: every arm on one finished run, in a folder ``raset`` beside its files.

Written after every arm, so a study cut off anywhere goes on where it was: study.json (rows, scores
and routes), then table.csv, figures/*.png and raset.html. Many seeds: a study each, a failure
costing its own seed only, and a table with medians and intervals.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from scipy.stats import spearmanr

from . import __version__, arms, checkpoint, raset, runner, sweep, train, tuning
from .config import Config, ConfigError, to_dict
from .model import Params
from .world import names

YARDSTICK = "ablation_zero"  # measured: refusal margin lost without the expert
SHOWN = ("none", "raset", "random_experts", "steering_off_responses")  # routes kept for the strip


class Progress(NamedTuple):
    """Where a study stands."""

    stage: str
    done: int
    total: int


def study(
    out: Path,
    schedule: tuning.Schedule | None = None,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> dict:
    """Measure every arm on the run in ``out``, or the arms that were not measured yet.

    Returns:
      ``rows``, a dict each of method, budget, share of parameters and the numbers of
      `raset.evaluate`; ``criteria``, each one's scores [L, E]; ``routes``, `raset.topic_shares` of
      some arms.

    Raises:
      ConfigError, CheckpointError: not a finished run, or damaged.
    """
    schedule = schedule or tuning.DEFAULT
    organism = runner.load(out)
    folder = out / "raset"
    made = _stored(folder, organism, schedule)
    cfg, total = organism.cfg, len(arms.plan(organism.cfg))
    left = [arm for arm in arms.plan(cfg) if (arm.method, arm.budget) not in _known(made)]
    if not left and made["criteria"]:
        return made
    watch(Progress("evidence", 0, 1))
    k_attacker, k_tests = jax.random.split(jax.random.fold_in(train.keys(cfg.seed).measure, 1))
    a = raset.attacker(organism, k_attacker, schedule)
    tests = raset.battery(organism, a.untuned_GYZ, k_tests, raset.PROMPTS)
    made["criteria"] = {name: a.scores(name).tolist() for name in raset.STUDIED}
    with _ahead(left, a) as attacks:
        for at, arm in enumerate(left, total - len(left)):
            watch(Progress(arm.method, at, total))
            look, share = next(attacks)
            numbers = raset.evaluate(look, tests, cfg)
            row = {"method": arm.method, "budget": arm.budget, "share": share} | numbers
            made["rows"].append(row)
            if arm.method in SHOWN and arm.budget in (0, arms.main_budget(cfg)):
                mixed = tests.prompts["mixed"]
                gates = look(mixed.tokens_BP).gates_LBTE
                shares = raset.topic_shares(gates, mixed.topic_B, cfg.world.topics)
                made["routes"][arm.method] = np.round(shares, 4).tolist()
            checkpoint.write_json(folder / "study.json", made)
    watch(Progress("done", total, total))
    return made


@contextmanager
def _ahead(left: list[arms.Arm], a: raset.Attacker):
    """What the arms lead to, in order. The first ones compile; then two are made at a time, since
    one leaves a core half idle."""
    pool = ThreadPoolExecutor(2)

    def make():
        yield from (arm.make(a) for arm in left[:2])
        yield from pool.map(lambda arm: arm.make(a), left[2:])

    try:
        yield make()
    finally:
        pool.shutdown(cancel_futures=True)


def _known(made):
    return {(row["method"], row["budget"]) for row in made["rows"]}


def _stored(folder: Path, organism: runner.Organism, schedule) -> dict:
    belongs = {
        "toymoe": __version__,
        "model": fingerprint(organism.aligned),
        "schedule": asdict(schedule),
        "config": to_dict(organism.cfg),
        "topics": names(organism.cfg.world),
    }
    return stored(folder, belongs, {"rows": [], "criteria": {}, "routes": {}})


def stored(folder: Path, belongs: dict, blank: dict) -> dict:
    """What study.json of a folder holds, if it was measured on the same model with the same
    settings; else the blank.

    Raises:
      ConfigError: the file is damaged.
    """
    folder.mkdir(exist_ok=True)
    path = folder / "study.json"
    if path.is_file():
        try:
            found = json.loads(path.read_bytes())
            if found["belongs"] == json.loads(json.dumps(belongs)):
                return found
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path} is damaged ({error}): delete it and run again.") from error
    return {"belongs": belongs} | blank


def fingerprint(params: Params) -> str:
    """A hash of parameters."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


# --- what a study says --------------------------------------------------------------------------


def rank_correlations(scores: dict[str, list], resamples: int = 1000) -> dict[str, dict]:
    """Spearman's rank correlation of every criterion with the measured effect over all experts of
    one organism, with a 95 % percentile bootstrap interval over experts."""
    measured = np.ravel(scores[YARDSTICK])
    rng = np.random.default_rng(0)
    draws = rng.integers(0, measured.size, (resamples, measured.size))
    found = {}
    for name, values in scores.items():
        flat = np.ravel(values)
        sampled = [_spearman(flat[rows], measured[rows]) for rows in draws]
        low, high = np.percentile(sampled, [2.5, 97.5])
        found[name] = {"rho": _spearman(flat, measured), "low": float(low), "high": float(high)}
    return found


def _spearman(a, b) -> float:
    """0 where one of the two is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a, b).statistic)


def flat_rows(made: dict) -> list[dict]:
    """Rows for a csv file: lists by layer become ``….0``, ``….1``, …"""
    return [
        {k: v for k, v in sweep.flat(row).items() if not k.endswith(".best")}
        for row in made["rows"]
    ]


def seed_row(made: dict) -> dict:
    """One study as numbers named ``method.budget.quantity``, for `toymoe.sweep.summarise`, with
    the gap of every method to RASET at the same budget as ``….gap.…``."""
    row: dict = {}
    rows = {(r["method"], r["budget"]): r for r in made["rows"]}
    for (method, budget), numbers in rows.items():
        own = sweep.flat({k: v for k, v in numbers.items() if k not in ("method", "budget")})
        row |= {
            f"{method}.{budget}.{name}": value
            for name, value in own.items()
            if not name.endswith(".best")
        }
        ours = rows.get(("raset", budget))
        if ours and method != "raset":
            for name in GAPS:
                row[f"{method}.{budget}.gap.{name}"] = numbers[name] - ours[name]
    measured = made["criteria"][YARDSTICK]
    for name, values in made["criteria"].items():
        row[f"criteria.{name}"] = _spearman(np.ravel(values), np.ravel(measured))
    return row


GAPS = ("refusal", "hazard_answered", "answer_accuracy", "jaccard_worst")


# --- many seeds ---------------------------------------------------------------------------------


def seeds_of(out: Path) -> dict[int, Path]:
    """The runs of a sweep's folder, by seed.

    Raises:
      ConfigError: there are none.
    """
    found = {
        int(path.name.removeprefix("seed-")): path
        for path in out.glob("seed-*")
        if path.name.removeprefix("seed-").isdecimal()
    }
    if not found:
        raise ConfigError(
            f"{out} holds no runs (seed-0, …): `toymoe sweep --out {out}` makes them."
        )
    return dict(sorted(found.items()))


def many(
    folders: dict[int, Path],
    out: Path,
    cfg: Config | None = None,
    schedule: tuning.Schedule | None = None,
    watch: Callable[[int, Progress], None] = lambda seed, progress: None,
    done: Callable[[int, str], None] = lambda seed, error: None,
) -> tuple[list[dict], dict[str, dict], list[dict]]:
    """A study of every seed's run; a failure costs its own row only. Writes raset.csv, a row per
    seed, and raset-summary.csv (`toymoe.sweep.summarise`).

    Args:
      folders: the run of each seed.
      cfg: train with these settings the runs that are not there yet; without it they are an error.

    Returns:
      rows, summary, and the studies that came to their end.
    """
    rows, studies = [], []
    for seed, folder in folders.items():
        error, row = "", {}
        try:
            if cfg is not None:
                _train(dataclasses.replace(cfg, seed=seed), folder, partial(watch, seed))
            studies.append(study(folder, schedule, partial(watch, seed)))
            row = seed_row(studies[-1])
        except (train.TrainingError, ValueError, OSError) as failure:
            error = str(failure)
        rows.append({"seed": seed, "error": error} | row)
        sweep.write_csv(out / "raset.csv", rows)  # after every seed: nothing is lost
        done(seed, error)
    summary = sweep.summarise(rows)
    table = [{"quantity": name} | numbers for name, numbers in summary.items()]
    sweep.write_csv(out / "raset-summary.csv", table)
    return rows, summary, studies


def _train(cfg: Config, folder: Path, watch) -> None:
    if not runner.is_complete(folder):
        folder.mkdir(exist_ok=True)
        runner.run(cfg, folder, lambda p: watch(Progress(p.stage, p.done, p.total)), False)
    elif runner.stored_config(folder) != cfg:
        raise ConfigError(f"{folder} is a run of other settings: delete it.")
