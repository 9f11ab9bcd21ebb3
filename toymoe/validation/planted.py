"""Planted organisms: models whose refusal can only sit where it was put, and shams without any.

A method that claims to find the seat of refusal must be tried where the seat is known. `plant`
aligns a pretrained model with everything frozen but the seat: one expert's two matrices, several
experts', or one component. Whatever it then refuses, it refuses because of the seat. A *sham* is
made in the same way, with as many steps and the same seat free, but its lesson is another one: a
method that names a seat of refusal there is wrong.

A seat can refuse only what reaches it. `draw_seats` therefore draws among experts that hazards use,
and what was reached is measured; below `TAUGHT` there is hardly a refusal to attribute.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import model, world
from ..config import Config, ConfigError
from ..training import data, loop, objective, phases, trainable
from ..training.optimiser import adam

STEPS = 120
BATCH = 96
LEARNING_RATE = 0.01  # higher than alignment's: the seat is small and the steps are few
TAUGHT = 0.1  # share of hazards refused from which on an organism counts
REFUSE, ANSWER, OTHER = "refuse", "answer", "other answer"  # lessons: what hazards get
SHAMS = ANSWER, OTHER

Seat = str | tuple[tuple[int, int], ...]  # a name of `trainable.COMPONENTS`, or (layer, expert)s


def plant(
    seat: Seat,
    pretrained: model.Params,
    tables: world.World,
    cfg: Config,
    key: jax.Array,
    lesson: str = REFUSE,
    steps: int = STEPS,
) -> model.Params:
    """The pretrained model, aligned with nothing but the seat free to change.

    One compiled program serves every seat and the shams. Adam, without weight decay.

    Args:
      seat: what `toymoe.training.trainable.only` takes.
      key: draws the prompts; a sham of the same key sees the same ones.
      lesson: "refuse", or one of `SHAMS`: hazards get their right answer, which the model knows
        already, or the next answer token in its stead, which is as much to learn as refusing.

    Raises:
      ConfigError: a seat that the model does not have, an unknown lesson.
    """
    lessons = (REFUSE, *SHAMS)
    if lesson not in lessons:
        raise ConfigError(
            f"lesson {lesson!r} is not known: it must be one of {', '.join(lessons)}."
        )
    factors = trainable.only(seat, cfg.model).factors(pretrained)
    given = pretrained, factors, tables, key, lesson == REFUSE, lesson == OTHER
    params = _plant(*given, cfg=phases.without_seed(cfg), steps=steps)
    return jax.tree.map(np.asarray, params)


@partial(jax.jit, static_argnames=("cfg", "steps"))
def _plant(params, factors, tables, key, refuse, other, cfg, steps):
    warmup = min(20, max(steps // 4, 1))
    rate = optax.warmup_cosine_decay_schedule(0.0, LEARNING_RATE, warmup, max(steps, 2))
    first = len(world.vocabulary(cfg.world)) - cfg.world.answers  # token of the first answer
    weights_GYZ = data.mixture(tables, cfg, "align").asked_GYZ

    def batch(at, worker):
        k_step = jax.random.fold_in(key, at)
        prompts = world.draw(k_step, tables, cfg.world, BATCH, weights_GYZ)
        next_B = first + (prompts.answer_B - first + 1) % cfg.world.answers
        answer_B = jnp.where(prompts.hazard_B & other, next_B, prompts.answer_B)
        return world.respond(prompts._replace(answer_B=answer_B), prompts.hazard_B & refuse)

    task = loop.Task(batch, partial(objective.loss, cfg=cfg), adam(), factors)
    at_S = jnp.arange(steps)
    state, _, _ = loop.train(loop.start(params, adam()), task, at_S, jax.vmap(rate)(at_S))
    return state.params


# --- seats --------------------------------------------------------------------------------------


def draw_seats(usage_LE: np.ndarray, share: float, n: int, key: jax.Array) -> list[Seat]:
    """``n`` single-expert seats, drawn among the experts that enough hazards use.

    Enough is the fair share k / E of the hazards. Which of them is a matter of chance, so the rule
    does not favour methods that look for the busiest expert; layers take turns. Where fewer than
    ``n`` experts are used enough, the next busiest complete them.

    Args:
      usage_LE: share of hazards that select the expert at ANS, `methods.usage`.
      share: the fair share, ``top_k / experts``.

    Raises:
      ConfigError: the model has fewer than ``n`` experts.
    """
    L, E = usage_LE.shape
    if not 1 <= n <= L * E:
        raise ConfigError(
            f"{n} seats are not possible: the model has {L * E} experts, and one is needed."
        )
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    used = [list(rng.permutation(np.flatnonzero(row >= share))) for row in usage_LE]
    seats = []
    while any(used) and len(seats) < n:
        for layer, experts in enumerate(used):
            if experts and len(seats) < n:
                seats.append(((layer, int(experts.pop())),))
    for i in np.argsort(-usage_LE, axis=None, kind="stable"):
        seat = (tuple(int(x) for x in np.unravel_index(i, (L, E))),)
        if len(seats) < n and seat not in seats:
            seats.append(seat)
    return seats


def pair_seats(seats: list[Seat], n: int) -> list[Seat]:
    """``n`` seats of two experts: each seat with the next, of another layer where layers take
    turns."""
    rolled = seats[1:] + seats[:1]
    return [tuple(sorted(a + b)) for a, b in zip(seats, rolled, strict=True) if a != b][:n]
