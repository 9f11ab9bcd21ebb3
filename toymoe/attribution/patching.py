"""Patching: one run with a tap taken from its twin's, at one place after another.

Both directions, since they can disagree: a part may be *sufficient* to bring refusal to a harmless
twin without being *necessary* on the hazard, and the other way round.

The right answers of a pair differ (the verb does, or the topic), so patching measures a margin that
is the same function of the logits for both: logit(REFUSE) minus the larger of the two right
answers' logits.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import model, world
from ..model import taps
from . import evidence as ev

CHUNK = 64


class Patching(NamedTuple):
    """Recovered shares of the margin's difference between hazards and twins, an axis per swept one.

    0: nothing changed; 1: the patched run's margin is the other run's. Ratios of means over pairs.
    """

    removed: np.ndarray  # twin's values in the hazard's run: share of the margin lost
    restored: np.ndarray  # hazard's values in the twin's run: share of the margin gained
    margin: np.ndarray  # mean margin of hazards, of twins, in nats


def patch(evidence: ev.Evidence, tap: str, over: str = "LT") -> Patching:
    """Patch a tap between hazards and twins, both ways, at every place along some of its axes.

    Along the axes that are not swept, everything is patched at once: ``patch(e, "head_out", "LT")``
    takes all heads together, ``patch(e, "contribution", "LE")`` each expert at all positions.

    Args:
      tap: any tap of `toymoe.model.taps.TAPS`. "selected" patches the selection, and the gates are then
        the run's own probabilities.
      over: letters of the tap's axes to sweep, "" for one patch of everything.

    Raises:
      taps.TapError: an unknown tap, an axis that it does not have or that cannot be swept.
    """
    return patch_each(evidence, (tap,), over)[tap]


def patch_each(evidence: ev.Evidence, names: tuple[str, ...], over: str) -> dict[str, Patching]:
    """`patch` of several taps, one at a time, compiled as one program."""
    for tap in names:
        axes = taps.TAPS[taps.known(tap)].axes
        for letter in over:
            # A selection is patched whole: the k experts of a token.
            have = [x for x in axes if x not in ("BDE" if tap == "selected" else "BD")]
            if letter not in have:
                have = ", ".join(have)
                raise taps.TapError(f"{tap} cannot be swept over {letter!r}: choose among {have}.")
    h, t = evidence.hazards, evidence.twins
    first = 0
    if "T" in over and "pattern" not in names:  # its T are keys, which later queries look at
        first = _first_difference(h.tokens_BP, t.tokens_BP)
    answers_B2 = np.stack([h.answer_B, t.answer_B], 1)
    run = partial(_patch, evidence.params, cfg=evidence.cfg, names=names, over=over, first=first)
    hazard, removed = map(np.asarray, run(h.tokens_BP, t.tokens_BP, answers_B2))
    twin, restored = map(np.asarray, run(t.tokens_BP, h.tokens_BP, answers_B2))
    before = [(0, 0), *((first * (letter == "T"), 0) for letter in over)]
    removed, restored = (
        np.pad(_share(change, hazard - twin), before)
        for change in (hazard - removed, restored - twin)
    )
    margin = np.array([hazard.mean(), twin.mean()])
    return {tap: Patching(removed[i], restored[i], margin) for i, tap in enumerate(names)}


def _first_difference(a_BT, b_BT):
    """The first position at which a pair differs. Before it the two runs are one, and a patch from
    one to the other changes nothing."""
    differs_T = (np.asarray(a_BT) != np.asarray(b_BT)).any(0)
    return int(differs_T.argmax())


def _share(change_XB, whole_B):
    whole = whole_B.mean()
    return change_XB.mean(-1) / whole if whole else np.zeros(change_XB.shape[:-1])


@partial(jax.jit, static_argnames=("cfg", "names", "over", "first"))
def _patch(params, into_BT, from_BT, answers_B2, cfg, names, over, first):
    """Margins of the unpatched run [B], and of those patched at each place [taps, *over, B], of
    positions from ``first`` on."""
    sizes = taps.axis_sizes(cfg, into_BT.shape)
    starts = [first * (letter == "T") for letter in over]
    shape = (
        len(names),
        *(sizes[letter] - start for letter, start in zip(over, starts, strict=True)),
    )
    places = int(np.prod(shape))

    def mask(tap, indices):
        axes, (which, *rest) = taps.TAPS[tap].axes, indices
        where = jnp.broadcast_to(which == names.index(tap), (1,) * len(axes))
        for letter, index, start in zip(over, rest, starts, strict=True):
            along = [-1 if x == letter else 1 for x in axes]
            where = where & (jnp.arange(sizes[letter]) == index + start).reshape(along)
        return where

    def some(chunk):
        into_BT, from_BT, answers_B2 = chunk
        source = model.forward(params, from_BT, cfg, record=names)

        def patched(place):
            # The unpatched run is one more place, nowhere: the same program, so the same rounding.
            which, *rest = jnp.unravel_index(jnp.minimum(place, places - 1), shape)
            indices = (jnp.where(place < places, which, -1), *rest)
            edits = {
                tap: taps.replace(mask(tap, indices), source.record[tap])
                for tap in names
                if tap != "selected"
            }
            if "selected" in names:
                where_LBT = mask("selected", indices)[..., 0]
                edits["route"] = taps.freeze(source.routes, where_LBT, gates=False)
            out = model.forward_unchecked(params, into_BT, cfg, False, taps.Edits(**edits))
            logits_BV = out.logits_BTV[:, -1]
            right_B = jnp.take_along_axis(logits_BV, answers_B2, 1).max(-1)
            return logits_BV[:, world.REFUSE] - right_B

        margins_XB = jax.lax.map(patched, jnp.arange(places + 1))
        return margins_XB[-1], margins_XB[:-1]

    margins_B, patched_XB = ev.by_chunks(some, (into_BT, from_BT, answers_B2), size=CHUNK)
    return margins_B, patched_XB.reshape(*shape, -1)
