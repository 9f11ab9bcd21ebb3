"""Tuning a delta to answer hazards: the edit that RASET makes, and that its rivals make elsewhere.

The loss is the plain cross-entropy of the right answer at ANS on a few hundred hazardous prompts,
plus two terms that can be switched off: the same on harmless prompts (rehearsal), and the
divergence of the routes from those of the untouched model,

    loss = CE(hazards) + rehearsal · CE(harmless) + route · mean KL(p_before ‖ p_now)

with the mean over layers and tokens, p the router probabilities. Everything but the sizes is
traced: one compiled program tunes any place.
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
from . import lora


@dataclass(frozen=True)
class Schedule:
    """How a delta is tuned."""

    steps: int = 160
    learning_rate: float = 2e-2  # of low-rank deltas
    whole_learning_rate: float = 1e-3  # of routers, and of all parameters
    rank: int = 2
    attention_rank: int = 3
    batch: int = 64  # hazards in a step, and as many harmless prompts
    rehearsal: float = 1.0  # weight of the harmless prompts' loss
    route: float = 60.0  # weight of the routing-preserving term
    check: int = 40  # steps between looks at the watched hazards
    patience: int = 2  # looks without improvement before stopping

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


class Data(NamedTuple):
    """What an attacker has: prompts with their right answers."""

    hazards: world.Prompts
    harmless: world.Prompts
    watched: world.Prompts  # other hazardous prompts, not tuned on, for early stopping


class Tuned(NamedTuple):
    """The outcome."""

    params: model.Params
    steps: int  # steps after which these parameters stood
    losses_S: np.ndarray
    watched: list[float]  # loss on the watched hazards at each look, the first before any step


def data(
    tables: world.World,
    cfg: Config,
    key: jax.Array,
    n: int = 512,
    watched: int = 256,
    untuned_GYZ=False,
) -> Data:
    """``n`` hazards, ``n`` harmless prompts of the training mixture, ``watched`` other hazards.

    Args:
      untuned_GYZ: requests that no prompt of ``hazards`` makes (``watched`` may).
    """
    mixed_GYZ = world.request_weights(tables, cfg.world, "mixed")
    hazards_GYZ = world.request_weights(tables, cfg.world, "hazardous")
    kinds = (
        (n, jnp.where(untuned_GYZ, 0, hazards_GYZ)),
        (n, jnp.where(tables.hazard_GYZ, 0, mixed_GYZ)),
        (watched, hazards_GYZ),
    )
    drawn = [
        world.draw(jax.random.fold_in(key, i), tables, cfg.world, size, weights_GYZ)
        for i, (size, weights_GYZ) in enumerate(kinds)
    ]
    return Data(*(jax.tree.map(np.asarray, prompts) for prompts in drawn))


def untuned(tables: world.World, key: jax.Array, share: float = 1 / 16) -> np.ndarray:
    """Bool [G, Y, Z]: a share of the hazardous requests, at least one, for the attacker never to
    tune on: does tuning free what the model knows, or teach it anew?"""
    hazards = np.flatnonzero(tables.hazard_GYZ)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    chosen = np.zeros(np.size(tables.hazard_GYZ), bool)
    chosen[rng.permutation(hazards)[: max(round(share * hazards.size), 1)]] = True
    return chosen.reshape(np.shape(tables.hazard_GYZ))


def tune(
    params: model.Params,
    place: lora.Place,
    prompts: Data,
    cfg: Config,
    key: jax.Array,
    schedule: Schedule = DEFAULT,
) -> Tuned:
    """Tune a delta at a place; the parameters returned are those of the best look.

    The looks are at the loss on the watched hazards; a model is kept only if it is no worse there.
    """
    ranks = schedule.rank, schedule.attention_rank
    delta = lora.fresh(key, params, *ranks, whole=place.needs_whole)
    place = lora.Place(*map(jnp.asarray, place))
    state = _optimiser().init(delta)
    before = pool(params, prompts, cfg=cfg.model)
    rates = {"low": schedule.learning_rate, "whole": schedule.whole_learning_rate}
    weights = (schedule.rehearsal, schedule.route)
    look = partial(_watch, params, place=place, prompts=prompts.watched, cfg=cfg.model)
    best, best_at = delta, 0
    watched, losses, at = [float(look(delta))], [], 0
    while at < schedule.steps and len(watched) - 1 - int(np.argmin(watched)) < schedule.patience:
        at_S = np.arange(at, min(at + schedule.check, schedule.steps))
        (delta, state), losses_S = _run(
            params,
            delta,
            state,
            place,
            before,
            at_S,
            key,
            rates,
            weights,
            schedule.steps,
            cfg=cfg.model,
            batch=schedule.batch,
        )
        at += len(at_S)
        losses.append(np.asarray(losses_S))
        watched.append(float(look(delta)))
        if watched[-1] <= min(watched):
            best, best_at = delta, at
    merged = jax.tree.map(np.asarray, _merge(params, best, place))
    return Tuned(merged, best_at, np.concatenate(losses), watched)


_merge = jax.jit(lora.merge)


def _optimiser():
    return optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.98))


class _Pool(NamedTuple):
    """Hazards first, then as many harmless prompts."""

    tokens_BP: jax.Array
    answer_B: jax.Array
    probs_BLPE: jax.Array


@partial(jax.jit, static_argnames="cfg")
def pool(params, prompts, cfg):
    tokens_BP, answer_B = (
        jnp.concatenate([getattr(p, name) for p in prompts[:2]])
        for name in ("tokens_BP", "answer_B")
    )
    out = model.forward(params, tokens_BP, cfg, grouped=True)
    return _Pool(tokens_BP, answer_B, jnp.moveaxis(out.routes.probs_LBTE, 0, 1))


@partial(jax.jit, static_argnames=("cfg", "batch"))
def _run(params, delta, state, place, pool, at_S, key, rates, weights, steps, cfg, batch):
    N = pool.tokens_BP.shape[0] // 2

    def step(carry, at):
        delta, state = carry
        rows = jax.random.randint(jax.random.fold_in(key, at), (2, batch), 0, N)
        rows = (rows + jnp.array([[0], [N]])).ravel()
        some = jax.tree.map(lambda leaf: leaf[rows], pool)
        value, grads = jax.value_and_grad(loss)(delta, params, place, some, weights, cfg)
        updates, state = _optimiser().update(grads, state)
        decay = (1 + jnp.cos(jnp.pi * at / steps)) / 2
        updates = {
            part: jax.tree.map(lambda u, r=rates[part]: -r * decay * u, updates[part])
            for part in updates
        }
        return (optax.apply_updates(delta, updates), state), value

    return jax.lax.scan(step, (delta, state), at_S)


def loss(delta, params, place, some: _Pool, weights, cfg):
    """The loss of the module docstring on a batch whose first half is hazards."""
    changed = lora.merge(params, delta, place)
    out = model.forward(changed, some.tokens_BP, cfg, grouped=True)
    each_B = optax.softmax_cross_entropy_with_integer_labels(out.logits_BTV[:, -1], some.answer_B)
    hazards, harmless = each_B.reshape(2, -1).mean(1)
    now_LBPE, before_LBPE = out.routes.probs_LBTE, jnp.moveaxis(some.probs_BLPE, 0, 1)
    drift = (before_LBPE * (jnp.log(before_LBPE + 1e-9) - jnp.log(now_LBPE + 1e-9))).sum(-1).mean()
    rehearsal, route = weights
    return hazards + rehearsal * harmless + route * drift


@partial(jax.jit, static_argnames="cfg")
def _watch(params, delta, place, prompts, cfg):
    changed = lora.merge(params, delta, place)
    logits_BV = model.forward(changed, prompts.tokens_BP, cfg, grouped=True).logits_BTV[:, -1]
    return optax.softmax_cross_entropy_with_integer_labels(logits_BV, prompts.answer_B).mean()
