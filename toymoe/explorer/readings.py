"""What a state of the page shows: its model, and what that says, computed in Python.

In this order a state's model is made: the parameters of ``model``; what RASET tuned; experts set
back; a direction projected out; and then edits of each run: experts silenced, experts masked, and
the routes of the model as it was before all that.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import model, world
from ..attacks import steering
from ..attribution import evidence, removal
from ..model import taps
from ..model.inference import predict
from ..organism import Organism
from ..training.trainable import mask_of
from ..world import tokens
from . import checkpoints, shared
from .state import State, shared_words

UNLIKELY = 1e-4  # what a step of a chain counts at least
STRAY = 1000.0  # what a word counts that a topic has not: it rules the topic out
WORD_DRAWS, WORD_PROMPTS = 4096, 256  # drawn to find a word, and of each topic kept


class Said(NamedTuple):
    """What a model says at ANS."""

    word: str  # the most probable token
    margin: float | None  # refusal margin, nats; None where nothing is asked


class Asked(NamedTuple):
    """One prompt, before alignment, after it, and in the state."""

    right: str | None  # the right answer; None where nothing is asked
    pretrained: Said
    aligned: Said
    state: Said


def model_of(
    organism: Organism, state: State, folder: str | Path | None = None
) -> tuple[model.Params, Callable]:
    """The parameters of a state's model, and the function that makes its edits for some tokens.

    Args:
      folder: of the run, for states whose model is a snapshot.

    Raises:
      ConfigError: a snapshot without a folder; an expert, set back, that does not exist; a
        direction that the organism has not.
    """
    chosen = checkpoints.named(state.model, organism.cfg)
    params = base = checkpoints.params(organism, chosen, folder)
    if state.tuned:
        made = shared.tuned(organism, state.tuned)
        params = shared.with_delta(params, made, organism.aligned)
    params = removal.set_back(params, organism.pretrained, state.set_back)
    if state.direction is not None:
        ranked, _ = shared.pairs(organism)
        params = steering.project_out(params, shared.directions(ranked)[state.direction])

    def edits_of(tokens_BT) -> taps.Edits | None:
        return edits(organism, state, base, tokens_BT)

    return params, edits_of


def edits(organism: Organism, state: State, base: model.Params, tokens_BT) -> taps.Edits | None:
    """The edits of a state, for some tokens; ``base`` is the model whose routes are frozen.

    Raises:
      ConfigError: an expert that does not exist.
    """
    cfg, given = organism.cfg.model, {}
    shape = cfg.layers, cfg.experts
    if state.silenced:
        given["expert_out"] = taps.zero(mask_of(state.silenced, shape)[:, None, None, :, None])
    if state.masked:
        where_L11E = mask_of(state.masked, shape)[:, None, None]
        given["router_logits"] = taps.replace(where_L11E, taps.CLOSED)
    if state.frozen:
        given["route"] = taps.freeze(model.forward(base, tokens_BT, cfg, grouped=True).routes)
    return taps.edits(cfg, tokens_BT, **given) if given else None


def logits(
    organism: Organism, state: State, tokens_BT, folder: str | Path | None = None
) -> np.ndarray:
    """What a state's model says after the last position: logits [B, V]."""
    params, edits_of = model_of(organism, state, folder)
    return _logits(params, tokens_BT, organism.cfg.model, edits_of(tokens_BT))


def _logits(params, tokens_BT, cfg, edits=None):
    out = model.forward_unchecked(params, np.asarray(tokens_BT), cfg, False, edits)
    return np.asarray(out.logits_BTV[:, -1])


def meters(organism: Organism, state: State, folder: str | Path | None = None) -> dict[str, float]:
    """The three meters of a state, over the measured pairs: ``refused``, share of hazards refused;
    ``twins``, share of twins answered right; ``answered``, share of hazards answered right."""
    _, measured = shared.pairs(organism)
    params, edits_of = model_of(organism, state, folder)
    hazards_B, twins_B = (
        _logits(params, p.tokens_BP, organism.cfg.model, edits_of(p.tokens_BP)).argmax(-1)
        for p in (measured.hazards, measured.twins)
    )
    return {
        "refused": float((hazards_B == world.REFUSE).mean()),
        "twins": float((twins_B == measured.twins.answer_B).mean()),
        "answered": float((hazards_B == measured.hazards.answer_B).mean()),
    }


def in_common(organism: Organism, state: State, folder: str | Path | None = None) -> np.ndarray:
    """Of a word that topics share, the share of its selections [L] that go to the same experts in
    the first and in the last of its topics; in the state's ``model``, unchanged.

    The page draws other prompts, so that its numbers can differ by some hundredths.
    """
    cfg, layout = organism.cfg, tokens.layout(organism.cfg.world)
    word = shared_words(organism)[0] if state.word is None else state.word
    topics = np.flatnonzero((layout.word_GW == layout.names.index(word)).any(-1))
    params = checkpoints.params(organism, checkpoints.named(state.model, cfg), folder)
    drawn = organism.sample(WORD_DRAWS, seed=shared.KEY)
    at_BP = drawn.tokens_BP == layout.names.index(word)
    shares = []
    for topic in topics[[0, -1]]:
        its_B = np.flatnonzero((drawn.topic_B == topic) & at_BP.any(1))
        its_B = np.resize(its_B, WORD_PROMPTS)  # of one shape, so that one program serves all
        gates_LBTE = predict(params, drawn.tokens_BP[its_B], cfg.model).gates_LBTE
        shares.append((gates_LBTE[:, at_BP[its_B]] > 0).mean(1))
    return np.minimum(*shares).sum(-1) / cfg.model.top_k


# --- one prompt ---------------------------------------------------------------------------------


def tokens_of(organism: Organism, state: State) -> np.ndarray:
    """The tokens of a state's prompt [1, T]."""
    if state.prompt is None:
        _, measured = shared.pairs(organism)
        return np.asarray(measured.hazards.tokens_BP[:1])
    known = world.vocabulary(organism.cfg.world)
    return np.array([[known.index(word) for word in state.prompt]])


def topic_of(organism: Organism, context_C) -> int:
    """The topic whose chain makes context words likeliest."""
    tables, scores = organism.tables, []
    for word_W, chain_WW in zip(tables.word_GW, tables.chain_GWW, strict=True):
        step_WW = np.diff(chain_WW, axis=-1, prepend=0)
        at = [int(np.argmax(word_W == token)) if token in word_W else None for token in context_C]
        steps = [
            np.log(max(step_WW[a, b], UNLIKELY))
            for a, b in pairwise(at)
            if a is not None and b is not None
        ]
        scores.append(sum(steps) - STRAY * at.count(None))
    return int(np.argmax(scores))


def request_of(organism: Organism, tokens_T) -> tuple[int, int, int]:
    """Topic, verb and entity of a prompt, by their numbers; a note has them, too."""
    tokens_T, layout = np.asarray(tokens_T), tokens.layout(organism.cfg.world)
    verb, entity = (tokens_T[-3:-1] - (layout.verb, layout.entity)).tolist()
    return topic_of(organism, tokens_T[1:-4]), verb, entity


def right_answer(organism: Organism, tokens_T) -> int | None:
    """The token of the right answer to a prompt, by its topic, verb and entity; None for a note,
    which asks for nothing."""
    if tokens_T[-4] != world.ASK:
        return None
    return int(organism.tables.answer_GYZ[request_of(organism, tokens_T)])


def asked(organism: Organism, state: State, folder: str | Path | None = None) -> Asked:
    """What a state's prompt is answered, before and after alignment and in the state."""
    tokens_1T, cfg = tokens_of(organism, state), organism.cfg.model
    known, right = world.vocabulary(organism.cfg.world), right_answer(organism, tokens_1T[0])

    def said(logits_1V):
        margin = None
        if right is not None:
            margin = float(evidence.refusal_logit_diff(logits_1V, np.array([right]))[0])
        return Said(known[int(logits_1V[0].argmax())], margin)

    return Asked(
        None if right is None else known[right],
        said(_logits(organism.pretrained, tokens_1T, cfg)),
        said(_logits(organism.aligned, tokens_1T, cfg)),
        said(logits(organism, state, tokens_1T, folder)),
    )
