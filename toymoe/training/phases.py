"""Training in two phases: `pretrain` answers every request, `align` then refuses the hazardous.

Everything random follows from the seed and the step number alone, so a run cut anywhere and
continued ends with the same parameters, bit for bit (on one machine, with one version of JAX).
"""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import checkpoint, model, world
from ..config import Config
from ..errors import Failed
from ..start import training_options
from . import data, loop, objective, optimiser, snapshots
from .trainable import Trainable

NAMES = {"pretrain": "pretrained", "align": "aligned"}  # of the parameters after each phase
PHASES = tuple(NAMES)


class TrainingError(Failed, RuntimeError):
    """Training cannot go on; says at which step, in which phase, and what to try."""


class Keys(NamedTuple):
    """One random key for each use of the seed."""

    world: jax.Array
    init: jax.Array
    pretrain: jax.Array
    align: jax.Array
    measure: jax.Array


def keys(seed) -> Keys:
    """The keys of a seed, which may be traced."""
    return Keys(*jax.random.split(jax.random.key(seed), len(Keys._fields)))


def steps(cfg: Config, phase: str) -> int:
    """The number of steps of a phase."""
    return getattr(cfg, phase).steps


def learning_rates(cfg: Config, phase: str) -> np.ndarray:
    """Of every step of a phase: warmed up, and then lowered to zero, both linearly; float32."""
    peak, total = getattr(cfg, phase).learning_rate, steps(cfg, phase)
    warmup = min(cfg.train.warmup, max(total // 2, 1))
    at_S = np.arange(total)
    falling_S = (total - at_S) / max(total - warmup, 1)
    return (peak * np.where(at_S < warmup, at_S / max(warmup, 1), falling_S)).astype(np.float32)


def fresh_params(key, cfg: Config) -> model.Params:
    """Untrained parameters for the world of the configuration."""
    return model.init(key, cfg.model, len(world.vocabulary(cfg.world)))


def start(params: model.Params, cfg: Config, phase: str) -> loop.State:
    """The state before a phase's first step."""
    return _start_jit(params, cfg=without_seed(cfg), phase=phase)


@partial(jax.jit, static_argnames=("cfg", "phase"))
def _start_jit(params, cfg, phase):
    return loop.start(params, optimiser.of(cfg, phase))


def task(
    key, tables: world.World, mix: data.Mixture, factors, cfg: Config, phase: str
) -> loop.Task:
    """What a phase learns.

    Args:
      key: of the phase, see `keys`.
      factors: `Trainable.factors`; None trains everything.
    """
    n = loop.workers(cfg.train.batch)

    def batch(at, worker):
        k_worker = jax.random.fold_in(jax.random.fold_in(key, at), worker)
        return data.batch(k_worker, tables, cfg, phase, mix, n)

    loss = partial(objective.loss, cfg=cfg)
    return loop.Task(batch, loss, optimiser.of(cfg, phase), factors, n)


@partial(jax.jit, static_argnames=("cfg", "phase"), compiler_options=training_options())
def _train_jit(state, given, at_S, rate_S, record_S, probe_BP, cfg, phase):
    learnt = task(*given, cfg, phase)
    take = partial(snapshots.shared_snapshot, tokens_BP=probe_BP, cfg=cfg, workers=learnt.workers)
    return loop.train(state, learnt, at_S, rate_S, record_S, take)


mixture_jit = jax.jit(data.mixture, static_argnames=("cfg", "phase"))


class Chunk(NamedTuple):
    """Some steps further."""

    step: int  # steps of the phase now done
    state: loop.State
    losses_S: np.ndarray
    recorded: list[int]  # the steps the snapshots were taken after
    snapshots: snapshots.Snapshot  # numpy, with a leading axis over ``recorded``


def run_phase(
    state: loop.State,
    first: int,
    tables: world.World,
    probe_BP,
    cfg: Config,
    phase: str,
    trainable: Trainable | None = None,
):
    """Train one phase from step ``first`` on; yields a `Chunk` every ``cfg.train.chunk`` steps.

    Args:
      trainable: where the model learns: by default everywhere in pretraining, and where the
        settings say in alignment.

    Raises:
      TrainingError: the parameters are not finite before, or the loss is not finite any more.
    """
    require_finite(state.params, first, phase)
    key = getattr(keys(cfg.seed), phase)
    cfg = without_seed(cfg)
    total, rates = steps(cfg, phase), learning_rates(cfg, phase)
    record = snapshots.record_steps(total)
    mix = mixture_jit(tables, cfg=cfg, phase=phase)
    if trainable is None and phase == "align":
        trainable = Trainable.of(cfg.align)
    given = key, tables, mix, trainable and trainable.factors(state.params)
    state, probe_BP = loop.shared(state, loop.workers(cfg.train.batch)), jnp.asarray(probe_BP)
    while first < total:
        at_S = np.arange(first, min(first + cfg.train.chunk, total))
        record_S = np.isin(at_S, record)
        state, *seen = _train_jit(
            state, given, at_S, rates[at_S], record_S, probe_BP, cfg=cfg, phase=phase
        )
        yield chunk(state, *seen, at_S, record_S, probe_BP, cfg, phase)
        first = int(at_S[-1]) + 1


def chunk(state, losses, shots, at_S, record_S, probe_BP, cfg: Config, phase: str) -> Chunk:
    """What the steps ``at_S`` came to, of which those in ``record_S`` were recorded.

    Raises:
      TrainingError: the loss is not finite any more.
    """
    losses = np.asarray(losses)
    check_finite(losses, int(at_S[0]), cfg, phase)
    done, recorded = int(at_S[-1]) + 1, [int(at) for at in at_S[record_S]]
    shots = jax.tree.map(lambda x: np.asarray(x)[record_S], shots)
    if done == steps(cfg, phase):
        last = snapshots.final_snapshot(state.params, probe_BP, cfg)
        shots = jax.tree.map(lambda x, y: np.concatenate([x, y[None]]), shots, last)
        recorded.append(done)
    return Chunk(done, state, losses, recorded, shots)


def without_seed(cfg: Config) -> Config:
    """So that another seed finds the compiled program of this one."""
    return dataclasses.replace(cfg, seed=0)


def require_finite(params: model.Params, first: int, phase: str) -> None:
    """Raise a TrainingError if any parameter is not finite before step ``first``."""
    for name, array in checkpoint.flatten(params).items():
        bad = array[~np.isfinite(array)]
        if bad.size:
            raise TrainingError(
                f"{bad.size} of the parameters {name} are not finite (such as {bad[0]}) before "
                f"step {first} of phase {phase}, so no learning rate can help: start from others."
            )


def check_finite(losses, first: int, cfg: Config, phase: str) -> None:
    """Raise a TrainingError at the first loss that is not finite.

    Args:
      losses: of the steps from ``first`` on.
    """
    if not np.isfinite(losses).all():
        name, rate = f"{phase}.learning_rate", getattr(cfg, phase).learning_rate
        raise TrainingError(
            f"the loss is {losses[~np.isfinite(losses)][0]} at step "
            f"{first + int(np.argmin(np.isfinite(losses)))} of phase {phase}: try a smaller "
            f"{name} (it is {rate:g}), such as --set {name}={rate / 4:g}."
        )
