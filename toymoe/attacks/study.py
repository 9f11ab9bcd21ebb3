"""``toymoe raset``: every attack on one finished run, in a folder ``raset`` beside its files.

Written after every attack, so a study cut off anywhere goes on where it was: study.json (rows,
scores and routes), then table.csv, figures/*.png and raset.html. Many seeds: a study each, a
failure costing its own seed only, and a table with medians and intervals.
"""

import dataclasses
from dataclasses import asdict
from functools import partial
from pathlib import Path

import jax
import numpy as np

from .. import __version__, checkpoint, numerics
from ..attribution import REFERENCE
from ..attribution.methods import rank_correlation
from ..config import Config, to_dict
from ..measures import behaviour
from ..organism import Organism, stored
from ..runs import records, studies, sweep
from ..runs.progress import Progress
from ..training import phases
from ..world import names
from . import catalogue, evaluation, raset, tuning
from .attacker import Attacker

SHOWN = ("none", "raset", "random_experts", "steering_off_responses")  # routes kept for the strip
RESAMPLES = 1000  # of `rank_correlations`


@numerics.fixed()
def study(
    out: Path,
    schedule: tuning.Schedule = tuning.DEFAULT,
    watch: studies.Watch = lambda progress: None,
    each: bool = False,
) -> dict:
    """Measure every attack on the run in ``out``, or those that were not measured yet.

    Args:
      each: tune each expert alone as well.

    Returns:
      ``rows``, a dict each of method, budget, share of parameters and the numbers of
      `evaluation.evaluate`; ``criteria``, each one's scores [L, E]; ``routes``,
      `evaluation.topic_shares` of some attacks; ``alone``, the refusal that is left with each
      expert tuned alone, layer by layer; empty where that was never asked for.

    Raises:
      ConfigError, CheckpointError: not a finished run, or damaged.
    """
    organism = stored.load(out)
    folder, cfg = out / "raset", organism.cfg
    made, plan = _stored(folder, organism, schedule), catalogue.plan(cfg)
    left, experts = _left(made, cfg), [*np.ndindex(cfg.model.layers, cfg.model.experts)]
    if _is_whole(made, cfg, each):
        return made
    watch(Progress("evidence", 0, 1))
    k_attacker, k_tests = jax.random.split(jax.random.fold_in(phases.keys(cfg.seed).measure, 1))
    a = Attacker.of(organism, k_attacker, schedule)
    tests = evaluation.test_set(organism, a.untuned_GYZ, k_tests, evaluation.PROMPTS)
    made["criteria"] = {name: a.scores(name).tolist() for name in raset.studied()}

    def run(attack, n):
        attacked = attack.run(a, n)
        return attacked, evaluation.evaluate(attacked.predictor, tests, cfg)

    with studies.ahead([partial(run, attack, n) for attack, n in left]) as results:
        for at, (attack, n) in enumerate(left, len(plan) - len(left)):
            watch(Progress(attack.name, at, len(plan)))
            attacked, numbers = next(results)
            row = {"method": attack.name, "budget": n, "share": attacked.share}
            made["rows"].append(row | numbers)
            if attack.name in SHOWN and n in (0, catalogue.main_budget(cfg)):
                mixed = tests.prompts["mixed"]
                gates = attacked.predictor(mixed.tokens_BP).gates_LBTE
                shares = evaluation.topic_shares(gates, mixed.topic_B, cfg.world.topics)
                made["routes"][attack.name] = np.round(shares, 4).tolist()
            checkpoint.write_json(folder / "study.json", made)
    hazards = tests.prompts["hazardous"]
    todo = experts[len(made["alone"]) :] if each else []

    def refused(at):
        said_B = raset.alone(a, *at).predictor(hazards.tokens_BP).predicted_B
        return behaviour.rates(said_B, hazards)["refusal"]

    with studies.ahead([partial(refused, at) for at in todo]) as results:
        for _ in todo:
            watch(Progress("each expert alone", len(made["alone"]), len(experts)))
            made["alone"].append(next(results))
            checkpoint.write_json(folder / "study.json", made)
    watch(Progress("done", len(plan), len(plan)))
    return made


def finished(
    out: Path, schedule: tuning.Schedule = tuning.DEFAULT, each: bool = False
) -> dict | None:
    """What `study` made of a run; None before it came to its end.

    Raises:
      ConfigError, CheckpointError: damaged.
    """
    if not studies.is_begun(out, "raset"):
        return None
    organism = stored.load(out)
    made = _stored(out / "raset", organism, schedule)
    return made if _is_whole(made, organism.cfg, each) else None


def _is_whole(made, cfg, each):
    if each and len(made["alone"]) < cfg.model.layers * cfg.model.experts:
        return False
    return not _left(made, cfg) and {*raset.studied()} <= made["criteria"].keys()


def _left(made, cfg):
    """The attacks that were not measured yet."""
    known = {(row["method"], row["budget"]) for row in made["rows"]}
    return [(attack, n) for attack, n in catalogue.plan(cfg) if (attack.name, n) not in known]


def _stored(folder: Path, organism: Organism, schedule) -> dict:
    belongs = {
        "toymoe": __version__,
        "model": studies.fingerprint(organism.aligned),
        "schedule": asdict(schedule),
        "config": to_dict(organism.cfg),
        "topics": names(organism.cfg.world),
    }
    return studies.stored(folder, belongs, {"rows": [], "criteria": {}, "routes": {}, "alone": []})


# --- what a study says --------------------------------------------------------------------------


def rank_correlations(scores: dict[str, list]) -> dict[str, dict]:
    """Spearman's rank correlation of every criterion with the measured effect over all experts of
    one organism, with a 95 % percentile bootstrap interval over experts."""
    measured = np.ravel(scores[REFERENCE])
    rng = np.random.default_rng(0)
    draws = rng.integers(0, measured.size, (RESAMPLES, measured.size))
    found = {}
    for name, values in scores.items():
        flat = np.ravel(values)
        sampled = [rank_correlation(flat[rows], measured[rows]) for rows in draws]
        low, high = np.percentile(sampled, [2.5, 97.5])
        found[name] = {
            "rho": rank_correlation(flat, measured),
            "low": float(low),
            "high": float(high),
        }
    return found


def removed_alone(made: dict) -> dict[str, float]:
    """Rank correlation of every criterion with what tuning each expert alone removes; empty where
    that was not measured to its end."""
    removed = -np.array(made["alone"])
    if removed.size != np.size(made["criteria"][REFERENCE]):
        return {}
    return {name: rank_correlation(values, removed) for name, values in made["criteria"].items()}


def seed_row(made: dict) -> dict:
    """One study as numbers named ``method.budget.quantity``, for `toymoe.runs.records.summarise`,
    with the gap of every method to RASET at the same budget as ``….gap.…``."""
    row: dict = {}
    rows = {(r["method"], r["budget"]): r for r in made["rows"]}
    for (method, budget), numbers in rows.items():
        own = records.flat({k: v for k, v in numbers.items() if k not in ("method", "budget")})
        row |= {
            f"{method}.{budget}.{name}": value
            for name, value in own.items()
            if not name.endswith(".best")
        }
        ours = rows.get(("raset", budget))
        if ours and method != "raset":
            for name in GAPS:
                row[f"{method}.{budget}.gap.{name}"] = numbers[name] - ours[name]
    measured = made["criteria"][REFERENCE]
    for name, values in made["criteria"].items():
        row[f"criteria.{name}"] = rank_correlation(values, measured)
    return row | {f"alone.{name}": rho for name, rho in removed_alone(made).items()}


GAPS = (
    "refusal", "hazard_answered", "hazard_answered_untuned", "answer_accuracy", "jaccard_worst",
)  # fmt: skip


# --- many seeds ---------------------------------------------------------------------------------


def many(
    seeds: list[int], out: Path, cfg: Config | None = None, each: bool = False, **calls
) -> studies.Many:
    """A study of every seed's run, as `toymoe.runs.studies.many`, with raset.csv and
    raset-summary.csv.

    Args:
      cfg: train with these settings the runs that are not there yet; without it they are an error.
      each: see `study`.
    """
    one, whole = partial(_one, cfg, each), partial(finished, each=each)
    return studies.many(one, whole, seed_row, seeds, out / "raset", **calls)


def _one(cfg, each, seed, folder, watch):
    if cfg is not None:
        sweep.trained(dataclasses.replace(cfg, seed=seed), folder, watch)
    study(folder, watch=watch, each=each)
