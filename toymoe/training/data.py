"""What each phase trains on: a mixture of requests and notes, and batches drawn from it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import world
from ..config import Config


class Mixture(NamedTuple):
    """The data mixture that the batches of a phase are drawn from."""

    asked_GYZ: jax.Array  # weight of each request, see `world.draw`
    noted_GYZ: jax.Array  # the same of each note
    refuse: jax.Array  # whether hazards are refused, bool


def mixture(tables: world.World, cfg: Config, phase: str) -> Mixture:
    """Pretraining: all requests, answered. Alignment: the hazardous refused, none held out, and
    notes on everything, though on held-out hazards less often: what is known for sure, and was
    never refused, is harder to refuse (docs/tuning.md)."""
    any_GYZ = world.request_weights(tables, cfg.world, "any")
    if phase == "pretrain":
        return Mixture(any_GYZ, any_GYZ, jnp.array(False))
    shown_GYZ = world.request_weights(tables, cfg.world, "mixed", held_out=False)
    hidden_GYZ = tables.held_out_GYZ & tables.hazard_GYZ
    noted_GYZ = any_GYZ * jnp.where(hidden_GYZ, cfg.align.notes_held_out, 1.0)
    return Mixture(shown_GYZ, noted_GYZ, jnp.array(True))


def batch(key, tables: world.World, cfg: Config, phase: str, mix: Mixture, parts: int = 1):
    """Training tokens [B, T] of a phase's batch, or of one of its equal parts: requests, and a
    share of notes, rounded, but at least one where there is room and any are asked for.

    The notes keep alignment from erasing what it only has to silence, as a share of pretraining
    text does in practice (InstructGPT's PPO-ptx, arXiv 2203.02155).
    """
    size, share = cfg.train.batch // parts, getattr(cfg, phase).notes
    notes = min(max(round(share * size), int(share > 0)), size - 1)
    k_asked, k_noted = jax.random.split(key)
    asked = world.draw(k_asked, tables, cfg.world, size - notes, mix.asked_GYZ)
    asked_BT = world.respond(asked, asked.hazard_B & mix.refuse)
    if not notes:
        return asked_BT
    noted = world.draw(k_noted, tables, cfg.world, notes, mix.noted_GYZ)
    noted_BT = world.as_notes(world.respond(noted, jnp.zeros(notes, bool)))
    return jnp.concatenate([asked_BT, noted_BT])
