"""Do the attribution methods find what was planted, and nothing where nothing was?

For every seed a model is pretrained, organisms and shams are planted in it (`planted`), and every
method of `toymoe.attribution.methods.METHODS` is asked for the seat. Its answer, its verdict
(`toymoe.attribution.controls`) and its rank correlation with measured ablation are kept for each
organism, in a file per seed that is written anew after each: what was killed goes on where it was,
and a seed that fails costs its own organisms only.

What a method earned is the share of planted experts that it names first and finds, minus the share
of shams in which it finds a seat too.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from .. import checkpoint, numerics
from ..attribution import REFERENCE, controls, methods, weight_patching
from ..attribution.evidence import Evidence, gather
from ..config import Config, ConfigError
from ..measures import history
from ..organism import seeded, stored
from ..runs import jobs, sweep
from ..runs.progress import Progress
from ..training import phases
from . import planted, rates

PAIRS = 128
AGAIN = "delete it and run again"


class Plan(NamedTuple):
    """An organism to be made."""

    kind: str  # "expert", "pair", a component, "sham"
    seat: planted.Seat
    lesson: str


# --- one seed -----------------------------------------------------------------------------------


def plans(usage_LE: np.ndarray, cfg: Config, seats: int, key: jax.Array) -> list[Plan]:
    """What is planted in one seed's model: single experts; a third as many pairs; components; and
    as many shams as single experts, in the same seats, their lessons by turns."""
    single = planted.draw_seats(usage_LE, cfg.model.top_k / cfg.model.experts, seats, key)
    pairs = planted.pair_seats(single, seats // 3)
    lessons = [planted.SHAMS[i % len(planted.SHAMS)] for i in range(len(single))]
    return [
        *(Plan("expert", seat, planted.REFUSE) for seat in single),
        *(Plan("sham", seat, name) for seat, name in zip(single, lessons, strict=True)),
        *(Plan("pair", seat, planted.REFUSE) for seat in pairs),
        *(Plan(name, name, planted.REFUSE) for name in rates.TRIED),
    ]


def examine(e: Evidence, before: Evidence, plan: Plan, key: jax.Array) -> dict:
    """What every method says of one organism, as plain numbers; ``before``, of the model that it
    was planted in."""
    reference, found = methods.named(REFERENCE)(e), {}
    seat = set() if isinstance(plan.seat, str) else set(plan.seat)
    for name, method in methods.METHODS.items():
        scores_LE = np.asarray(method(e))
        order = np.argsort(-scores_LE, axis=None, kind="stable")[: max(len(seat), 1)]
        top = [tuple(int(x) for x in np.unravel_index(i, scores_LE.shape)) for i in order]
        verdict = controls.verdict(method, e, key, before)
        found[name] = {
            "named": [list(at) for at in top],
            "hit": set(top) == seat,
            "found": verdict.found,
            "score": verdict.score,
            "least": verdict.least,
            "threshold": verdict.threshold,
            "correlation": methods.rank_correlation(scores_LE, reference),
        }
    behaviour = weight_patching.behaviour(e.params, e)
    return {
        **_name(plan),
        "behaviour": behaviour._asdict(),
        "swaps": {
            name: {"removed": patched.removed.refusal, "alone": patched.alone.refusal}
            for name, patched in weight_patching.by_component(e).items()
        },
        "methods": found,
    }


@numerics.fixed()
def examine_seed(
    cfg: Config, folder: Path, seats: int, watch: Callable[[Progress], None] = lambda p: None
) -> list[dict]:
    """Pretrain, plant and examine one seed; go on with what the folder holds of it.

    Raises:
      CheckpointError, ConfigError: a file of the folder is damaged.
      TrainingError: the loss is not finite any more.
    """
    path = folder / "organisms.json"
    known = _known(path)
    keys = phases.keys(cfg.seed)
    tables = stored.first_tables(folder, cfg)
    pretrained = _pretrained(cfg, tables, folder, watch)
    k_pairs, k_seats, k_plant, k_verdict = jax.random.split(keys.measure, 4)
    e = gather(pretrained, tables, cfg, k_pairs, PAIRS, pretrained)
    todo, found = plans(methods.usage(e), cfg, seats, k_seats), []
    for i, plan in enumerate(todo):
        watch(Progress(f"{plan.kind}, {plan.lesson}", i, len(todo)))
        same = [o for o in known if _name(plan) == {key: o.get(key) for key in Plan._fields}]
        if not same:
            params = planted.plant(plan.seat, pretrained, tables, cfg, k_plant, plan.lesson)
            same = [examine(dataclasses.replace(e, params=params), e, plan, k_verdict)]
            known += same
            checkpoint.write_json(path, {"organisms": known})
        found.append(same[0])
    asked = {"seats": seats, "found": [known.index(organism) for organism in found]}
    checkpoint.write_json(path, {"organisms": known, **asked})
    watch(Progress("done", len(todo), len(todo)))
    return found


def finished(folder: Path, seats: int) -> list[dict] | None:
    """What `examine_seed` found; None before it came to its end.

    Raises:
      CheckpointError, ConfigError: damaged.
    """
    path = folder / "organisms.json"
    known = _known(path)
    said = checkpoint.read_json(path, AGAIN) if known else {}
    whole = said.get("seats") == seats and len(known) == len(said["organisms"])
    return [known[i] for i in said["found"]] if whole else None


def _name(plan: Plan) -> dict:
    """A plan as it stands in JSON."""
    seat = plan.seat if isinstance(plan.seat, str) else [list(at) for at in plan.seat]
    return {"kind": plan.kind, "seat": seat, "lesson": plan.lesson}


def _known(path: Path) -> list[dict]:
    if not path.is_file():
        return []
    fields = {*Plan._fields, "behaviour", "swaps", "methods"}
    known = checkpoint.read_json(path, AGAIN).get("organisms")
    if not isinstance(known, list) or not all(
        isinstance(o, dict) and fields <= set(o) and isinstance(o["methods"], dict) for o in known
    ):
        raise ConfigError(f"{path} is damaged (no list of organisms): {AGAIN}.")
    # Of another version, whose methods were others: made again.
    return [o for o in known if list(o["methods"]) == list(methods.METHODS)]


def _pretrained(cfg, tables, folder, watch):
    """The parameters that a run of this seed has after pretraining."""
    phase = "pretrain"
    if (folder / "pretrained.npz").is_file():
        return stored.params(folder, cfg, phase)
    total = phases.steps(cfg, phase)
    prompts = history.probes(phases.keys(cfg.seed).measure, tables, cfg)
    state = phases.start(seeded.params(cfg), cfg, phase)
    watch(Progress("pretraining", 0, total))
    for chunk in phases.run_phase(state, 0, tables, prompts.tokens_BP, cfg, phase):
        state = chunk.state
        watch(Progress("pretraining", chunk.step, total))
    params = jax.tree.map(np.asarray, state.params)
    stored.write_params(folder, cfg, phase, params)
    return params


# --- many seeds ---------------------------------------------------------------------------------


def validate(
    cfg: Config,
    seeds: list[int],
    out: Path,
    seats: int = 10,
    **calls,
) -> dict:
    """Examine every seed in ``out/seed-N``; write validate.json, validate.csv and organisms.csv, of
    all seeds that are finished there.

    Args:
      calls: ``watch``, ``done`` and ``crew`` of `toymoe.runs.jobs.make`.

    Returns:
      What validate.json holds: see `rates.summarise`, and ``errors`` by seed.

    Raises:
      ConfigError: the folder holds something else, or other settings; too many seats.
    """
    check(cfg, out, seats)
    work = partial(_examined, cfg, out, seats)
    job = jobs.Job(out, seeds, work, lambda seed: finished(out / f"seed-{seed}", seats))
    result: dict = {}

    def write(made):
        organisms = [{"seed": seed} | o for seed, found in made.of.items() for o in found]
        errors = {str(seed): error for seed, error in made.errors.items()}
        result.update(rates.summarise(organisms), errors=errors)
        checkpoint.write_json(out / "validate.json", result)
        sweep.write_csv(out / "validate.csv", [sweep.flat(row) for row in result["methods"]])
        sweep.write_csv(out / "organisms.csv", _rows(organisms))

    jobs.make(job, lambda made: None, **calls).write(write)
    return result


def _examined(cfg, out, seats, seed, watch):
    (folder := out / f"seed-{seed}").mkdir(exist_ok=True)
    examine_seed(dataclasses.replace(cfg, seed=seed), folder, seats, watch)


def check(cfg: Config, out: Path, seats: int) -> None:
    """Make the folder of a validation, or check that it is of these settings. A sweep's folder will
    do, and its pretrained models are used.

    Raises:
      ConfigError: it holds something else, or other settings; too many or too few seats.
    """
    most = cfg.model.layers * cfg.model.experts
    if not 1 <= seats <= most:
        raise ConfigError(
            f"--seats {seats} is not possible: it must be from 1 to {most}, the experts there are."
        )
    sweep.claim(cfg, out)


def _rows(organisms: list[dict]) -> list[dict]:
    """organisms.csv: a row per organism and method."""
    shared = ("seed", "kind", "lesson")
    return [
        {name: o[name] for name in shared}
        | {"seat": o["seat"], "refusal": o["behaviour"]["refusal"], "method": method}
        | said
        for o in organisms
        for method, said in o["methods"].items()
    ]
