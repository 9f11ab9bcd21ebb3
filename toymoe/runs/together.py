"""The training of many seeds in one program, up to where `toymoe.runs.runner` goes on with each.

What is written are the files of a run that was cut off after its training, under the claims of a
sweep. Whatever a seed cannot do here, as one that another process has or whose loss is not finite,
is left to the sweep that comes after.
"""

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.experimental import multihost_utils

from .. import model, numerics, world
from ..config import Config
from ..errors import ToymoeError
from ..measures import history
from ..organism import seeded, stored
from ..training import phases, together
from . import claims, folder, jobs, state
from .clock import STAGES, Clock
from .progress import Progress

DONE = len(phases.PHASES)  # in the place of a phase: there is nothing to train


class _Seed(NamedTuple):
    """One that this process trains."""

    cfg: Config
    out: Path
    tables: world.World
    prompts: world.Prompts
    now: state.Standing
    claim: claims.Claim | None  # None: it is trained along, and not written


@numerics.fixed()
def train(
    cfg: Config,
    seeds: list[int],
    out: Path,
    watch: Callable[[int, Progress], None] = lambda seed, progress: None,
) -> None:
    """Train every seed of the sweep in ``out`` that has not been trained yet.

    All processes of one program call it with the same arguments; each writes its own seeds.

    Raises:
      ConfigError: there is no memory here for such a model.
    """
    model.check_size(cfg.model, len(world.vocabulary(cfg.world)))
    tried: set[tuple[int, int]] = set()
    while True:
        stand_S2 = _standings(cfg, seeds, out)
        left: dict[tuple[int, int], list[int]] = {}
        for seed, (phase, step) in zip(seeds, stand_S2.tolist(), strict=True):
            if phase != DONE and (seed, phase) not in tried:
                left.setdefault((phase, step), []).append(seed)
        if not left:
            return
        phase, step = min(left)  # those that are farthest behind
        tried |= {(seed, phase) for seed in left[phase, step]}
        _train_phase(cfg, left[phase, step], out, phases.PHASES[phase], step, watch)


def _standings(cfg, seeds, out):
    """Phase and step of each seed that nobody has, as the first process sees them, for all."""
    multihost_utils.sync_global_devices("toymoe: all is written")
    found_S2 = np.full((len(seeds), 2), DONE)
    for i, seed in enumerate(seeds):
        free, *_ = claims.Judge().look(jobs.claim_of(out, seed))
        with suppress(ToymoeError, OSError):  # which the sweep will say
            if free:
                found_S2[i] = _stands(dataclasses.replace(cfg, seed=seed), out / f"seed-{seed}")
    return np.asarray(multihost_utils.broadcast_one_to_all(found_S2))


def _stands(cfg, out):
    if stored.is_complete(out):
        return DONE, 0
    if not (out / "state.npz").is_file():
        return 0, 0
    now = state.read(out, cfg, history.empty(cfg, _prompts(cfg, stored.tables(out, cfg))))
    over = now.phase == phases.PHASES[-1] and now.step == phases.steps(cfg, now.phase)
    return DONE if over else phases.PHASES.index(now.phase), now.step


def _train_phase(cfg, seeds, out, phase, step, watch):
    """To the end of a phase, kept after every chunk."""
    mine, total = together.share(seeds), phases.steps(cfg, phase)
    with ExitStack() as held, closing(Clock()) as clock:
        of = {seed: _begin(cfg, seed, out, phase, step, held) for seed in dict.fromkeys(mine)}
        before = {seed: one.now.seconds for seed, one in of.items()}
        every = [of[seed] for seed in mine]
        chunks = together.run_phase(
            [one.now.state for one in every],
            step,
            [one.tables for one in every],
            [one.prompts.tokens_BP for one in every],
            [one.cfg for one in every],
            phase,
        )
        for seed, one in of.items():
            if one.claim:
                watch(seed, Progress(phase, step, total))
        while True:
            with clock(f"{phase}_s"):
                made = next(chunks, None)
            if made is None:
                break
            for seed, chunk in dict(zip(mine, made, strict=True)).items():
                seconds = {k: s + clock.seconds[k] / len(of) for k, s in before[seed].items()}
                of[seed] = _further(of[seed], chunk, seconds, partial(watch, seed))
        for one in of.values():
            if one.claim:
                state.ended(one.out, one.cfg, one.now)


def _begin(cfg, seed, out, phase, step, held) -> _Seed:
    """A seed where it stands; under its claim, or as one that is trained along."""
    cfg, run = dataclasses.replace(cfg, seed=seed), out / f"seed-{seed}"
    claim = held.enter_context(claims.held(jobs.claim_of(out, seed)))
    if claim:
        with suppress(ToymoeError, OSError):
            run.mkdir(exist_ok=True)
            folder.begin(run, cfg)
            tables = stored.first_tables(run, cfg)
            prompts = _prompts(cfg, tables)
            now = state.begun(run, cfg, history.empty(cfg, prompts), dict.fromkeys(STAGES, 0.0))
            if (now.phase, now.step) == (phase, step):
                return _Seed(cfg, run, tables, prompts, now, claim)
    tables = seeded.tables(cfg)
    prompts, fresh = _prompts(cfg, tables), phases.start(seeded.params(cfg), cfg, phase)
    now = state.Standing(phase, step, fresh, history.empty(cfg, prompts), {})
    return _Seed(cfg, run, tables, prompts, now, None)


def _further(one: _Seed, chunk: phases.Chunk | None, seconds, watch) -> _Seed:
    """A chunk on, written; a seed without a chunk or without its claim is not written any more."""
    if not one.claim or not chunk:
        return one._replace(claim=None)
    now = state.further(one.out, one.cfg, one.now, chunk, seconds)
    shown = history.latest(now.raw, one.prompts, one.cfg)
    told = Progress(
        now.phase, now.step, phases.steps(one.cfg, now.phase), float(chunk.losses_S.mean()), **shown
    )
    try:
        one.claim.say(told)
    except claims.Lost:
        return one._replace(claim=None)
    watch(told)
    return one._replace(now=now)


def _prompts(cfg, tables):
    return history.probes(phases.keys(cfg.seed).measure, tables, cfg)
