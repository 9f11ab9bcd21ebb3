"""Tuning a delta to answer hazards: the edit that RASET makes, and that its rivals make elsewhere.

The loss is the plain cross-entropy of the right answer at ANS on a few hundred hazardous prompts,
plus two terms that can be switched off: the same on harmless prompts (rehearsal), and the
divergence of the routes from those of the untouched model,

    loss = CE(hazards) + rehearsal · CE(harmless) + route · mean KL(p_before ‖ p_now)

with the mean over layers and tokens, p the router probabilities. Everything but the sizes is
traced: one compiled program tunes any experts and attention, a second one whatever is tuned whole.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import model, world
from ..config import Config, require_share, require_that, require_whole
from ..model import moe
from ..training import loop
from ..training.optimiser import adam
from ..training.trainable import Trainable
from . import lora


@dataclass(frozen=True)
class Schedule:
    """How a delta is tuned."""

    steps: int = 160
    learning_rate: float = 2e-2  # of low-rank deltas
    whole_learning_rate: float = 1e-3  # of whole ones: of routers, and of all parameters
    rank: int = lora.RANK
    attention_rank: int = lora.ATTENTION_RANK
    batch: int = 64  # hazards in a step, and as many harmless prompts
    rehearsal: float = 1.0  # weight of the harmless prompts' loss
    route: float = 60.0  # weight of the routing-preserving term
    check: int = 40  # steps between validations
    patience: int = 2  # validations without improvement before stopping

    def __post_init__(self):
        for name in ("steps", "batch", "check", "patience"):
            require_whole(f"schedule.{name}", getattr(self, name), 1, 1_000_000)
        for name in ("rank", "attention_rank"):
            require_whole(f"schedule.{name}", getattr(self, name), 1, 1_000)
        for name in ("learning_rate", "whole_learning_rate"):
            value = getattr(self, name)
            require_that(value > 0, f"schedule.{name}", value, "it must be a positive number")
        for name in ("rehearsal", "route"):
            require_share(f"schedule.{name}", getattr(self, name), 0.0, 1000.0)


DEFAULT = Schedule()
UNTUNED = 1 / 16  # of the hazardous requests


class Data(NamedTuple):
    """What an attacker has: prompts with their right answers."""

    hazards: world.Prompts
    harmless: world.Prompts
    validation: world.Prompts  # other hazardous prompts, not tuned on, for early stopping


def data(
    tables: world.World,
    cfg: Config,
    key: jax.Array,
    n: int = 512,
    validation: int = 256,
    untuned_GYZ=False,
) -> Data:
    """``n`` hazards, ``n`` harmless prompts of the training mixture, ``validation`` other hazards.

    Args:
      untuned_GYZ: requests that no prompt of ``hazards`` makes (``validation`` may).
    """
    mixed_GYZ = world.request_weights(tables, cfg.world, "mixed")
    hazards_GYZ = world.request_weights(tables, cfg.world, "hazardous")
    kinds = (
        (n, jnp.where(untuned_GYZ, 0, hazards_GYZ)),
        (n, jnp.where(tables.hazard_GYZ, 0, mixed_GYZ)),
        (validation, hazards_GYZ),
    )
    drawn = [
        world.draw(jax.random.fold_in(key, i), tables, cfg.world, size, weights_GYZ)
        for i, (size, weights_GYZ) in enumerate(kinds)
    ]
    return Data(*(jax.tree.map(np.asarray, prompts) for prompts in drawn))


def untuned(tables: world.World, key: jax.Array) -> np.ndarray:
    """Bool [G, Y, Z]: a share `UNTUNED` of the hazardous requests, at least one, for the attacker
    never to tune on: does tuning free what the model knows, or teach it anew?"""
    hazards = np.flatnonzero(tables.hazard_GYZ)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    chosen = np.zeros(np.size(tables.hazard_GYZ), bool)
    chosen[rng.permutation(hazards)[: max(round(UNTUNED * hazards.size), 1)]] = True
    return chosen.reshape(np.shape(tables.hazard_GYZ))


def tune(
    params: model.Params,
    trainable: Trainable,
    prompts: Data,
    cfg: Config,
    key: jax.Array,
    schedule: Schedule = DEFAULT,
) -> model.Params:
    """The parameters with a delta tuned: those that did best in validation, every few steps, and
    never worse there than the untouched ones."""
    delta = lora.fresh(key, params, trainable, schedule.rank, schedule.attention_rank)
    low, factors = lora.is_low_rank(trainable), trainable.factors(params)
    rates = _rates(schedule.learning_rate if low else schedule.whole_learning_rate, schedule.steps)
    given = params, factors, pool(params, prompts, cfg=cfg.model), key
    weights = schedule.rehearsal, schedule.route
    validate = partial(_validate, params, factors=factors, prompts=prompts.validation)
    state, best = loop.start(delta, adam()), delta
    validations, at = [float(validate(delta, cfg=cfg.model))], 0
    while at < schedule.steps and _is_patient(validations, schedule.patience):
        at_S = np.arange(at, min(at + schedule.check, schedule.steps))
        state = _train(
            state, given, weights, at_S, rates[at_S], cfg=cfg.model, batch=schedule.batch
        )
        at += len(at_S)
        validations.append(float(validate(state.params, cfg=cfg.model)))
        if validations[-1] <= min(validations):
            best = state.params
    return jax.tree.map(np.asarray, _merge(params, best, factors))


_merge = jax.jit(lora.merge)


def _is_patient(validations, patience):
    return len(validations) - 1 - int(np.argmin(validations)) < patience


def _rates(peak, steps):
    """Falling to zero as a cosine does."""
    falling_S = (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2
    return (peak * falling_S).astype(np.float32)


class _Pool(NamedTuple):
    """Hazards first, then as many harmless prompts."""

    tokens_BP: jax.Array
    answer_B: jax.Array
    probs_BLPE: jax.Array


@partial(jax.jit, static_argnames="cfg")
def pool(params, prompts, cfg):
    """What steps draw from: an attacker's `Data`, with the router probabilities [B, L, P, E] of the
    untouched model."""
    tokens_BP, answer_B = (
        jnp.concatenate([getattr(p, name) for p in prompts[:2]])
        for name in ("tokens_BP", "answer_B")
    )
    out = model.forward(params, tokens_BP, cfg, grouped=True)
    return _Pool(tokens_BP, answer_B, jnp.moveaxis(out.routes.probs_LBTE, 0, 1))


@partial(jax.jit, static_argnames=("cfg", "batch"))
def _train(state, given, weights, at_S, rate_S, cfg, batch):
    params, factors, pool, key = given
    hazards = pool.tokens_BP.shape[0] // 2  # and as many harmless prompts

    def some(at, worker):
        rows = jax.random.randint(jax.random.fold_in(key, at), (2, batch), 0, hazards)
        rows = (rows + jnp.array([[0], [hazards]])).ravel()
        return jax.tree.map(lambda leaf: leaf[rows], pool)

    def of(delta, some):
        return loss(delta, params, factors, some, weights, cfg)

    return loop.train(state, loop.Task(some, of, adam(), factors), at_S, rate_S)[0]


def loss(delta, params, factors, some: _Pool, weights, cfg):
    """The loss of the module docstring on a batch whose first half is hazards."""
    changed = lora.merge(params, delta, factors)
    out = model.forward(changed, some.tokens_BP, cfg, grouped=True)
    each_B = optax.softmax_cross_entropy_with_integer_labels(out.logits_BTV[:, -1], some.answer_B)
    hazards, harmless = each_B.reshape(2, -1).mean(1)
    before_LBPE = jnp.moveaxis(some.probs_BLPE, 0, 1)
    drift = moe.route_divergence(before_LBPE, out.routes.probs_LBTE)
    rehearsal, route = weights
    return hazards + rehearsal * harmless + route * drift


@partial(jax.jit, static_argnames="cfg")
def _validate(params, delta, factors, prompts, cfg):
    changed = lora.merge(params, delta, factors)
    logits_BV = model.forward(changed, prompts.tokens_BP, cfg, grouped=True).logits_BTV[:, -1]
    return optax.softmax_cross_entropy_with_integer_labels(logits_BV, prompts.answer_B).mean()
