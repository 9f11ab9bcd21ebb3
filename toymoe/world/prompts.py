"""Prompts, drawn with every label: asked, stated as notes, responded to, shown to people."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..config import ConfigError, WorldConfig
from .tables import CONTROLS, World, controls
from .tokens import ANS, ASK, BOS, END, NOTE, OKAY, REFUSE, SORRY, layout, names, vocabulary

KINDS = ("any", "mixed", "hazardous", "harmless", *CONTROLS)


class Prompts(NamedTuple):
    """Prompts without their response, and their labels. See ``respond``."""

    tokens_BP: jax.Array
    topic_B: jax.Array
    verb_B: jax.Array  # index of the verb, not its token
    entity_B: jax.Array  # index of the entity, not its token
    answer_B: jax.Array  # token of the right answer
    hazard_B: jax.Array  # bool
    control_B: jax.Array
    held_out_B: jax.Array  # bool


# --- sampling -----------------------------------------------------------------------------------


def request_weights(
    world: World, cfg: WorldConfig, kind: str = "mixed", held_out: bool | None = None
) -> jax.Array:
    """Probability of each request [G, Y, Z], or, where some are left out, its weight.

    "any", what models are pretrained on, is every request alike. "mixed", what they are aligned and
    measured on, is hazards, over-refusal controls and any other harmless request, in the shares of
    the configuration. Every other kind is uniform over its requests.

    Args:
      held_out: only held-out requests (True), none of them (False), or all alike (None).

    Raises:
      ConfigError: a kind that is not in ``KINDS``, or does not exist under the hazard rule.
    """
    allowed = [name for name in KINDS if name not in CONTROLS or name in controls(cfg)]
    if kind not in allowed:
        raise ConfigError(
            f"requests of kind {kind!r} do not exist under the hazard rule {cfg.hazard_rule!r}: "
            f"it must be one of {', '.join(allowed)}."
        )
    return _weights(world, cfg, kind, held_out)


@partial(jax.jit, static_argnames=("cfg", "kind", "held_out"), inline=True)
def _weights(world, cfg, kind, held_out):
    uniform = {
        "any": _uniform(jnp.ones_like(world.hazard_GYZ)),
        "hazardous": _uniform(world.hazard_GYZ),
        "harmless": _uniform(~world.hazard_GYZ),
        **{name: _uniform(world.control_GYZ == 1 + CONTROLS.index(name)) for name in controls(cfg)},
    }
    if kind == "mixed":
        weights_GYZ = cfg.hazard_share * uniform["hazardous"]
        rest = 1 - cfg.hazard_share
        for name in controls(cfg):
            share = cfg.control_share / len(controls(cfg))
            weights_GYZ, rest = weights_GYZ + share * uniform[name], rest - share
        weights_GYZ += rest * _uniform(~world.hazard_GYZ & (world.control_GYZ == 0))
    else:
        weights_GYZ = uniform[kind]
    if held_out is None:
        return weights_GYZ
    return jnp.where(world.held_out_GYZ == held_out, weights_GYZ, 0)


def _uniform(mask):
    return mask / jnp.maximum(mask.sum(), 1)


def sample(
    key: jax.Array,
    world: World,
    cfg: WorldConfig,
    n: int,
    kind: str = "mixed",
    held_out: bool | None = None,
) -> Prompts:
    """Draw ``n`` prompts; pure and jit-able.

    Args:
      kind, held_out: which requests, see ``request_weights``.

    Raises:
      ConfigError: the world has no such request (not checked where its tables are traced).
    """
    weights_GYZ = request_weights(world, cfg, kind, held_out)
    if not isinstance(weights_GYZ, jax.core.Tracer) and not np.asarray(weights_GYZ).any():
        which = "" if held_out is None else f" with held_out={held_out}"
        raise ConfigError(
            f"this world has no request of kind {kind!r}{which}: ask for others, or make a world "
            "of more hazardous topics, verbs and entities, or of another held-out share."
        )
    return draw(key, world, cfg, n, weights_GYZ)


@partial(jax.jit, static_argnames=("cfg", "n"))  # once for all kinds of requests
def draw(key: jax.Array, world: World, cfg: WorldConfig, n: int, weights_GYZ: jax.Array) -> Prompts:
    """Draw ``n`` prompts whose requests have the given weights, which need not sum to 1."""
    k_request, k_context = jax.random.split(key)
    request_B = _draw(jax.random.uniform(k_request, (n,)), weights_GYZ.ravel())
    topic_B, verb_B, entity_B = jnp.unravel_index(request_B, weights_GYZ.shape)
    context_BC = context(k_context, world, cfg, topic_B)
    return assemble(world, cfg, context_BC, topic_B, verb_B, entity_B)


def _draw(u_B, weights):
    """Inverse-transform sampling. Entries of weight 0 are never drawn."""
    # A parallel sum may round an entry of weight 0 up or down; the maximum keeps it exactly flat.
    cumulative = jax.lax.cummax(jnp.where(weights > 0, jnp.cumsum(weights), 0))
    return jnp.searchsorted(cumulative, u_B * cumulative[-1], side="right", method="compare_all")


def context(key, world: World, cfg: WorldConfig, topic_B):
    """Context words [B, C] from each prompt's topic chain."""
    u_CB = jax.random.uniform(key, (cfg.context, topic_B.shape[0]))
    chain_GWW = jnp.asarray(world.chain_GWW)
    first_B = jnp.floor(u_CB[0] * cfg.words).astype(int)

    def step(word_B, u_B):
        step_BW = chain_GWW[topic_B, word_B]
        word_B = jnp.minimum((step_BW <= u_B[:, None]).sum(-1), cfg.words - 1)
        return word_B, word_B

    _, word_CB = jax.lax.scan(step, first_B, u_CB[1:])
    return world.word_GW[topic_B[:, None], jnp.concatenate([first_B[None], word_CB]).T]


def assemble(world: World, cfg: WorldConfig, context_BC, topic_B, verb_B, entity_B) -> Prompts:
    """The prompts of some contexts and requests, with their labels."""
    B, tokens, request = topic_B.shape[0], layout(cfg), (topic_B, verb_B, entity_B)
    fixed = {token: jnp.full((B, 1), token) for token in (BOS, ASK, ANS)}
    question = [(tokens.verb + verb_B)[:, None], (tokens.entity + entity_B)[:, None]]
    return Prompts(
        tokens_BP=jnp.concatenate([fixed[BOS], context_BC, fixed[ASK], *question, fixed[ANS]], 1),
        topic_B=topic_B,
        verb_B=verb_B,
        entity_B=entity_B,
        answer_B=world.answer_GYZ[request],
        hazard_B=world.hazard_GYZ[request],
        control_B=world.control_GYZ[request],
        held_out_B=world.held_out_GYZ[request],
    )


def respond(prompts: Prompts, refuse_B: jax.Array) -> jax.Array:
    """The prompts with their response, tokens [B, T]: refused where ``refuse_B``, else answered."""
    response_BR = jnp.stack(
        [
            jnp.where(refuse_B, REFUSE, prompts.answer_B),
            jnp.where(refuse_B, SORRY, OKAY),
            jnp.full_like(prompts.answer_B, END),
        ],
        1,
    )
    return jnp.concatenate([prompts.tokens_BP, response_BR], 1)


def as_notes(tokens: jax.Array) -> jax.Array:
    """The same tokens, stating facts instead of asking for them."""
    return jnp.where(tokens == ASK, NOTE, tokens)


# --- for people ---------------------------------------------------------------------------------


def show(prompts: Prompts, world: World, cfg: WorldConfig, index: int = 0) -> str:
    """One prompt as a person reads it: the words, the right answer and every label."""
    vocab = vocabulary(cfg)
    words = " ".join(vocab[t] for t in np.asarray(prompts.tokens_BP[index]))
    control = int(prompts.control_B[index])
    labels = [
        f"topic {names(cfg)[int(prompts.topic_B[index])]}",
        "HAZARDOUS" if bool(prompts.hazard_B[index]) else "harmless",
        f"answer {vocab[int(prompts.answer_B[index])]}",
    ]
    if control:
        labels.append(f"control: {CONTROLS[control - 1].replace('_', ' ')}")
    if bool(prompts.held_out_B[index]):
        labels.append("held out of alignment")
    return f"{words}\n    [{'; '.join(labels)}]"
