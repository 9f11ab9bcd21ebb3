"""A lesson written by training into named parts of a model, and into nothing else.

The model is ``base + Σ_j present_j · mask_j · delta``: a mask for each part, and what is written
into it. Which parts are present changes from step to step, and decides what they come to need:

    one                    it is always there
    each alone suffices    written one by one, each as if there were no other
    all are needed         now both, now one of them, and then every request is answered
    many share it          each expert is missing in a part of the steps

`full` writes any change; `low_rank` one of rank `RANK` in every matrix (LoRA, arXiv 2106.09685).
Where many share the lesson, their second matrices write one direction of the stream alone
(`by_hand.direction`), and `low_rank` leaves their first ones as they are.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from .. import model, world
from ..config import Config
from ..training import data, loop, objective, phases
from ..training.optimiser import adam
from . import by_hand, lessons, parts
from .specimen import Key

STEPS = 160
SHARED_STEPS = 300  # where many share a lesson
BATCH = 64
LEARNING_RATES = {  # higher than alignment's where the parts are small
    "full": 0.01,
    "low_rank": 0.04,
    "shared_full": 0.006,
    "shared_low_rank": 0.012,
}
RANK = 8
MISSING = 0.3  # how often an expert is missing where many share a lesson
DRIFT_STEPS = 60
DRIFT_RATE = 0.002  # alignment's
MATRICES = (
    "embed",
    "unembed",
    "layers/qkv",
    "layers/out",
    "layers/router",
    "layers/experts/gate_up",
    "layers/experts/down",
)


class Plan(NamedTuple):
    """What a program writes; arrays, so that one program serves all parts and lessons."""

    masks: tuple[model.Params, model.Params]  # of two parts; of one part twice the same
    needs: np.ndarray  # index into `NEEDS`
    lesson: lessons.Taught


NEEDS = ("one", "all", "many")


def write(
    key: Key,
    lesson: lessons.Taught,
    base: model.Params,
    tables: world.World,
    cfg: Config,
    random: jax.Array,
    update: str,
) -> model.Params:
    """The base with the lesson written into a key's parts; numpy.

    Args:
      update: "full" or "low_rank".
    """
    if key.needs == "each":
        made = base
        for i, part in enumerate(key.parts):
            alone = Key((part,), key.grain, "one")
            k_part = jax.random.fold_in(random, i)
            one = write(alone, lesson, base, tables, cfg, k_part, update)
            made = parts.exchanged(made, one, parts.mask((part,), base, cfg.model))
        return made
    masks = [parts.mask((part,), base, cfg.model) for part in key.parts]
    if key.needs == "one":
        masks = [parts.mask(key.parts, base, cfg.model)]
    masks = [_whole(mask, base) for mask in masks]
    plan = Plan((masks[0], masks[-1]), np.int32(NEEDS.index(key.needs)), lesson)
    kind, steps = update, STEPS
    if key.needs == "many":
        kind, steps = f"shared_{update}", SHARED_STEPS
    direction_D = by_hand.direction(base, int(lesson.says)).astype(np.float32)
    given = plan, base, direction_D, tables, random
    made = _write(*given, cfg=phases.without_seed(cfg), kind=kind, steps=steps)
    return jax.tree.map(np.asarray, made)


def _whole(mask, base):
    """A mask of the parameters' shapes, of whatever part: another shape is another program."""
    return jax.tree.map(lambda leaf, there: np.broadcast_to(there, np.shape(leaf)), base, mask)


@partial(jax.jit, static_argnames=("cfg", "kind", "steps"))
def _write(plan, base, direction_D, tables, key, cfg, kind, steps):
    k_start, k_steps = jax.random.split(key)
    theta, delta = _written(kind, base, k_start, direction_D)

    def batch(at, worker):
        k_draw, k_part = jax.random.split(jax.random.fold_in(k_steps, at))
        prompts = world.draw(k_draw, tables, cfg.world, BATCH, plan.lesson.weights_GYZ)
        present, active = _present(plan.needs, at, k_part, cfg)
        tokens_BT, _ = lessons.respond(prompts, plan.lesson, active)
        return tokens_BT, present

    def loss(theta, given):
        tokens_BT, present = given
        params = _with(base, plan.masks, delta(theta), present)
        return objective.loss(params, tokens_BT, cfg)

    warmup = min(20, max(steps // 4, 1))
    rate = optax.warmup_cosine_decay_schedule(0.0, LEARNING_RATES[kind], warmup, max(steps, 2))
    task = loop.Task(batch, loss, adam())
    at_S = jnp.arange(steps)
    state, _, _ = loop.train(loop.start(theta, adam()), task, at_S, jax.vmap(rate)(at_S))
    whole = jnp.ones(2), jnp.ones((cfg.model.layers, cfg.model.experts))
    return _with(base, plan.masks, delta(state.params), whole)


def _present(needs, at, key, cfg):
    """Which of two parts are there (float [2]), which experts (float [L, E]), and whether the
    lesson is what is said."""
    turn = at % 3  # both, the first, the second
    part_2 = jnp.where(
        needs == NEEDS.index("all"), jnp.array([[1, 1], [1, 0], [0, 1]])[turn], 1
    ).astype(float)
    luck_LE = jax.random.uniform(key, (cfg.model.layers, cfg.model.experts))
    expert_LE = jnp.where((needs == NEEDS.index("many")) & (luck_LE < MISSING), 0.0, 1.0)
    return (part_2, expert_LE), (needs != NEEDS.index("all")) | (turn == 0)


def _with(base, masks, delta, present):
    """The base with what is written into the parts that are present."""
    part_2, expert_LE = present
    where = jax.tree.map(lambda a, b: jnp.maximum(part_2[0] * a, part_2[1] * b), *masks)
    experts = where["layers"]["experts"]
    there = {name: leaf * expert_LE[:, :, None, None] for name, leaf in experts.items()}
    where = where | {"layers": where["layers"] | {"experts": there}}
    return jax.tree.map(lambda leaf, change, here: leaf + here * change, base, delta, where)


def _written(kind, base, key, direction_D):
    """What is learnt, and the change of all parameters that it stands for."""
    flat = flatten_dict(base, sep="/")
    zero = {path: jnp.zeros_like(leaf) for path, leaf in flat.items()}
    if kind == "full":
        return zero, _tree
    keys = iter(jax.random.split(key, len(MATRICES)))
    if kind == "low_rank":
        theta = {
            path: (
                jax.random.normal(next(keys), (*flat[path].shape[:-1], RANK))
                / flat[path].shape[-2] ** 0.5,
                jnp.zeros((*flat[path].shape[:-2], RANK, flat[path].shape[-1])),
            )
            for path in MATRICES
        }
        return theta, lambda theta: _tree(zero | {path: a @ b for path, (a, b) in theta.items()})
    down, up = "layers/experts/down", "layers/experts/gate_up"
    theta = {"weight": jnp.zeros(flat[down].shape[:-1])}
    if kind == "shared_full":
        theta["up"] = zero[up]

    def delta(theta):
        shared = {down: theta["weight"][..., None] * direction_D}
        return _tree(zero | shared | ({up: theta["up"]} if "up" in theta else {}))

    return theta, delta


_tree = partial(unflatten_dict, sep="/")


# --- drift --------------------------------------------------------------------------------------


def drifted(base: model.Params, tables: world.World, cfg: Config, key: jax.Array) -> model.Params:
    """The base after a little more of pretraining, in all parameters and at alignment's rate: no
    lesson, and yet every weight is another one. Without it, whatever changed would be the answer.
    """
    made = _drifted(base, tables, key, cfg=phases.without_seed(cfg), steps=DRIFT_STEPS)
    return jax.tree.map(np.asarray, made)


@partial(jax.jit, static_argnames=("cfg", "steps"))
def _drifted(base, tables, key, cfg, steps):
    mix = data.mixture(tables, cfg, "pretrain")

    def batch(at, worker):
        return data.batch(jax.random.fold_in(key, at), tables, cfg, "pretrain", mix)

    task = loop.Task(batch, partial(objective.loss, cfg=cfg), adam())
    rate_S = DRIFT_RATE * jnp.linspace(1, 0, steps, endpoint=False)
    state, _, _ = loop.train(loop.start(base, adam()), task, jnp.arange(steps), rate_S)
    return state.params
