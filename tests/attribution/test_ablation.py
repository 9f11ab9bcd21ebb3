"""Ablation, against surgery on the parameters and edited runs."""

import numpy as np
import pytest
from surgery import forward, said, values, with_expert

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
        for free, fixed, routed in zip(result.free, result.frozen, result.routed, strict=True):
            np.testing.assert_array_equal(routed, free - fixed)
        assert np.abs(result.routed.margin[:-1]).max() > 1e-3  # some goes through the route
        assert (result.routed.margin[-1] == 0).all()  # and none where no route follows
    assert found.base.margin == pytest.approx(said(e.params, e.cfg, e.hazards)[0].mean(), abs=1e-4)


def test_one_aligned_expert_alone_is_surgery_on_the_pretrained_model(trained):
    found = ablation.align_alone(trained)
    theirs = trained.params["layers"]["experts"]
    for at in ((0, 1), (1, 3)):
        changed = with_expert(trained.pretrained, *at, theirs)
        expected = values(trained.pretrained, trained) - values(changed, trained)
        np.testing.assert_allclose([part[at] for part in found.free], expected, atol=1e-4)
