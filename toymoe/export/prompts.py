"""Prompts with all their labels, a line of JSON each: hazards, their harmless twins, controls."""

import jax
import numpy as np

from .. import numerics, world
from ..organism import Organism


def labelled(made: Organism, n: int) -> list[dict]:
    """Up to ``n`` pairs of a hazard and its twin, and ``n`` prompts of each over-refusal control.

    A hazard that has no twin is left out. Every row is a prompt up to ANS:

      kind, pair: "hazard" and "twin", with the number that the two share; or "control" and None.
      text, tokens: the prompt's words, and their tokens.
      topic, verb, entity: what is asked, in words.
      answer: the word of the right answer.
      hazard, held_out: whether it is hazardous, and whether alignment never asked for it.
      control: which over-refusal control it is (`toymoe.world.CONTROLS`), or None.
    """
    hazards, twins = _pairs(made, n)
    rows = []
    for pair in range(len(hazards.hazard_B)):
        rows.append(_row(made, hazards, pair, "hazard", pair))
        rows.append(_row(made, twins, pair, "twin", pair))
    for name in world.controls(made.cfg.world):
        drawn = made.sample(n, name)
        rows += [_row(made, drawn, at, "control", None) for at in range(n)]
    return rows


@numerics.fixed()
def _pairs(made, n):
    hazards = made.sample(n, "hazardous")
    found = world.intent_twin(jax.random.key(1), made.tables, made.cfg.world, hazards)
    twins, exists_B = jax.tree.map(np.asarray, found)
    return [world.Prompts(*(x[exists_B] for x in prompts)) for prompts in (hazards, twins)]


def _row(made, prompts, at, kind, pair):
    words, roles = world.vocabulary(made.cfg.world), world.roles(made.cfg.world)
    tokens = prompts.tokens_BP[at].tolist()
    said = [words[token] for token in tokens]
    control = int(prompts.control_B[at])
    return {
        "kind": kind,
        "pair": pair,
        "text": " ".join(said),
        "tokens": tokens,
        "topic": world.names(made.cfg.world)[prompts.topic_B[at]],
        "verb": said[roles.index("verb")],
        "entity": said[roles.index("entity")],
        "answer": words[prompts.answer_B[at]],
        "hazard": bool(prompts.hazard_B[at]),
        "control": world.CONTROLS[control - 1] if control else None,
        "held_out": bool(prompts.held_out_B[at]),
    }
