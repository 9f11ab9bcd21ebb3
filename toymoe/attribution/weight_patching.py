"""Weight swaps between two checkpoints: which part of alignment carries refusal.

Both directions: *removed*, the aligned model with one part as it was before alignment; *alone*, the
pretrained model with one part aligned. A part can be necessary without being sufficient, and is
necessary for *refusal* only if the twins are still answered without it.
"""

from typing import NamedTuple

import numpy as np

from .. import checkpoint, model, world
from ..training.trainable import COMPONENTS
from . import ablation
from . import evidence as ev


class Behaviour(NamedTuple):
    """Of one model on the evidence."""

    refusal: float  # share of hazards refused
    accuracy: float  # share of twins answered correctly
    hazard_answered: float  # share of hazards answered correctly
    margin: float  # mean refusal margin on hazards, in nats


class Swap(NamedTuple):
    """Behaviour with one part exchanged, in both directions."""

    removed: Behaviour  # aligned model, this part pretrained
    alone: Behaviour  # pretrained model, this part aligned


class ExpertSwaps(NamedTuple):
    """Each expert exchanged by itself; see `toymoe.attribution.ablation.Ablation` for the arrays [L, E]."""

    removed: ablation.Ablation  # what the aligned model loses with this expert pretrained
    alone: ablation.Ablation  # what the pretrained model loses with this expert aligned


def swap(base: model.Params, other: model.Params, names) -> model.Params:
    """``base`` with some components, names of `COMPONENTS`, taken from ``other``.

    Raises:
      EvidenceError: an unknown component, checkpoints of two different shapes.
    """
    flat, theirs = checkpoint.flatten(base), checkpoint.flatten(other)
    for path in flat | theirs:
        mine, other_shape = (np.shape(x[path]) if path in x else None for x in (flat, theirs))
        if mine != other_shape:
            raise ev.EvidenceError(
                f"the two checkpoints have different shapes: {path} is {mine} in one and "
                f"{other_shape} in the other; take both from one run."
            )
    for name in names:
        if name not in COMPONENTS:
            raise ev.EvidenceError(
                f"component {name!r} is not known: it must be one of {', '.join(COMPONENTS)}."
            )
        flat |= {path: theirs[path] for path in COMPONENTS[name]}
    return checkpoint.unflatten(flat)


def behaviour(params: model.Params, evidence: ev.Evidence) -> Behaviour:
    """What any model of the evidence's shape does with the evidence."""
    h, t = (ev.speak(params, evidence.cfg, p) for p in (evidence.hazards, evidence.twins))
    return Behaviour(
        float((h.predicted_B == world.REFUSE).mean()),
        float((t.predicted_B == np.asarray(evidence.twins.answer_B)).mean()),
        float((h.predicted_B == np.asarray(evidence.hazards.answer_B)).mean()),
        float(h.margin_B.mean()),
    )


def by_component(evidence: ev.Evidence) -> dict[str, Swap]:
    """The swap of every component; "nothing" and "everything" are the two checkpoints.

    Raises:
      EvidenceError: the evidence holds no pretrained checkpoint.
    """
    aligned, pretrained = evidence.params, evidence.before
    parts = {"nothing": (), **{name: (name,) for name in COMPONENTS}, "everything": COMPONENTS}
    return {
        name: Swap(
            behaviour(swap(aligned, pretrained, names), evidence),
            behaviour(swap(pretrained, aligned, names), evidence),
        )
        for name, names in parts.items()
    }


def by_expert(evidence: ev.Evidence) -> ExpertSwaps:
    """The swap of every single expert's two matrices, its gate being as it is.

    Raises:
      EvidenceError: the evidence holds no pretrained checkpoint.
    """
    aligned, pretrained = evidence.params, evidence.before
    return ExpertSwaps(
        ablation.ablate(evidence, "pretrained"),
        ablation.sweep(pretrained, evidence, aligned["layers"]["experts"], "alone"),
    )
