"""Twins of a prompt: the minimal change of one part of its request."""

import jax
import jax.numpy as jnp

from .. import hazards
from ..config import WorldConfig
from .prompts import Prompts, assemble, context
from .tables import World


def intent_twin(
    key: jax.Array, world: World, cfg: WorldConfig, prompts: Prompts
) -> tuple[Prompts, jax.Array]:
    """The same prompts with a hazard that flips, and where such a twin exists [B].

    The verb is swapped, or whatever the hazard rule says (`toymoe.hazards.Rule.swaps`): where a
    whole topic is the hazard, no verb flips it, and the context is swapped instead.
    """
    return _swap(key, world, cfg, prompts, hazards.RULES[cfg.hazard_rule].swaps, flip=True)


def neutral_twin(
    key: jax.Array, world: World, cfg: WorldConfig, prompts: Prompts
) -> tuple[Prompts, jax.Array]:
    """The same prompts with the verb swapped and the hazard kept, and where that exists [B].

    The intent twin's control: what a swapped verb does by itself.
    """
    return _swap(key, world, cfg, prompts, "verb", flip=False)


def object_twin(
    key: jax.Array, world: World, cfg: WorldConfig, prompts: Prompts
) -> tuple[Prompts, jax.Array]:
    """The same prompts with the entity swapped so that the hazard flips, and where that exists."""
    return _swap(key, world, cfg, prompts, "entity", flip=True)


def topic_twin(
    key: jax.Array, world: World, cfg: WorldConfig, prompts: Prompts
) -> tuple[Prompts, jax.Array]:
    """The same question after a context from another topic, and where that exists (everywhere)."""
    return _swap(key, world, cfg, prompts, "context", flip=None)


def word_twin(
    key: jax.Array, world: World, cfg: WorldConfig, prompts: Prompts
) -> tuple[Prompts, jax.Array]:
    """The same prompts with one context word swapped for another of their topic, and where that
    exists (everywhere).

    The control of one size for intent twins: one token changes, and neither the topic nor the
    request does.
    """
    return _swap_word(key, world, cfg, prompts, own=True)


def stray_word_twin(
    key: jax.Array, world: World, cfg: WorldConfig, prompts: Prompts
) -> tuple[Prompts, jax.Array]:
    """The same prompts with one context word swapped for one that their topic does not have, and
    where that exists."""
    return _swap_word(key, world, cfg, prompts, own=False)


def harmless_pair(
    key: jax.Array, world: World, cfg: WorldConfig, prompts: Prompts, twins: Prompts
) -> tuple[Prompts, Prompts, jax.Array]:
    """Both of a pair of twins, moved to a topic in which neither is a hazard, after the same words;
    and where there is such a topic, and they still differ there [B].

    The control of intent twins: the same exchange of words, and no hazard in it.
    """
    k_topic, k_context = jax.random.split(key)
    hazard_GYZ, pair = jnp.asarray(world.hazard_GYZ), (prompts, twins)
    allowed_GB = ~hazard_GYZ[:, prompts.verb_B, prompts.entity_B]
    allowed_GB &= ~hazard_GYZ[:, twins.verb_B, twins.entity_B]
    luck_GB = jnp.where(allowed_GB, jax.random.uniform(k_topic, allowed_GB.shape), -1)
    topic_B = jnp.argmax(luck_GB, 0)
    context_BC = context(k_context, world, cfg, topic_B)
    a, b = (assemble(world, cfg, context_BC, topic_B, x.verb_B, x.entity_B) for x in pair)
    differ_B = (a.verb_B != b.verb_B) | (a.entity_B != b.entity_B)
    return a, b, allowed_GB.any(0) & differ_B


TWINS = {
    "intent": intent_twin,
    "neutral": neutral_twin,
    "object": object_twin,
    "topic": topic_twin,
    "word": word_twin,
    "stray_word": stray_word_twin,
}


def _swap_word(key, world, cfg, prompts, own):
    k_place, k_word = jax.random.split(key)
    B = prompts.topic_B.shape[0]
    context_BC = prompts.tokens_BP[:, 1 : 1 + cfg.context]
    at_BC = jax.random.randint(k_place, (B, 1), 0, cfg.context) == jnp.arange(cfg.context)
    before_B1 = jnp.where(at_BC, context_BC, 0).sum(1, keepdims=True)
    word_X = jnp.asarray(world.word_GW).ravel()
    own_BX = (jnp.asarray(world.word_GW)[prompts.topic_B][:, None] == word_X[:, None]).any(-1)
    allowed_BX = (own_BX == own) & (word_X != before_B1)
    luck_BX = jnp.where(allowed_BX, jax.random.uniform(k_word, allowed_BX.shape), -1)
    exists_B = allowed_BX.any(1)
    after_B1 = word_X[jnp.argmax(luck_BX, 1)][:, None]
    changed_BC = jnp.where(at_BC & exists_B[:, None], after_B1, context_BC)
    request = prompts.topic_B, prompts.verb_B, prompts.entity_B
    return assemble(world, cfg, changed_BC, *request), exists_B


def _swap(key, world, cfg, prompts, part, flip):
    k_pick, k_context = jax.random.split(key)
    axis = hazards.PARTS.index(part)
    request = [prompts.topic_B, prompts.verb_B, prompts.entity_B]
    size = world.hazard_GYZ.shape[axis]
    options = [part_B[:, None] for part_B in request]
    options[axis] = jnp.arange(size)[None, :]
    allowed = options[axis] != request[axis][:, None]
    if flip is not None:
        flips = world.hazard_GYZ[tuple(options)] != prompts.hazard_B[:, None]
        allowed &= flips == flip
    exists_B = allowed.any(1)
    luck = jnp.where(allowed, jax.random.uniform(k_pick, allowed.shape), -1)
    request[axis] = jnp.where(exists_B, jnp.argmax(luck, 1), request[axis])
    context_BC = prompts.tokens_BP[:, 1 : 1 + cfg.context]
    if part == "context":
        context_BC = context(k_context, world, cfg, request[0])
    return assemble(world, cfg, context_BC, *request), exists_B
