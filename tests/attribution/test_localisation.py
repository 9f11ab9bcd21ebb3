"""What a run measures inside itself, against whole runs of the model; and where nothing is."""

import json

import jax
import numpy as np
import pytest
from surgery import said

from toymoe import world
from toymoe.attribution import evidence, localisation, patching, weight_patching
from toymoe.model import taps

KEY = jax.random.key(9)


@pytest.fixture(scope="module")
def found(taught):
    return localisation.localise(taught.pretrained, taught.aligned, taught.tables, taught.cfg, KEY)


@pytest.fixture(scope="module")
def e(taught):
    """The same pairs."""
    key = jax.random.split(KEY)[0]
    return evidence.gather(taught.aligned, taught.tables, taught.cfg, key, 24, taught.pretrained)


def test_all_of_it_is_plain_numbers(found, taught):
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["pairs"] == taught.cfg.eval.prompts == 24


def test_swaps_hold_the_two_checkpoints_and_one_swap_by_hand(found, e, taught):
    assert list(found["swaps"]) == ["nothing", *weight_patching.COMPONENTS, "everything"]
    part = taught.aligned["layers"]["qkv"], taught.aligned["layers"]["out"]
    alone = taught.pretrained | {
        "layers": taught.pretrained["layers"] | dict(zip(("qkv", "out"), part, strict=True))
    }
    for params, swap in (
        (taught.aligned, found["swaps"]["nothing"]["removed"]),
        (taught.pretrained, found["swaps"]["nothing"]["alone"]),
        (alone, found["swaps"]["attention"]["alone"]),
    ):
        margin_B, says_B = said(params, e.cfg, e.hazards)
        _, twins_B = said(params, e.cfg, e.twins)
        assert swap == {
            "refusal": pytest.approx((says_B == world.REFUSE).mean()),
            "accuracy": pytest.approx((twins_B == e.twins.answer_B).mean()),
            "hazard_answered": pytest.approx((says_B == e.hazards.answer_B).mean()),
            "margin": pytest.approx(margin_B.mean(), abs=1e-3),
        }


def test_the_expert_that_matters_most_is_the_one_whose_loss_costs_most(found, e):
    maps, top = found["ablation"], found["ablation"]["top"]
    at = (top["layer"], top["expert"])
    where = taps.places("expert_out", e.cfg, e.hazards.tokens_BP, layer=at[0], expert=at[1])
    cut = taps.Edits(expert_out=taps.zero(where))
    before, after = (said(e.params, e.cfg, e.hazards, edits)[0].mean() for edits in (None, cut))
    assert top["margin"] == pytest.approx(before - after, abs=1e-3)
    assert top["margin"] == np.max(maps["free"]["margin"]) == maps["free"]["margin"][at[0]][at[1]]
    assert np.shape(maps["frozen"]["accuracy"]) == (2, 5)
    assert maps["base"]["margin"] == pytest.approx(before, abs=1e-3)
    # Controls: the mean of three others of its layer; of all experts; half of the pairs mirrored.
    others = np.delete(maps["free"]["margin"][at[0]], at[1])
    assert min(others) <= top["margin_usage_matched"] <= max(others) < top["margin"]
    assert top["margin_random"] == pytest.approx(np.mean(maps["free"]["margin"]), abs=0.2)
    twins = maps["free"]["twin_margin"][at[0]][at[1]]
    low, high = sorted((twins, top["margin"]))
    assert low - 0.5 < top["margin_shuffled"] < high + 0.5


def test_parts_sum_to_the_margin(found, e):
    for name, prompts in (("hazards", e.hazards), ("twins", e.twins)):
        part = found["decomposition"][name]
        total = part["embedding"] + sum(part["heads"]) + sum(part["experts"])
        assert total == pytest.approx(part["margin"], abs=1e-3)
        assert part["margin"] == pytest.approx(said(e.params, e.cfg, prompts)[0].mean(), abs=1e-3)


def test_patching_several_taps_in_one_program_is_patching_each(found, e, taught):
    assert list(found["patching"]) == list(localisation.TAPS)
    for tap in localisation.TAPS[1:]:
        alone = patching.patch(e, tap, "LT")
        for way in ("removed", "restored"):
            np.testing.assert_allclose(
                found["patching"][tap][way], getattr(alone, way), atol=1e-4, err_msg=tap
            )
    context = slice(1, 1 + taught.cfg.world.context)  # equal in both: nothing to carry
    for ways in found["patching"].values():
        for values_LT in ways.values():
            assert np.abs(np.array(values_LT)[:, context]).max() < 1e-4
    assert np.abs(found["patching"]["head_out"]["restored"]).max() > 0.1


def test_where_nothing_is_refused_nothing_is_found(taught):
    quiet = localisation.localise(
        taught.pretrained, taught.pretrained, taught.tables, taught.cfg, KEY
    )
    for swap in quiet["swaps"].values():
        assert swap["removed"] == swap["alone"] == quiet["swaps"]["nothing"]["removed"]
        assert swap["alone"]["refusal"] == 0
    assert np.abs(quiet["ablation"]["free"]["refusal"]).max() == 0
    assert quiet["decomposition"]["hazards"]["margin"] < 0
