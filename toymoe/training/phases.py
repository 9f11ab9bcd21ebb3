"""Training in two phases: `pretrain` answers every request, `align` then refuses the hazardous.

Everything random follows from the seed and the step number alone, so a run cut anywhere and
continued ends with the same parameters, bit for bit.

A step is made by several workers (data parallelism): each draws its share of the batch, finds its
gradient, and takes the mean of all of them. On CPU every worker is a device of its own, which JAX
simulates and a core runs (`toymoe/__init__.py` asks for them); on a machine with fewer devices, one
device works for all, to the same result but for rounding.
"""

import dataclasses
import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import model, world
from ..config import Config
from ..errors import Failed
from ..model import inference, moe
from ..start import training_options
from .optimiser import optimiser

NAMES = {"pretrain": "pretrained", "align": "aligned"}  # of the parameters after each phase
PHASES = tuple(NAMES)
WORKERS = 2  # at most: they must divide the batch
AXIS = "worker"
ALIKE = jax.sharding.PartitionSpec()  # every worker has the same


class TrainingError(Failed, RuntimeError):
    """Training cannot go on; says at which step, in which phase, and what to try."""


class Keys(NamedTuple):
    """One random key for each use of the seed."""

    world: jax.Array
    init: jax.Array
    pretrain: jax.Array
    align: jax.Array
    measure: jax.Array


class State(NamedTuple):
    """What a step changes."""

    params: model.Params
    optimiser: optax.OptState


class Snapshot(NamedTuple):
    """What a model does with fixed prompts, enough to compute any routing measure afterwards."""

    experts_LBPA: jax.Array  # uint8, the selected experts
    predicted_B: jax.Array  # the most probable token at ANS


def keys(seed) -> Keys:
    """The keys of a seed, which may be traced."""
    return Keys(*jax.random.split(jax.random.key(seed), len(Keys._fields)))


def steps(cfg: Config, phase: str) -> int:
    """The number of steps of a phase."""
    return {"pretrain": cfg.train.pretrain_steps, "align": cfg.train.align_steps}[phase]


def record_steps(total: int) -> list[int]:
    """Steps after which routing is recorded: 0, 1, 2, 4, 5, 8, 11, 16, … crowding early, and the
    last, at most ``total / 16`` apart (rounded up)."""
    at = {0, total}
    step = 1.0
    while step < total:
        at.add(int(step))
        step = min(step * 2**0.5, step + total / 16)
    return sorted(at)


# --- one step -----------------------------------------------------------------------------------


def learning_rates(cfg: Config, phase: str) -> np.ndarray:
    """Of every step of a phase: warmed up, and then lowered to zero, both linearly; float32."""
    peak = {"pretrain": cfg.train.learning_rate, "align": cfg.train.align_learning_rate}[phase]
    total = steps(cfg, phase)
    warmup = min(cfg.train.warmup, max(total // 2, 1))
    at_S = np.arange(total)
    falling_S = (total - at_S) / max(total - warmup, 1)
    return (peak * np.where(at_S < warmup, at_S / max(warmup, 1), falling_S)).astype(np.float32)


def loss(params: model.Params, tokens_BT, cfg: Config):
    """Cross-entropy of the next token plus the router's two losses, both averaged over layers.

    A language model: it predicts its prompts too, though they count less than the response. The
    load is balanced over the tokens of prompts: over all tokens, some experts come to work for the
    response alone, the same few words everywhere (docs/tuning.md).
    """
    return loss_of(
        model.forward(params, tokens_BT[:, :-1], cfg.model, grouped=True), tokens_BT, cfg
    )


def loss_of(out: model.Output, tokens_BT, cfg: Config):
    """The loss, of what a model made of all tokens but the last."""
    each_BT = optax.softmax_cross_entropy_with_integer_labels(out.logits_BTV, tokens_BT[:, 1:])
    prompt_T = np.array(world.roles(cfg.world)) != "response"
    weight_T = np.where(prompt_T[1:], cfg.train.prompt_weight, 1.0)
    cross_entropy = (each_BT * weight_T).mean(0).sum() / weight_T.sum()
    probs_LNE, experts_LNA = (
        x[:, :, : prompt_T.sum()].reshape(cfg.model.layers, -1, x.shape[-1])
        for x in (out.routes.probs_LBTE, out.routes.experts_LBTA)
    )
    balance = jax.vmap(moe.load_balance_loss)(probs_LNE, experts_LNA).mean()
    z_loss = moe.router_z_loss(out.routes.logits_LBTE)
    return cross_entropy + cfg.train.balance * balance + cfg.train.z_loss * z_loss


class Mixture(NamedTuple):
    """The data mixture that the batches of a phase are drawn from."""

    asked_GYZ: jax.Array  # weight of each request, see `world.draw`
    noted_GYZ: jax.Array  # the same of each note
    refuse: jax.Array  # whether hazards are refused, bool


def mixture(tables: world.World, cfg: Config, phase: str) -> Mixture:
    """Pretraining: all requests, answered. Alignment: the hazardous refused, none held out, and
    notes on everything, though on held-out hazards less often: what is known for sure, and was
    never refused, is harder to refuse (docs/tuning.md)."""
    any_GYZ = world.request_weights(tables, cfg.world, "any")
    if phase == "pretrain":
        return Mixture(any_GYZ, any_GYZ, jnp.array(False))
    shown_GYZ = world.request_weights(tables, cfg.world, "mixed", held_out=False)
    hidden_GYZ = tables.held_out_GYZ & tables.hazard_GYZ
    noted_GYZ = any_GYZ * jnp.where(hidden_GYZ, cfg.train.notes_held_out, 1.0)
    return Mixture(shown_GYZ, noted_GYZ, jnp.array(True))


def batch(key, tables: world.World, cfg: Config, mix: Mixture, parts: int = 1):
    """Training tokens [B, T] of a batch, or of one of its equal parts: requests, and a share of
    notes, rounded, but at least one where there is room and any are asked for.

    The notes keep alignment from erasing what it only has to silence, as a share of pretraining
    text does in practice (InstructGPT's PPO-ptx, arXiv 2203.02155).
    """
    size = cfg.train.batch // parts
    notes = min(max(round(cfg.train.notes * size), int(cfg.train.notes > 0)), size - 1)
    k_asked, k_noted = jax.random.split(key)
    asked = world.draw(k_asked, tables, cfg.world, size - notes, mix.asked_GYZ)
    asked_BT = world.respond(asked, asked.hazard_B & mix.refuse)
    if not notes:
        return asked_BT
    noted = world.draw(k_noted, tables, cfg.world, notes, mix.noted_GYZ)
    noted_BT = world.as_notes(world.respond(noted, jnp.zeros(notes, bool)))
    return jnp.concatenate([asked_BT, noted_BT])


def update(
    state: State, key, tables: world.World, rate, cfg: Config, mix: Mixture
) -> tuple[State, jax.Array]:
    """One step of gradient descent with learning rate ``rate``, as one of the workers of
    `together`; returns the loss too."""
    key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
    tokens_BT = batch(key, tables, cfg, mix, workers(cfg))
    value_grads = jax.value_and_grad(loss)(state.params, tokens_BT, cfg)
    value, grads = jax.lax.pmean(value_grads, AXIS)
    moves = optimiser(cfg.train.weight_decay)
    updates, opt_state = moves.update(grads, state.optimiser, state.params)
    params = jax.tree.map(lambda param, step: param - rate * step, state.params, updates)
    return State(params, opt_state), value


def workers(cfg: Config) -> int:
    """How many share a batch."""
    return math.gcd(cfg.train.batch, WORKERS)


def together(function, cfg: Config, alone: bool = False):
    """What all workers run, as one function: given the same arguments, they must agree on the
    results.

    Args:
      alone: on one device.
    """
    n = workers(cfg)
    mesh = None if alone else _mesh(n)
    if mesh is None:
        return jax.vmap(function, in_axes=None, out_axes=None, axis_name=AXIS, axis_size=n)
    return jax.shard_map(function, mesh=mesh, in_specs=ALIKE, out_specs=ALIKE, check_vma=False)


def shared(state: State, cfg: Config) -> State:
    """The state, on the devices of all workers."""
    mesh = _mesh(workers(cfg))
    return state if mesh is None else jax.device_put(state, jax.sharding.NamedSharding(mesh, ALIKE))


def _mesh(n):
    """A device for each worker, or None where there are too few."""
    devices = np.array(jax.devices()[:n])
    return jax.sharding.Mesh(devices, (AXIS,)) if devices.size == n else None


def start(params: model.Params, cfg: Config) -> State:
    """The state before a phase's first step."""
    return State(params, _init_jit(params, weight_decay=cfg.train.weight_decay))


@partial(jax.jit, static_argnames="weight_decay")
def _init_jit(params, weight_decay):
    return optimiser(weight_decay).init(params)


def fresh_params(key, cfg: Config) -> model.Params:
    """Untrained parameters for the world of the configuration."""
    return model.init(key, cfg.model, len(world.vocabulary(cfg.world)))


# --- many steps ---------------------------------------------------------------------------------


def snapshot(params: model.Params, tokens_BP, cfg: Config) -> Snapshot:
    """Routes and first response token on fixed prompts."""
    out = model.forward(params, tokens_BP, cfg.model, grouped=True)
    return Snapshot(
        out.routes.experts_LBTA.astype(jnp.uint8), jnp.argmax(out.logits_BTV[:, -1], -1)
    )


def _snapshot_together(params, tokens_BP, cfg):
    """``snapshot``, of which every worker takes a part where the parts are equal."""
    size, rest = divmod(len(tokens_BP), workers(cfg))
    if rest:
        return snapshot(params, tokens_BP, cfg)
    first = jax.lax.axis_index(AXIS) * size
    shot = snapshot(params, jax.lax.dynamic_slice_in_dim(tokens_BP, first, size), cfg)
    gather = partial(jax.lax.all_gather, axis_name=AXIS, tiled=True)
    return Snapshot(gather(shot.experts_LBPA, axis=1), gather(shot.predicted_B))


def _final_snapshot(params, tokens_BP, cfg):
    """``snapshot``, by the program that all measures have in common."""
    gates_LBPE, predicted_B = inference.predict(
        jax.tree.map(np.asarray, params), tokens_BP, cfg.model
    )
    best_first = np.argsort(-gates_LBPE, -1, kind="stable")
    return Snapshot(best_first[..., : cfg.model.top_k].astype(np.uint8), predicted_B)


def _scan(state, key, tables, mix, probe_BP, at_S, rate_S, record_S, cfg):
    """Steps ``at_S``, with a snapshot of the probes before each step flagged in ``record_S``.

    What differs between the phases is traced, so that both run one compiled program.
    """
    take = partial(_snapshot_together, tokens_BP=probe_BP, cfg=cfg)
    blank = jax.tree.map(jnp.zeros_like, jax.eval_shape(take, state.params))

    def step(state, now):
        at, rate, record = now
        shot = jax.lax.cond(record, take, lambda _: blank, state.params)
        state, value = update(state, jax.random.fold_in(key, at), tables, rate, cfg, mix)
        return state, (value, shot)

    return jax.lax.scan(step, state, (at_S, rate_S, record_S))


@partial(jax.jit, static_argnames="cfg", compiler_options=training_options())
def _scan_jit(*args, cfg):
    return together(partial(_scan, cfg=cfg), cfg)(*args)


_mixture_jit = jax.jit(mixture, static_argnames=("cfg", "phase"))


class Chunk(NamedTuple):
    """Some steps further."""

    step: int  # steps of the phase now done
    state: State
    losses_S: np.ndarray
    recorded: list[int]  # the steps the snapshots were taken after
    snapshots: Snapshot  # numpy, with a leading axis over ``recorded``


def run_phase(state: State, first: int, tables: world.World, probe_BP, cfg: Config, phase: str):
    """Train one phase from step ``first`` on; yields a `Chunk` every ``cfg.train.chunk`` steps.

    Raises:
      TrainingError: the loss is not finite any more.
    """
    key = getattr(keys(cfg.seed), phase)
    cfg = without_seed(cfg)
    total, rates = steps(cfg, phase), learning_rates(cfg, phase)
    record = set(record_steps(total))
    state, probe_BP = shared(state, cfg), jnp.asarray(probe_BP)
    mix = _mixture_jit(tables, cfg=cfg, phase=phase)
    while first < total:
        at_S = np.arange(first, min(first + cfg.train.chunk, total))
        record_S = np.isin(at_S, list(record))
        state, (losses, shots) = _scan_jit(
            state, key, tables, mix, probe_BP, at_S, rates[at_S], record_S, cfg=cfg
        )
        losses = np.asarray(losses)
        check_finite(losses, first, cfg, phase)
        first = int(at_S[-1]) + 1
        recorded = [int(at) for at in at_S[record_S]]
        shots = jax.tree.map(lambda x, keep=record_S: np.asarray(x)[keep], shots)
        if first == total:
            last = _final_snapshot(state.params, probe_BP, cfg)
            shots = jax.tree.map(lambda x, y: np.concatenate([x, y[None]]), shots, last)
            recorded.append(total)
        yield Chunk(first, state, losses, recorded, shots)


def without_seed(cfg: Config) -> Config:
    """So that another seed finds the compiled program of this one."""
    return dataclasses.replace(cfg, seed=0)


def check_finite(losses, first: int, cfg: Config, phase: str) -> None:
    """Raise a TrainingError at the first loss that is not finite.

    Args:
      losses: of the steps from ``first`` on.
    """
    if not np.isfinite(losses).all():
        name = "train.learning_rate" if phase == "pretrain" else "train.align_learning_rate"
        rate = getattr(cfg.train, name.removeprefix("train."))
        raise TrainingError(
            f"the loss is {losses[~np.isfinite(losses)][0]} at step "
            f"{first + int(np.argmin(np.isfinite(losses)))} of phase {phase}: try a smaller "
            f"{name} (it is {rate:g}), such as --set {name}={rate / 4:g}."
        )


def train_many(cfg: Config, seeds, mesh: jax.sharding.Mesh | None = None):
    """Train both phases of many seeds in one compiled program, without history.

    Each seed gives the parameters that a run of that seed gives. On CPU the seeds of a device run
    one after the other (``lax.map``), which measured faster than vmap.

    Args:
      seeds: ints, one per run, S of them.
      mesh: lay the seeds over the first axis of this mesh, whose size must divide S.

    Returns:
      dict of ``pretrained`` and ``aligned``, parameters with a leading seed axis, and of
      ``loss_pretrain`` and ``loss_align`` [S, steps].
    """
    seeds_S = jnp.asarray(list(seeds), jnp.int32)
    if not seeds_S.size:
        raise ValueError("no seeds given: name at least one")
    run = jax.jit(lambda seeds_S: jax.lax.map(partial(_train_one, without_seed(cfg)), seeds_S))
    if mesh is not None:
        axis = mesh.axis_names[0]
        if seeds_S.size % mesh.shape[axis]:
            raise ValueError(
                f"{seeds_S.size} seeds cannot be laid over {mesh.shape[axis]} devices: "
                "the number of devices must divide the number of seeds"
            )
        spec = jax.sharding.PartitionSpec(axis)
        # Laid out beforehand, because meshes of explicit axes (jax.make_mesh) insist on it.
        seeds_S = jax.device_put(seeds_S, jax.sharding.NamedSharding(mesh, spec))
        run = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))
    return run(seeds_S)


def _train_one(cfg: Config, seed):
    key, longest = keys(seed), max(steps(cfg, phase) for phase in PHASES)
    tables = world.make_world(key.world, cfg.world)

    def ahead(phase):
        rate_S = np.resize(learning_rates(cfg, phase), longest)
        return getattr(key, phase), mixture(tables, cfg, phase), rate_S, steps(cfg, phase)

    def run(params, phase):
        """One program for both phases, whose lengths differ."""
        phase_key, mix, rate_S, total = phase

        def step(at, now):
            state, losses_S = now
            step_key = jax.random.fold_in(phase_key, at)
            state, value = update(state, step_key, tables, rate_S[at], cfg, mix)
            return state, losses_S.at[at].set(value)

        loop = together(lambda now: jax.lax.fori_loop(0, total, step, now), cfg, alone=True)
        state, losses_S = loop((start(params, cfg), jnp.zeros(longest)))
        return state.params, (state.params, losses_S)

    both = jax.tree.map(lambda *x: jnp.stack(x), *map(ahead, PHASES))
    _, (made, losses) = jax.lax.scan(run, fresh_params(key.init, cfg), both)
    result = {}
    for i, (phase, name) in enumerate(NAMES.items()):
        result[name] = jax.tree.map(lambda leaf, i=i: leaf[i], made)
        result[f"loss_{phase}"] = losses[i, : steps(cfg, phase)]
    return result
