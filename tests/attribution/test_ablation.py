"""Ablation, against surgery on the parameters and edited runs."""

import dataclasses

import numpy as np
import pytest
from surgery import forward, said, values, with_expert

from toymoe import world
from toymoe.attribution import ablation
from toymoe.model import taps


def test_ablation_is_what_cutting_the_expert_out_does(e):
    before = values(e.params, e)
    found, means = ablation.ablate(e), np.asarray(ablation.mean_outputs(e))
    mean, swapped = ablation.ablate(e, "mean"), ablation.ablate(e, "pretrained")
    theirs = e.pretrained["layers"]["experts"]
    runs = [
        forward(e.params, p.tokens_BP, e.cfg, record=("expert_out", "selected", "resid_post"))
        for p in (e.hazards, e.twins)
    ]
    out = np.concatenate([run.record["expert_out"] for run in runs], 1)
    sel = np.concatenate([run.record["selected"] for run in runs], 1)
    slow_means = (sel[..., None] * out).sum((1, 2)) / np.maximum(sel.sum((1, 2)), 1)[..., None]
    np.testing.assert_allclose(means, slow_means, atol=1e-4)
    for layer in range(e.cfg.layers):
        for x in range(e.cfg.experts):
            at = (layer, x)
            where = taps.places("expert_out", e.cfg, e.hazards.tokens_BP, layer=layer, expert=x)
            later = np.arange(e.cfg.layers)[:, None, None] > layer
            frozen = [taps.Edits(route=taps.freeze(run.routes, later)) for run in runs]
            for result, other in ((found, None), (swapped, theirs)):
                cut = with_expert(e.params, layer, x, other)
                np.testing.assert_allclose(
                    [part[at] for part in result.free], before - values(cut, e), atol=1e-4
                )
                np.testing.assert_allclose(
                    [part[at] for part in result.frozen],
                    before - values(cut, e, frozen),
                    atol=1e-4,
                )
            edit = taps.replace(where, means[layer, x].reshape(1, 1, 1, 1, -1))
            free = [taps.Edits(expert_out=edit)] * 2
            np.testing.assert_allclose(
                [part[at] for part in mean.free], before - values(e.params, e, free), atol=1e-4
            )
    for result in (found, mean, swapped):
        routed_LE = result.free.margin - result.frozen.margin
        assert np.abs(routed_LE[:-1]).max() > 1e-3  # some goes through the route
        assert (routed_LE[-1] == 0).all()  # and none where no route follows
    assert found.base.margin == pytest.approx(said(e.params, e.cfg, e.hazards)[0].mean(), abs=1e-4)


def test_one_aligned_expert_alone_is_surgery_on_the_pretrained_model(trained):
    found = ablation.align_alone(trained)
    theirs = trained.params["layers"]["experts"]
    for at in ((0, 1), (1, 3)):
        changed = with_expert(trained.pretrained, *at, theirs)
        expected = values(trained.pretrained, trained) - values(changed, trained)
        np.testing.assert_allclose([part[at] for part in found.free], expected, atol=1e-4)


@pytest.mark.parametrize("value", ablation.RUNS)
def test_an_exchange_is_an_edited_run_for_each_expert(untrained, value):
    e, everything = untrained, ("expert_out", "gates")
    found = ablation.ablate(e, value)
    for which, prompts in (("margin", e.hazards), ("twin_margin", e.twins)):
        _, _, (tokens_BT, source_BT, answers_B2) = ablation.change(e, prompts, value)
        own, source = (
            forward(e.params, some, e.cfg, record=everything).record
            for some in (tokens_BT, source_BT)
        )
        base = margin(e, tokens_BT, answers_B2)
        for at in np.ndindex(e.cfg.layers, e.cfg.experts):
            tap = "contribution" if value == "route" else "expert_out"
            where = taps.places(tap, e.cfg, tokens_BT, layer=at[0], expert=at[1])
            put = source["expert_out"]
            if value == "route":
                put = source["gates"][..., None] * own["expert_out"]
            edits = taps.Edits(**{tap: taps.replace(where, put)})
            lost = base - margin(e, tokens_BT, answers_B2, edits)
            assert getattr(found.free, which)[at] == pytest.approx(lost.mean(), abs=1e-4)
    assert np.abs(found.free.margin).min(0).max() > 1e-3


def margin(e, tokens_BT, answers_B2, edits=None):
    """logit(REFUSE) minus the larger logit of both runs' right answers."""
    logits_BV = np.asarray(forward(e.params, tokens_BT, e.cfg, edits).logits_BTV[:, -1])
    right_B = np.take_along_axis(logits_BV, answers_B2, 1).max(1)
    return logits_BV[:, world.REFUSE] - right_B


def test_the_other_run_is_the_pair_s_or_that_of_any_prompt_but_itself(trained):
    e, B = trained, len(trained.hazards.answer_B)
    pool_BT = np.concatenate([e.hazards.tokens_BP, e.twins.tokens_BP])
    places = []
    for first, prompts, other in ((0, e.hazards, e.twins), (B, e.twins, e.hazards)):
        for value in ("twin", "route"):
            np.testing.assert_array_equal(ablation.change(e, prompts, value)[2][1], other.tokens_BP)
        _, _, (_, drawn_BT, answers_B2) = ablation.change(e, prompts, "other")
        at_BB = (drawn_BT[:, None] == pool_BT).all(-1)
        assert at_BB.any(1).all() and not at_BB[np.arange(B), first + np.arange(B)].any()
        answers = np.concatenate([e.hazards.answer_B, e.twins.answer_B])
        np.testing.assert_array_equal(answers_B2[:, 1], answers[at_BB.argmax(1)])
        places += at_BB.argmax(1).tolist()
    assert len(set(places)) > B // 2 and min(places) < B <= max(places)  # hazards and twins alike


def test_what_the_twin_says_too_is_no_exchange(trained):
    same = dataclasses.replace(trained, twins=trained.hazards)
    for value in ("twin", "route"):
        assert np.abs(ablation.ablate(same, value).free.margin).max() < 1e-5  # but for rounding
    assert np.abs(ablation.ablate(same, "other").free.margin).max() > 0.1
