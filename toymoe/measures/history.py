"""How routing and behaviour came about: snapshots of fixed probe prompts, and curves from them.

Here S is the snapshots, in the order they were taken: first those of pretraining, then of
alignment. The curves are what history.npz holds; docs/metrics.md lists them.
"""

from typing import NamedTuple

import jax
import numpy as np

from .. import world
from ..config import Config
from ..training import phases
from . import behaviour, contrasts, routing

PROBES = 512  # prompts of the training mixture, for routing and behaviour
HELD_OUT = 256  # and hazards that alignment never asks for, for behaviour only


class Raw(NamedTuple):
    """What training recorded, numpy."""

    phase_S: np.ndarray  # index in ``phases.PHASES``
    step_S: np.ndarray  # steps of the phase done when the snapshot was taken
    experts_SLBPA: np.ndarray  # uint8
    predicted_SB: np.ndarray
    loss_pretrain: np.ndarray  # one per step
    loss_align: np.ndarray


def probes(key: jax.Array, tables: world.World, cfg: Config) -> world.Prompts:
    """The fixed prompts: ``PROBES`` of the training mixture, then ``HELD_OUT`` hazards; numpy."""
    k_mixed, k_held = jax.random.split(key)
    mixed = world.sample(k_mixed, tables, cfg.world, PROBES)
    held = world.sample(k_held, tables, cfg.world, PROBES, "hazardous", True)
    held = (np.asarray(x)[:HELD_OUT] for x in held)
    return world.Prompts(*map(np.concatenate, zip(mixed, held, strict=True)))


def empty(cfg: Config, prompts: world.Prompts) -> Raw:
    """Before the first snapshot."""
    B, P = prompts.tokens_BP.shape
    return Raw(
        np.zeros(0, np.int8),
        np.zeros(0, np.int32),
        np.zeros((0, cfg.model.layers, B, P, cfg.model.top_k), np.uint8),
        np.zeros((0, B), np.int32),
        np.zeros(0, np.float32),
        np.zeros(0, np.float32),
    )


def append(raw: Raw, chunk: phases.Chunk, phase: str) -> Raw:
    """The history with a chunk's losses and snapshots."""
    add = np.concatenate
    grown = raw._replace(
        phase_S=add([raw.phase_S, np.full(len(chunk.recorded), phases.PHASES.index(phase), "i1")]),
        step_S=add([raw.step_S, np.array(chunk.recorded, np.int32)]),
        experts_SLBPA=add([raw.experts_SLBPA, chunk.snapshots.experts_LBPA]),
        predicted_SB=add([raw.predicted_SB, chunk.snapshots.predicted_B.astype(np.int32)]),
    )
    losses = f"loss_{phase}"
    return grown._replace(**{losses: add([getattr(raw, losses), chunk.losses_S])})


def latest(raw: Raw, prompts: world.Prompts, cfg: Config) -> dict:
    """The last snapshot in two numbers: ``accuracy``, and ``nmi`` of topic in the best layer."""
    last = raw._replace(experts_SLBPA=raw.experts_SLBPA[-1:], predicted_SB=raw.predicted_SB[-1:])
    (selected_LBPE,) = _selected(last, cfg)
    context = selected_LBPE[:, :, contrasts.context_positions(cfg)]
    return {
        "accuracy": _behaviour(last, prompts)["answer_accuracy"][-1],
        "nmi": max(contrasts.topic_nmi(context, prompts.topic_B[:PROBES], cfg.world.topics)),
    }


def curves(raw: Raw, prompts: world.Prompts, cfg: Config, seed: int) -> dict[str, np.ndarray]:
    """Every curve of a complete history; `seed` shuffles the topics of the control."""
    where = contrasts.context_positions(cfg)
    topic_B, G = prompts.topic_B[:PROBES], cfg.world.topics
    shuffled_B = np.random.default_rng(seed).permutation(topic_B)
    token_N, V = prompts.tokens_BP[:PROBES, where].ravel(), len(world.vocabulary(cfg.world))
    selected_SLBPE = _selected(raw, cfg)
    context = selected_SLBPE[:, :, :, where]
    by_step = {
        "nmi_topic_context": [contrasts.topic_nmi(x, topic_B, G) for x in context],
        "nmi_topic_shuffled": [contrasts.topic_nmi(x, shuffled_B, G) for x in context],
        "nmi_token_context": [
            routing.label_nmi(contrasts.by_token(x), token_N, V) for x in context
        ],
        # Most of the file, and counts, which float32 holds exactly.
        "topic_expert": np.float32(
            [
                routing.label_counts(contrasts.by_token(x), topic_B.repeat(x.shape[2]), G)
                for x in context
            ]
        ),
        "load": [routing.load_share(contrasts.by_token(x)) for x in selected_SLBPE],
    }
    pretrained = np.flatnonzero(raw.phase_S == 0)[-1]
    return {
        "phase": raw.phase_S,
        "step": raw.step_S,
        **{name: np.array(values) for name, values in by_step.items()},
        "saturation": routing.saturation(selected_SLBPE, selected_SLBPE[-1]),
        "overlap_pretrained": routing.saturation(selected_SLBPE, selected_SLBPE[pretrained]),
        **_behaviour(raw, prompts),
        "loss_pretrain": raw.loss_pretrain,
        "loss_align": raw.loss_align,
    }


def _selected(raw, cfg):
    """Bool [S, L, B, P, E], probes of the training mixture only."""
    names_E = np.arange(cfg.model.experts, dtype=np.uint8)
    return np.stack([(x[:, :PROBES, :, :, None] == names_E).any(-2) for x in raw.experts_SLBPA])


def _behaviour(raw, prompts):
    mixed, held = (
        jax.tree.map(lambda x, part=part: x[part], prompts)
        for part in (slice(PROBES), slice(PROBES, None))
    )
    now = [behaviour.rates(predicted_B[:PROBES], mixed) for predicted_B in raw.predicted_SB]
    names = ("answer_accuracy", "over_refusal", "refusal", "hazard_answered")
    rates = {name: np.array([x[name] for x in now], float) for name in names}
    rates["refusal_held_out"] = np.array(
        [behaviour.rates(predicted_B[PROBES:], held)["refusal"] for predicted_B in raw.predicted_SB]
    )
    return rates
