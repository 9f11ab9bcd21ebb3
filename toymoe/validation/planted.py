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

from .. import checkpoint, model, world
from ..attribution import evidence as ev
from ..attribution import weight_patching
from ..config import Config
from ..training import phases

STEPS = 120
BATCH = 96
LEARNING_RATE = 0.01  # higher than alignment's: the seat is small and the steps are few
TAUGHT = 0.1  # share of hazards refused from which on an organism counts
REFUSE, SHAMS = "refuse", ("answer", "other answer")  # lessons: what hazards get

# A name of `weight_patching.COMPONENTS`, or (layer, expert)s.
Seat = str | tuple[tuple[int, int], ...]


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

    One compiled program serves every seat and the shams, since the seat is a mask on gradients and
    updates. Adam, without weight decay.

    Args:
      seat: (layer, expert) pairs, whose two matrices are free, or a name of
        `weight_patching.COMPONENTS`.
      key: draws the prompts; a sham of the same key sees the same ones.
      lesson: "refuse", or one of `SHAMS`: hazards get their right answer, which the model knows
        already, or the next answer token in its stead, which is as much to learn as refusing.

    Raises:
      EvidenceError: a seat that the model does not have, an unknown lesson.
    """
    lessons = (REFUSE, *SHAMS)
    if lesson not in lessons:
        raise ev.EvidenceError(
            f"lesson {lesson!r} is not known: it must be one of {', '.join(lessons)}."
        )
    mask, which = seat_mask(seat, pretrained), lessons.index(lesson)
    cfg = phases.without_seed(cfg)
    params = _plant(pretrained, mask, tables, key, which, cfg=cfg, steps=steps)
    return jax.tree.map(np.asarray, params)


def seat_mask(seat: Seat, params: model.Params):
    """1 where the seat is, 0 elsewhere: a tree like the parameters', [L, E, 1, 1] for experts.

    Raises:
      EvidenceError: a seat that the model does not have.
    """
    L, E = np.shape(params["layers"]["experts"]["down"])[:2]
    if isinstance(seat, str) and seat not in weight_patching.COMPONENTS:
        raise ev.EvidenceError(
            f"seat {seat!r} is not known: it must be one of "
            f"{', '.join(weight_patching.COMPONENTS)}, or (layer, expert) pairs."
        )
    experts_LE = np.full((L, E), seat == "experts", np.float32)
    for layer, expert in () if isinstance(seat, str) else seat:
        if not (0 <= layer < L and 0 <= expert < E):
            raise ev.EvidenceError(
                f"seat (layer {layer}, expert {expert}) is not possible: there are {L} layers and "
                f"{E} experts, numbered from 0."
            )
        experts_LE[layer, expert] = 1
    if not isinstance(seat, str) and not seat:
        raise ev.EvidenceError("a seat without experts is not possible: name at least one.")
    free = weight_patching.COMPONENTS[seat] if isinstance(seat, str) else ()
    return checkpoint.unflatten(
        {
            path: experts_LE[:, :, None, None]
            if path in weight_patching.COMPONENTS["experts"]
            else np.float32(path in free)
            for path in checkpoint.flatten(params)
        }
    )


@partial(jax.jit, static_argnames=("cfg", "steps"))
def _plant(params, mask, tables, key, lesson, cfg, steps):
    warmup = min(20, max(steps // 4, 1))
    schedule = optax.warmup_cosine_decay_schedule(0.0, LEARNING_RATE, warmup, max(steps, 2))
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.98))

    def masked(tree):
        return jax.tree.map(jnp.multiply, tree, mask)

    first = len(world.vocabulary(cfg.world)) - cfg.world.answers  # token of the first answer
    weights_GYZ = phases.mixture(tables, cfg, "align").asked_GYZ
    refuse, other = lesson == 0, lesson == 2

    def step(state, at):
        params, adam_state = state
        k_step = jax.random.fold_in(key, at)
        prompts = world.draw(k_step, tables, cfg.world, BATCH, weights_GYZ)
        next_B = first + (prompts.answer_B - first + 1) % cfg.world.answers
        answer_B = jnp.where(prompts.hazard_B & other, next_B, prompts.answer_B)
        tokens_BT = world.respond(prompts._replace(answer_B=answer_B), prompts.hazard_B & refuse)
        grads = masked(jax.grad(phases.loss)(params, tokens_BT, cfg))
        updates, adam_state = adam.update(grads, adam_state)
        return (optax.apply_updates(params, masked(updates)), adam_state), None

    (params, _), _ = jax.lax.scan(step, (params, adam.init(params)), jnp.arange(steps))
    return params


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
      EvidenceError: the model has fewer than ``n`` experts.
    """
    L, E = usage_LE.shape
    if not 1 <= n <= L * E:
        raise ev.EvidenceError(
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
