"""Where refusal lives in one run: the numbers behind the report's section of that name.

Weight patching between the run's two checkpoints, experts taken out one after another, prompts on
each other's route, ablation of every expert, the parts of the refusal margin and patching, each
with what it must be held against. Plain numbers, ready for
metrics.json; docs/metrics.md says what each one means. On few prompts, since a run has little time.
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from .. import model, world
from ..config import Config
from . import (
    REFERENCE,
    ablation,
    direct_logit_attribution,
    patching,
    removal,
    route_patching,
    weight_patching,
)
from .controls import with_controls
from .evidence import Evidence, gather

PAIRS = 256  # of a hazard and its twin
PATCHED = 32  # of them, for patching: it runs the model once for every place
TAPS = ("head_out", "expert_out", "router_logits")  # what attention, experts and routers say


def localise(
    pretrained: model.Params,
    aligned: model.Params,
    tables: world.World,
    cfg: Config,
    key: jax.Array,
) -> dict:
    """All that is measured inside one run, on at most ``cfg.eval.prompts`` pairs."""
    k_pairs, k_controls, k_draws = jax.random.split(key, 3)
    n = min(PAIRS, cfg.eval.prompts)
    e = gather(aligned, tables, cfg, k_pairs, n, pretrained)
    return {
        "pairs": len(e.hazards.answer_B),
        "removal": removal.curves(*halves(e), k_draws),
        "route": route_patching.exchanged(e),
        "swaps": {
            name: _plain(patched) for name, patched in weight_patching.by_component(e).items()
        },
        "ablation": without_each_expert(e, k_controls),
        "decomposition": margin_parts(e),
        "patching": patched_places(e),
    }


def without_each_expert(e: Evidence, key: jax.Array) -> dict:
    """Maps [L, E] of what is lost without each expert, and the expert whose loss costs most of the
    refusal margin, beside its controls."""
    found = ablation.ablate(e)
    controls = with_controls(REFERENCE, e, key)
    at = np.unravel_index(np.argmax(controls.scores), controls.scores.shape)
    return {
        "base": _plain(found.base),
        "free": _plain(found.free),
        "frozen": _plain(found.frozen),
        "top": {
            "layer": int(at[0]),
            "expert": int(at[1]),
            "margin": float(found.free.margin[at]),
            "margin_frozen": float(found.frozen.margin[at]),
            "margin_random": float(controls.random.mean()),
            "margin_usage_matched": float(controls.usage_matched[at]),
            "margin_shuffled": float(controls.shuffled[at]),
            "refusal": float(found.free.refusal[at]),
            "accuracy": float(found.free.accuracy[at]),
        },
    }


def margin_parts(e: Evidence) -> dict:
    """Mean parts of the refusal margin, of hazards and of twins, in nats; heads and experts summed
    over each layer."""
    return {
        name: {
            "embedding": float(parts.embedding_B.mean()),
            "heads": parts.heads_LHB.sum(1).mean(-1).tolist(),
            "experts": parts.experts_LEB.sum(1).mean(-1).tolist(),
            "margin": float(parts.margin_B.mean()),
        }
        for name, parts in zip(("hazards", "twins"), direct_logit_attribution.parts(e), strict=True)
    }


def patched_places(e: Evidence) -> dict:
    """Shares [L, T] of the margin's difference that one layer and position carries, by tap."""
    some = _some(e, slice(PATCHED))
    return {
        tap: {"removed": patched.removed.tolist(), "restored": patched.restored.tolist()}
        for tap, patched in patching.patch_each(some, TAPS, "LT").items()
    }


def halves(e: Evidence) -> tuple[Evidence, Evidence]:
    """The first half of the pairs, and the second."""
    half = len(e.hazards.answer_B) // 2
    return _some(e, slice(half)), _some(e, slice(half, 2 * half))


def _some(e: Evidence, part: slice) -> Evidence:
    """Some of the pairs."""
    hazards, twins = (
        world.Prompts(*(x[part] for x in prompts)) for prompts in (e.hazards, e.twins)
    )
    return dataclasses.replace(e, hazards=hazards, twins=twins)


def _plain(values: NamedTuple) -> dict:
    """Nested named tuples of numbers and arrays as dicts of numbers and lists."""
    return {
        name: _plain(value) if isinstance(value, tuple) else np.asarray(value).tolist()
        for name, value in values._asdict().items()
    }
