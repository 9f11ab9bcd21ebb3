"""The tables of a world: words, right answers, hazards, controls, what is held out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import hazards
from ..config import WorldConfig
from .tokens import layout

CONTROLS = tuple(hazards.CONTROLS)


class World(NamedTuple):
    """The tables of one world, all arrays. Tables over requests have the axes topic, verb, entity.

    ``control`` is 0, or 1 + the index in ``CONTROLS`` of the over-refusal control a request is.
    """

    word_GW: jax.Array  # token of each word of each topic
    chain_GWW: jax.Array  # cumulative transition probabilities between the words of a topic
    answer_GYZ: jax.Array  # token of the right answer
    hazard_GYZ: jax.Array  # bool
    control_GYZ: jax.Array
    held_out_GYZ: jax.Array  # bool: never a request in alignment


def controls(cfg: WorldConfig) -> tuple[str, ...]:
    """The kinds of over-refusal control that exist under the hazard rule."""
    return hazards.RULES[cfg.hazard_rule].controls


def make_world(key: jax.Array, cfg: WorldConfig) -> World:
    """Draw the tables of a world. A pure function; key and tables may be traced.

    Every topic gives another answer to the same verb and entity (as long as there are at least as
    many answers as topics). The held-out share is taken of hazardous and harmless requests apart:
    at least one of either, unless the share is 0, and never all.
    """
    G, Y, Z, W = cfg.topics, cfg.verbs, cfg.entities, cfg.words
    k_chain, k_answer, k_topic, k_verb, k_entity, k_held = jax.random.split(key, 6)

    # Uniform on the simplex, as jax.random.dirichlet(ones) is, which takes seconds to compile.
    chain_GWW = jax.random.exponential(k_chain, (G, W, W))
    chain_GWW /= chain_GWW.sum(-1, keepdims=True)

    ranks_AYZ = jnp.argsort(jax.random.uniform(k_answer, (cfg.answers, Y, Z)), 0)
    answer_GYZ = layout(cfg).answer + ranks_AYZ[jnp.arange(G) % cfg.answers]

    hazard_GYZ, control_GYZ = _hazards(
        cfg,
        choose(k_topic, (G,), cfg.hazardous_topics)[:, None, None],
        choose(k_verb, (Y,), cfg.hazardous_verbs)[None, :, None],
        choose(k_entity, (G, Z), cfg.hazardous_entities)[:, None, :],
    )
    luck_GYZ = jax.random.uniform(k_held, (G, Y, Z))
    held_out_GYZ = _lowest(luck_GYZ, hazard_GYZ, cfg.held_out) | _lowest(
        luck_GYZ, ~hazard_GYZ, cfg.held_out_harmless
    )
    return World(
        word_GW=jnp.asarray(layout(cfg).word_GW),
        chain_GWW=jnp.cumsum(chain_GWW, -1),
        answer_GYZ=answer_GYZ,
        hazard_GYZ=hazard_GYZ,
        control_GYZ=control_GYZ,
        held_out_GYZ=held_out_GYZ,
    )


def _hazards(cfg, topic, verb, entity):
    """Hazards and controls [G, Y, Z] under the hazard rule."""
    masks = jnp.broadcast_arrays(topic, verb, entity)
    hazard_GYZ = hazards.RULES[cfg.hazard_rule].hazard(*masks)
    control_GYZ = jnp.zeros(hazard_GYZ.shape, int)
    for name in controls(cfg):
        kind_GYZ = hazards.CONTROLS[name](*masks, hazard_GYZ) & ~hazard_GYZ
        control_GYZ = jnp.where(kind_GYZ, 1 + CONTROLS.index(name), control_GYZ)
    return hazard_GYZ, control_GYZ


def choose(key, shape, n):
    """Bool of a shape: ``n`` of the last axis, at random."""
    luck = jax.random.uniform(key, shape)
    # Ranks by counting: a sort takes most of a second to compile, and these axes are short.
    return (luck[..., None] > luck[..., None, :]).sum(-1) < n


def _lowest(luck, among, share):
    """Bool: the given share of the entries ``among``, those of least luck; one is always left."""
    count = among.sum()
    wanted = jnp.maximum(jnp.round(share * count), 1 if share else 0).astype(int)
    wanted = jnp.minimum(wanted, count - 1)
    lowest = luck <= jnp.sort(jnp.where(among, luck, jnp.inf).ravel())[wanted - 1]
    return among & lowest & (wanted > 0)
