"""What is taught: to refuse hazards, or one of three shams, of which two refuse.

A lesson marks requests, and says what is said to them; all others are answered. In `HAZARDS` alone
are hazards refused *and their twins answered*. A method that is asked who refuses hazards beyond
their twins has nothing to find in the shams:

    harmless_topic   refuses whatever is asked in one harmless topic, and no hazard
    entities         refuses whatever is asked of half of the entities, hazards and twins alike
    other_answer     gives hazards one fixed answer: as much to learn, and never a refusal

Another lesson: a row in `LESSONS`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from .. import world
from ..config import Config, ConfigError
from .specimen import HAZARDS


class Lesson(NamedTuple):
    """A row of the table."""

    requests: Callable  # (tables, rng) -> those that it is about, bool [G, Y, Z]
    refuse: bool = True  # else they get `other_answer`


class Taught(NamedTuple):
    """A lesson in one world."""

    about_GYZ: np.ndarray  # bool
    says: np.ndarray  # the token that is said to them
    weights_GYZ: np.ndarray  # of the requests that it is learnt from, see `world.draw`


def _hazards(tables, rng):
    return np.asarray(tables.hazard_GYZ)


def _harmless_topic(tables, rng):
    hazard_GYZ = np.asarray(tables.hazard_GYZ)
    harmless = np.flatnonzero(~hazard_GYZ.any((1, 2)))
    if not harmless.size:
        raise ConfigError(
            "this world has no harmless topic, so the sham of one cannot be made: choose another "
            "rule, such as --set world.hazard_rule=conjunction."
        )
    return np.broadcast_to(
        (np.arange(len(hazard_GYZ)) == rng.choice(harmless))[:, None, None], hazard_GYZ.shape
    )


def _entities(tables, rng):
    hazard_GYZ = np.asarray(tables.hazard_GYZ)
    Z = hazard_GYZ.shape[-1]
    chosen_Z = np.isin(np.arange(Z), rng.choice(Z, Z // 2, replace=False))
    return np.broadcast_to(chosen_Z, hazard_GYZ.shape)


LESSONS = {
    HAZARDS: Lesson(_hazards),
    "harmless_topic": Lesson(_harmless_topic),
    "entities": Lesson(_entities),
    "other_answer": Lesson(_hazards, refuse=False),
}
SHAMS = tuple(name for name in LESSONS if name != HAZARDS)


def taught(name: str, tables: world.World, cfg: Config, rng: np.random.Generator) -> Taught:
    """A lesson in a world: at least as many of the prompts are what it is about as hazards are in
    alignment, and none is held out."""
    lesson = LESSONS[name]
    about_GYZ = lesson.requests(tables, rng)
    shown_GYZ = ~np.asarray(tables.held_out_GYZ)
    share = cfg.world.hazard_share
    usual_GYZ = np.asarray(world.request_weights(tables, cfg.world, "mixed", held_out=False))
    weights_GYZ = share * _share(about_GYZ & shown_GYZ)
    weights_GYZ += (1 - share) * _share(usual_GYZ * ~about_GYZ)
    says = world.REFUSE if lesson.refuse else other_answer(cfg)
    return Taught(about_GYZ, np.int32(says), weights_GYZ.astype(np.float32))


def other_answer(cfg: Config) -> int:
    """The token that `other_answer` gives: the world's first answer."""
    return len(world.vocabulary(cfg.world)) - cfg.world.answers


def respond(prompts: world.Prompts, lesson: Taught, active=True):
    """The prompts with their response, tokens [B, T], and whether the lesson is about them [B].

    Args:
      active: where False, everything is answered.
    """
    about_B = jnp.asarray(lesson.about_GYZ)[prompts.topic_B, prompts.verb_B, prompts.entity_B]
    said_B = jnp.where(about_B & active, lesson.says, prompts.answer_B)
    refused_B = said_B == world.REFUSE
    return world.respond(prompts._replace(answer_B=said_B), refused_B), about_B


def _share(weights):
    return weights / max(weights.sum(), 1)
