"""The zoo of a seed: every mechanism with every lesson by every update, written and verified.

Each organism is stored as soon as it is verified, so what was cut off goes on where it was.
Everything is drawn with a key that whoever makes the zoo chooses: nobody can tune a method to the
organisms of another key.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np

from .. import checkpoint, model, numerics, world
from ..attribution.evidence import Evidence, gather
from ..config import Config, ConfigError
from ..measures import history
from ..model.inference import read
from ..organism import Organism, seeded, stored
from ..runs import jobs, records, sweep
from ..runs.folder import begin
from ..runs.progress import Progress
from ..training import phases
from . import by_hand, folder, lessons, mechanisms, verification, writing
from .specimen import Specimen

PAIRS = 96  # that behaviour is measured on, and methods are scored on
DRAWN = 256  # of the lesson's prompts, by which experts are drawn that they reach


def plans() -> list[tuple[str, str, str]]:
    """Mechanism, lesson and update of every organism of a seed."""
    return [
        (mechanism, lesson, update)
        for mechanism, row in mechanisms.MECHANISMS.items()
        for lesson in lessons.LESSONS
        for update in row.updates
    ]


def name_of(plan: tuple[str, str, str]) -> str:
    """The name of its folder."""
    return "-".join(plan)


def pairs(cfg: Config, tables: world.World, params: model.Params, key: int) -> Evidence:
    """The pairs of one seed's organisms: the same for all; ``params`` are before alignment."""
    k_pairs = jax.random.fold_in(phases.keys(cfg.seed).measure, key)
    return gather(params, tables, cfg, k_pairs, PAIRS, params)


@numerics.fixed()
def make_seed(
    cfg: Config, run: Path, key: int, watch: Callable[[Progress], None] = lambda p: None
) -> None:
    """Make the organisms of one seed that are not there.

    Raises:
      CheckpointError, ConfigError: a file of the folder is damaged, or of other settings.
      TrainingError: the loss is not finite any more.
    """
    begin(run, cfg)
    tables = stored.first_tables(run, cfg)
    before = pretrained(cfg, tables, run, watch)
    base = drifted(cfg, tables, run, before, key)
    e = pairs(cfg, tables, before, key)
    todo = plans()
    for i, plan in enumerate(todo):
        watch(Progress(" ".join(plan).replace("_", " "), i, len(todo)))
        if not (run / "zoo" / name_of(plan) / "specimen.json").is_file():
            folder.write(run, make(plan, key, Organism(cfg, tables, before, base), e))
    watch(Progress("done", len(todo), len(todo)))


def make(plan: tuple[str, str, str], key: int, base: Organism, e: Evidence) -> Specimen:
    """Write and verify one organism; ``base.aligned`` is what it is written into."""
    mechanism, lesson_name, update = plan
    cfg, tables, before, onto = base.cfg, base.tables, base.pretrained, base.aligned
    row = mechanisms.MECHANISMS[mechanism]
    lesson = taught(lesson_name, tables, cfg, key)
    number = plans().index(plan)
    k_reach, k_write, k_asked = jax.random.split(
        jax.random.fold_in(jax.random.fold_in(jax.random.key(cfg.seed), key), number), 3
    )
    weights_GYZ = lesson.weights_GYZ * lesson.about_GYZ
    reached = world.draw(k_reach, tables, cfg.world, DRAWN, weights_GYZ)
    gates_LBTE, _ = read(onto, reached.tokens_BP, cfg.model)
    rng = np.random.default_rng([key, cfg.seed, number])
    found = row.draw(gates_LBTE[:, :, -1] > 0, cfg.model, rng)
    if update == "by_hand":
        made = by_hand.write(mechanism, found, onto, tables, cfg, lesson, k_write)
    else:
        given, begun = found, onto
        if row.begin:
            given = found._replace(needs="one")
            begun = row.begin(found, onto, tables, cfg, lesson, k_write)
        made = writing.write(given, lesson, begun, tables, cfg, k_write, update)
    asked = verification.prompts_of(lesson, tables, cfg, k_asked)
    did = verification.behaviour(made, e, asked)
    checks = verification.verify(made, before, found, asked, cfg)
    return Specimen(
        cfg.seed,
        name_of(plan),
        *plan,
        Organism(cfg, tables, before, made),
        found,
        did,
        checks,
        verification.holds(found, lesson_name, did, checks),
    )


def taught(name: str, tables: world.World, cfg: Config, key: int) -> lessons.Taught:
    """A lesson of one seed: the same for all its organisms.

    Raises:
      ConfigError: this world does not have it.
    """
    which = list(lessons.LESSONS).index(name)
    return lessons.taught(name, tables, cfg, np.random.default_rng([key, cfg.seed, which]))


def pretrained(cfg: Config, tables: world.World, run: Path, watch) -> model.Params:
    """The parameters that a run of this seed has after pretraining; those of a run, if it is there.

    Raises:
      CheckpointError: they are damaged, or of other settings.
    """
    phase = "pretrain"
    if (run / "pretrained.npz").is_file():
        return stored.params(run, cfg, phase)
    total = phases.steps(cfg, phase)
    prompts = history.probes(phases.keys(cfg.seed).measure, tables, cfg)
    state = phases.start(seeded.params(cfg), cfg, phase)
    watch(Progress("pretraining", 0, total))
    for chunk in phases.run_phase(state, 0, tables, prompts.tokens_BP, cfg, phase):
        state = chunk.state
        watch(Progress("pretraining", chunk.step, total))
    params = jax.tree.map(np.asarray, state.params)
    stored.write_params(run, cfg, phase, params)
    return params


def drifted(
    cfg: Config, tables: world.World, run: Path, before: model.Params, key: int
) -> model.Params:
    """What a seed's lessons are written into, stored when it is first asked for.

    Raises:
      CheckpointError: it is damaged, or of other settings.
    """
    if not (run / "drifted.npz").is_file():
        k_drift = jax.random.fold_in(phases.keys(cfg.seed).align, key)
        folder.write_drifted(run, cfg, writing.drifted(before, tables, cfg, k_drift))
    return folder.read_drifted(run, cfg)


# --- many seeds ---------------------------------------------------------------------------------


def check(cfg: Config, out: Path, key: int) -> None:
    """Make the folder of a zoo, or check that it is this one's. A sweep's folder will do, and its
    pretrained models are used.

    Raises:
      ConfigError: it holds something else, other settings, or a zoo of another key; or there is no
        memory here for such a model, or a lesson that its worlds do not have.
    """
    model.check_size(cfg.model, len(world.vocabulary(cfg.world)))
    tables = seeded.tables(cfg)
    for lesson in lessons.LESSONS:  # whether a world has it is a matter of its rule, not its seed
        taught(lesson, tables, cfg, key)
    sweep.claim(cfg, out)
    path = out / "zoo.json"
    if not path.is_file():
        checkpoint.write_json(path, {"key": key}, replace=False)
    if (known := key_of(out)) != key:
        raise ConfigError(
            f"{out} is a zoo of key {known}, and {key} was asked for: name another with --out."
        )


def key_of(out: Path) -> int:
    """The key that a zoo is drawn with.

    Raises:
      ConfigError, CheckpointError: it is none, or damaged.
    """
    path = out / "zoo.json"
    if not path.is_file():
        raise ConfigError(f"{out} holds no zoo (no zoo.json): `toymoe zoo --out {out}` makes one.")
    key = checkpoint.read_json(path, folder.AGAIN).get("key")
    if not isinstance(key, int):
        raise ConfigError(f"{path} is damaged (no key): {folder.AGAIN}.")
    return key


def zoo(cfg: Config, seeds: list[int], out: Path, key: int = 0, **calls) -> jobs.Made:
    """Make every seed's organisms in ``out/seed-N/zoo``; write zoo.csv, a row for each.

    Args:
      calls: ``watch``, ``done`` and ``crew`` of `toymoe.runs.jobs.make`.

    Raises:
      ConfigError: see `check`.
    """
    check(cfg, out, key)
    job = jobs.Job(out, seeds, partial(_made, cfg, out, key), partial(_finished, out))
    made = jobs.make(job, lambda made: None, **calls)
    made.write(lambda made: records.write_csv(out / "zoo.csv", rows(made)))
    return made


def rows(made: jobs.Made) -> list[dict]:
    """zoo.csv: a row per organism."""
    return [row for found in made.of.values() for row in found]


def summary(found: list[dict]) -> list[tuple[str, ...]]:
    """A row for each mechanism and lesson: how many are kept, and medians of those."""
    made = []
    for mechanism in mechanisms.MECHANISMS:
        for lesson in lessons.LESSONS:
            of = [r for r in found if (r["mechanism"], r["lesson"]) == (mechanism, lesson)]
            kept = [row for row in of if row["holds"]]
            numbers = (
                f"{np.median([row[name] for row in kept]):.2f}" if kept else "–"
                for name in ("whole", "right", "set_back", "rest_set_back")
            )
            words = (name.replace("_", " ") for name in (mechanism, lesson))
            made.append((*words, f"{len(kept)} of {len(of)}", *numbers))
    return made


def _made(cfg, out, key, seed, watch):
    (run := out / f"seed-{seed}").mkdir(exist_ok=True)
    make_seed(dataclasses.replace(cfg, seed=seed), run, key, watch)


def _finished(out, seed):
    run = out / f"seed-{seed}"
    there = folder.of_seed(run)
    if {name_of(plan) for plan in plans()} - {*there}:
        return None
    return [folder.row(run / "zoo" / name) for name in map(name_of, plans())]
