"""Attribution patching: exact where the margin is linear, and said to be wrong where it is not."""

import dataclasses

import numpy as np
import pytest

from toymoe.attribution import ablation, attribution_patching, methods
from toymoe.attribution.attribution_patching import Faithfulness


def with_constant_scale(params):
    """A model whose norms divide by a number that nothing changes: one direction of the stream is
    very large and constant, and nobody reads or writes it."""
    large, width = 1e4, params["embed"].shape[1]
    layers = {k: np.array(v) for k, v in params["layers"].items() if k != "experts"}
    layers["experts"] = {k: np.array(v) for k, v in params["layers"]["experts"].items()}
    made = {k: np.array(v) for k, v in params.items() if k != "layers"} | {"layers": layers}
    made["embed"][:, 0] = large
    layers["out"][..., 0] = layers["experts"]["down"][..., 0] = 0
    for norm in (made["final_norm"], layers["attention_norm"], layers["moe_norm"]):
        norm *= large / width**0.5
        norm[..., 0] = 0
    return made


def test_it_is_exact_where_the_margin_is_linear_and_not_elsewhere(trained):
    # One right answer for both, or the larger of two would be a bend.
    twins = trained.twins._replace(answer_B=trained.hazards.answer_B)
    params = with_constant_scale(trained.params)
    e = dataclasses.replace(trained, params=params, twins=twins)
    for value in ("twin", "zero"):
        found = attribution_patching.estimate(e, value)
        true = ablation.ablate(e, value).free.margin
        np.testing.assert_allclose(found[-1], true[-1], atol=1e-3 * np.abs(true[-1]).max())
        assert np.abs(true[-1]).max() > 0.1
        # The last layer's experts stand between the first's and the margin.
        assert np.abs(found[0] - true[0]).max() > 0.05 * np.abs(true[0]).max()


def test_silenced_it_is_the_sensitivity_of_the_gate(trained):
    """Two derivatives that share no line of code: by the gate, and by the stream."""
    for found, known in zip(
        attribution_patching.estimates(trained, "zero"),
        methods.gate_sensitivities(trained),
        strict=True,
    ):
        np.testing.assert_allclose(found, known, atol=1e-4 * np.abs(known).max())


def test_faithfulness_is_what_a_straight_line_says(trained):
    found = attribution_patching.estimate(trained).ravel()
    true = ablation.ablate(trained, "twin").free.margin.ravel()
    said = attribution_patching.faithfulness(trained)
    slope = ((found - found.mean()) * (true - true.mean())).sum() / found.var() / found.size
    ranks = [x.argsort().argsort() for x in (found, true)]
    assert said.slope == pytest.approx(slope, rel=1e-3)
    assert said.correlation == pytest.approx(np.corrcoef(found, true)[0, 1], rel=1e-3)
    if len({*found}) == len({*true}) == found.size:
        assert said.rank == pytest.approx(np.corrcoef(*ranks)[0, 1], rel=1e-3)


def test_where_nothing_differs_nothing_is_faithful(trained):
    same = dataclasses.replace(trained, twins=trained.hazards)
    assert np.abs(attribution_patching.estimate(same)).max() == 0
    assert attribution_patching.faithfulness(same) == Faithfulness(0.0, 0.0, 0.0)
