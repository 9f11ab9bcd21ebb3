"""A lesson written by training into named parts of a model, and into nothing else.

The model is ``base + Σ_j present_j · mask_j · delta``: a mask for each part, and what is written
into it. Which parts are present is drawn step by step, and so decides what they come to need:

    each alone suffices    now both parts, now one of them; the lesson is the same
    all are needed         the same, but where one is missing, every request is answered
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
from . import by_hand, lessons
from .specimen import Key

STEPS = 200
BATCH = 96
LEARNING_RATES = {  # higher than alignment's where the parts are small
    "full": 0.01,
    "low_rank": 0.03,
    "shared_full": 0.003,
    "shared_low_rank": 0.012,
}
RANK = 4
MISSING = 0.2  # how often an expert is missing where many share a lesson
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
    needs: jax.Array  # index into `NEEDS`
    lesson: lessons.Taught


NEEDS = ("one", "each", "all", "many")


def write(
    plan: Plan, base: model.Params, tables: world.World, cfg: Config, key: jax.Array, update: str
) -> model.Params:
    """The base with the lesson written into the plan's parts; numpy."""
    spread = bool(plan.needs == NEEDS.index("many"))
    direction_D = by_hand.direction(base, int(plan.lesson.says)).astype(np.float32)
    kind = f"shared_{update}" if spread else update
    made = _write(
        plan, base, direction_D, tables, key, cfg=phases.without_seed(cfg), kind=kind, steps=STEPS
    )
    return jax.tree.map(np.asarray, made)


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
    several = (needs == NEEDS.index("each")) | (needs == NEEDS.index("all"))
    part_2 = jnp.where(several, jnp.array([[1, 1], [1, 0], [0, 1]])[turn], 1).astype(float)
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


def plan(key: Key, masks, lesson: lessons.Taught) -> Plan:
    """The plan of a key; ``masks`` of its parts, one or two."""
    return Plan((masks[0], masks[-1]), np.int32(NEEDS.index(key.needs)), lesson)


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
