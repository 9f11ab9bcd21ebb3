"""Patching, against one edited run for each place."""

import dataclasses

import numpy as np
import pytest
from surgery import N, forward

from toymoe import world
from toymoe.attribution import patching
from toymoe.model import taps


def pair_margin(e, tokens_BT, edits=None):
    logits_BV = np.asarray(forward(e.params, tokens_BT, e.cfg, edits).logits_BTV[:, -1])
    rows, h, t = np.arange(N), *(np.asarray(p.answer_B) for p in (e.hazards, e.twins))
    return logits_BV[:, world.REFUSE] - np.maximum(logits_BV[rows, h], logits_BV[rows, t])


def test_patching_everything_gives_the_twin_and_patching_what_comes_too_late_gives_nothing(e):
    margins = [pair_margin(e, p.tokens_BP).mean() for p in (e.hazards, e.twins)]
    everything = patching.patch(e, "resid_pre", "")
    np.testing.assert_allclose([everything.removed, everything.restored], 1, rtol=1e-5)
    np.testing.assert_allclose(everything.margin, margins, atol=1e-4)
    places = patching.patch(e, "resid_post", "LT")
    assert places.removed.shape == (e.cfg.layers, e.hazards.tokens_BP.shape[1])
    verb = places.removed.shape[1] - 3
    for share in (places.removed, places.restored):
        assert share[-1, -1] == pytest.approx(1, rel=1e-5)  # the last stream at ANS is all there is
        assert (share[-1, :-1] == 0).all() and (share[:, :verb] == 0).all()
        assert share[0, verb] != 0


def test_patching_a_prompt_from_itself_gives_nothing(trained):
    same = dataclasses.replace(trained, twins=trained.hazards)
    found = patching.patch(same, "resid_post", "LT")
    assert (found.removed == 0).all() and (found.restored == 0).all()


@pytest.mark.parametrize(
    ("tap", "over"),
    [("head_out", "LH"), ("expert_out", "LE"), ("selected", "LT"), ("pattern", "LT")],
)
def test_patching_is_one_edited_run_for_each_place(tap, over, untrained):
    e = untrained
    found = patching.patch(e, tap, over)
    h, t = (p.tokens_BP for p in (e.hazards, e.twins))
    source = forward(e.params, t, e.cfg, record=(tap,))
    base, other = pair_margin(e, h), pair_margin(e, t)
    words = {"L": "layer", "H": "head", "E": "expert", "T": "position"}
    for place in np.ndindex(found.removed.shape):
        at = {words[letter]: i for letter, i in zip(over, place, strict=True)}
        if tap == "selected":
            where = taps.places("route", e.cfg, h, **at)
            edits = taps.Edits(route=taps.freeze(source.routes, where, gates=False))
        else:
            where = taps.places(tap, e.cfg, h, **at)
            edits = taps.Edits(**{tap: taps.replace(where, source.record[tap])})
        share = (base - pair_margin(e, h, edits)).mean() / (base - other).mean()
        assert found.removed[place] == pytest.approx(share, abs=1e-3)
    if tap == "pattern":  # keys before the verb, seen by queries after it
        assert np.abs(found.removed[:, :-3]).max() > 0.01
