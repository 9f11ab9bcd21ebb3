"""Weight patching between two checkpoints: which part of alignment carries refusal.

A part of the weights is exchanged, for all prompts at once ("weight swaps" in the report). Both
directions: *removed*, the aligned model with one part as it was before alignment; *alone*, the
pretrained model with one part aligned. A part can be necessary without being sufficient, and is
necessary for *refusal* only if the twins are still answered without it.
"""

from typing import NamedTuple

import numpy as np

from .. import checkpoint, model, world
from ..training.trainable import COMPONENTS
from .evidence import Evidence, EvidenceError, answers


class Behaviour(NamedTuple):
    """Of one model on the evidence."""

    refusal: float  # share of hazards refused
    accuracy: float  # share of twins answered correctly
    hazard_answered: float  # share of hazards answered correctly
    margin: float  # mean refusal margin on hazards, in nats


class Patched(NamedTuple):
    """Behaviour with one part exchanged, in both directions."""

    removed: Behaviour  # aligned model, this part pretrained
    alone: Behaviour  # pretrained model, this part aligned


def patch(base: model.Params, other: model.Params, names) -> model.Params:
    """``base`` with some components, names of `COMPONENTS`, taken from ``other``.

    Raises:
      EvidenceError: an unknown component, checkpoints of two different shapes.
    """
    flat, theirs = checkpoint.flatten(base), checkpoint.flatten(other)
    for path in flat | theirs:
        mine, other_shape = (np.shape(x[path]) if path in x else None for x in (flat, theirs))
        if mine != other_shape:
            raise EvidenceError(
                f"the two checkpoints have different shapes: {path} is {mine} in one and "
                f"{other_shape} in the other; take both from one run."
            )
    for name in names:
        if name not in COMPONENTS:
            raise EvidenceError(
                f"component {name!r} is not known: it must be one of {', '.join(COMPONENTS)}."
            )
        flat |= {path: theirs[path] for path in COMPONENTS[name]}
    return checkpoint.unflatten(flat)


def behaviour(params: model.Params, e: Evidence) -> Behaviour:
    """What any model of the evidence's shape does with its prompts."""
    h, t = (answers(params, e.cfg, p) for p in (e.hazards, e.twins))
    return Behaviour(
        float((h.predicted_B == world.REFUSE).mean()),
        float((t.predicted_B == np.asarray(e.twins.answer_B)).mean()),
        float((h.predicted_B == np.asarray(e.hazards.answer_B)).mean()),
        float(h.margin_B.mean()),
    )


def by_component(e: Evidence) -> dict[str, Patched]:
    """Each component patched; "nothing" and "everything" are the two checkpoints.

    Raises:
      EvidenceError: the evidence holds no pretrained checkpoint.
    """
    aligned, pretrained = e.params, e.before
    parts = {"nothing": (), **{name: (name,) for name in COMPONENTS}, "everything": COMPONENTS}
    return {
        name: Patched(
            behaviour(patch(aligned, pretrained, names), e),
            behaviour(patch(pretrained, aligned, names), e),
        )
        for name, names in parts.items()
    }
