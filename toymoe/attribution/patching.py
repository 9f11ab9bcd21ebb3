"""Patching: does refusal come along when a part of one run is put into the run of its twin?

A run is repeated with the values of one tap, at one place, taken from the twin's run. How far the
margin follows says how much of the difference between the two that place *carries*. It misleads:

- Carrying is not causing. Every place that the difference passes carries it; the last stream at ANS
  carries all of it in any model.
- Sufficient is not necessary: a place may bring refusal to a harmless twin (``restored``) that the
  hazard can do without (``removed``), or the other way round. So both directions are measured.
- What both prompts share carries nothing, however much refusal needs it.
- A patched run is a mixture that no prompt brings about; what later layers make of it may be
  nobody's mechanism.

The right answers of a pair differ (the verb does, or the topic), so patching measures a margin that
is the same function of the logits for both: logit(REFUSE) minus the larger of the two right
answers' logits.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import model
from ..model import taps
from .evidence import Evidence, by_chunks, refusal_logit_diff

CHUNK = 64


class Patching(NamedTuple):
    """Recovered shares of the margin's difference between hazards and twins, an axis per swept one.

    0: nothing changed; 1: the patched run's margin is the other run's. Ratios of means over pairs.
    """

    removed: np.ndarray  # twin's values in the hazard's run: share of the margin lost
    restored: np.ndarray  # hazard's values in the twin's run: share of the margin gained
    margin: np.ndarray  # mean margin of hazards, of twins, in nats


def patch(e: Evidence, tap: str, over: str = "LT") -> Patching:
    """Patch a tap between hazards and twins, both ways, at every place along some of its axes.

    Along the axes that are not swept, everything is patched at once: ``patch(e, "head_out", "LT")``
    takes all heads together, ``patch(e, "contribution", "LE")`` each expert at all positions.

    Args:
      tap: any tap of `toymoe.model.taps.TAPS`. "selected" patches the selection, and the gates are
        then the run's own probabilities.
      over: letters of the tap's axes to sweep, "" for one patch of everything.

    Raises:
      taps.TapError: an unknown tap, an axis that it does not have or that cannot be swept.
    """
    return patch_each(e, (tap,), over)[tap]


def patch_each(e: Evidence, names: tuple[str, ...], over: str) -> dict[str, Patching]:
    """`patch` of several taps, one at a time, compiled as one program."""
    for tap in names:
        _check_axes(tap, over)
    h, t = e.hazards, e.twins
    first = 0
    if "T" in over and "pattern" not in names:  # its T are keys, which later queries look at
        first = _first_difference(h.tokens_BP, t.tokens_BP)
    answers_B2 = np.stack([h.answer_B, t.answer_B], 1)
    run = partial(_patch, e.params, cfg=e.cfg, names=names, over=over, first=first)
    hazard, removed = map(np.asarray, run(h.tokens_BP, t.tokens_BP, answers_B2))
    twin, restored = map(np.asarray, run(t.tokens_BP, h.tokens_BP, answers_B2))
    before = [(0, 0), *((first * (letter == "T"), 0) for letter in over)]
    removed, restored = (
        np.pad(_share(change, hazard - twin), before)
        for change in (hazard - removed, restored - twin)
    )
    margin = np.array([hazard.mean(), twin.mean()])
    return {tap: Patching(removed[i], restored[i], margin) for i, tap in enumerate(names)}


def _check_axes(tap, over):
    axes = taps.TAPS[taps.known(tap)].axes
    # A selection is patched whole: the k experts of a token.
    have = [x for x in axes if x not in ("BDE" if tap == "selected" else "BD")]
    for letter in over:
        if letter not in have:
            have = ", ".join(have)
            raise taps.TapError(f"{tap} cannot be swept over {letter!r}: choose among {have}.")


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
    shape = (len(names), *(sizes[letter] - first * (letter == "T") for letter in over))
    places = int(np.prod(shape))

    def some(chunk):
        into_BT, from_BT, answers_B2 = chunk
        source = model.forward(params, from_BT, cfg, record=names)

        def patched(place):
            # The unpatched run is one more place, nowhere: the same program, so the same rounding.
            which, *rest = jnp.unravel_index(jnp.minimum(place, places - 1), shape)
            which = jnp.where(place < places, which, -1)
            edits = {}
            for i, tap in enumerate(names):
                where = _mask(tap, which == i, dict(zip(over, rest, strict=True)), sizes, first)
                if tap == "selected":
                    edits["route"] = taps.freeze(source.routes, where[..., 0], gates=False)
                else:
                    edits[tap] = taps.replace(where, source.record[tap])
            out = model.forward_unchecked(params, into_BT, cfg, False, taps.Edits(**edits))
            return refusal_logit_diff(out.logits_BTV[:, -1], answers_B2)

        margins_XB = jax.lax.map(patched, jnp.arange(places + 1))
        return margins_XB[-1], margins_XB[:-1]

    margins_B, patched_XB = by_chunks(some, (into_BT, from_BT, answers_B2), size=CHUNK)
    return margins_B, patched_XB.reshape(*shape, -1)


def _mask(tap, here, indices, sizes, first):
    """Where a tap is patched, if it is the one (``here``): an axis for each of the tap's."""
    axes = taps.TAPS[tap].axes
    where = jnp.broadcast_to(here, (1,) * len(axes))
    for letter, index in indices.items():
        along = jnp.arange(sizes[letter]) == index + first * (letter == "T")
        where = where & along.reshape([-1 if x == letter else 1 for x in axes])
    return where
