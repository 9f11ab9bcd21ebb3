"""Several seeds trained by one compiled program, laid over the devices of one process or of many.

Every device has as many seeds, and nothing passes between them: a seed's two workers are one
device's, which takes their mean itself. So a seed comes to the same bits whatever processes the
devices are of; beside `phases.run_phase` it is rounded otherwise (docs/many.md).
"""

from collections.abc import Iterator
from functools import cache, partial

import jax
import numpy as np

from .. import world
from ..config import Config
from ..start import training_options
from . import loop, phases, snapshots
from .trainable import Trainable

AXIS = "seed"
APART = jax.sharding.PartitionSpec(AXIS)  # every device has its own


def share(seeds: list[int]) -> list[int]:
    """What this process trains of all seeds: as many as any other, so perhaps the last one too."""
    n = -(-len(seeds) // jax.device_count()) * jax.local_device_count()
    begin = jax.process_index() * n
    return (seeds + seeds[-1:] * n * jax.process_count())[begin : begin + n]


def run_phase(
    states: list[loop.State],
    first: int,
    tables: list[world.World],
    probes_BP: list[np.ndarray],
    cfgs: list[Config],
    phase: str,
) -> Iterator[list[phases.Chunk | None]]:
    """`phases.run_phase` of this process's `share` of the seeds, which differ in nothing else.

    A chunk is None where the loss is not finite any more.
    """
    cfg, seeds = phases.without_seed(cfgs[0]), [np.uint32(cfg.seed) for cfg in cfgs]
    total, rates = phases.steps(cfg, phase), phases.learning_rates(cfg, phase)
    record = snapshots.record_steps(total)
    factors = Trainable.of(cfg.align).factors(states[0].params) if phase == "align" else None
    mixes = [phases.mixture_jit(each, cfg=cfg, phase=phase) for each in tables]
    state, *given = map(_spread, (states, seeds, tables, mixes, probes_BP))
    while first < total:
        at_S = np.arange(first, min(first + cfg.train.chunk, total))
        record_S = np.isin(at_S, record)
        state, *seen = _train_jit(
            state, given, factors, at_S, rates[at_S], record_S, cfg=cfg, phase=phase, mesh=_mesh()
        )
        yield [
            _chunk(*each, at_S, record_S, probe_BP, cfg, phase)
            for each, probe_BP in zip(_here((state, *seen)), probes_BP, strict=True)
        ]
        first = int(at_S[-1]) + 1


def _chunk(*made) -> phases.Chunk | None:
    try:
        return phases.chunk(*made)
    except phases.TrainingError:
        return None


@partial(jax.jit, static_argnames=("cfg", "phase", "mesh"), compiler_options=training_options())
def _train_jit(state, given, factors, at_S, rate_S, record_S, cfg, phase, mesh):
    def one(state, seed, tables, mix, probe_BP):
        key = getattr(phases.keys(seed), phase)
        learnt = phases.task(key, tables, mix, factors, cfg, phase)
        take = partial(
            snapshots.shared_snapshot, tokens_BP=probe_BP, cfg=cfg, workers=learnt.workers
        )
        return loop.train(state, learnt, at_S, rate_S, record_S, take)

    many = jax.shard_map(jax.vmap(one), mesh=mesh, in_specs=APART, out_specs=APART, check_vma=False)
    return many(state, *given)


# --- devices ------------------------------------------------------------------------------------


@cache
def _mesh() -> jax.sharding.Mesh:
    """All devices of all processes, those of a process side by side."""
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return jax.sharding.Mesh(np.array(devices), (AXIS,))


def _spread(trees: list):
    """A tree of each seed, as one with an axis of seeds that the devices of all processes share."""
    place = jax.sharding.NamedSharding(_mesh(), APART)
    return jax.tree.map(
        lambda *x: jax.make_array_from_process_local_data(place, np.stack(x)), *trees
    )


def _here(tree) -> list:
    """The inverse: those of this process."""
    leaves, form = jax.tree.flatten(tree)
    return [form.unflatten(seed) for seed in zip(*map(_parts, leaves), strict=True)]


def _parts(x: jax.Array) -> np.ndarray:
    shards = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([shard.data for shard in shards])
