"""Experts taken out, against whole runs of models that were cut by hand; and where nothing is."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from surgery import forward, said, with_expert

from toymoe import world
from toymoe.attribution import removal
from toymoe.attribution.localisation import halves
from toymoe.config import ConfigError
from toymoe.model import taps

WAYS = ("set_back", "silenced", "masked")


@pytest.fixture(scope="module")
def curves(trained):
    return removal.curves(*halves(trained), jax.random.key(0))


def cut(e, way, chosen):
    """Parameters and edits of a model without some experts."""
    params, edits = e.params, None
    for layer, expert in chosen:
        if way != "masked":
            other = e.before["layers"]["experts"] if way == "set_back" else None
            params = with_expert(params, layer, expert, other)
    if way == "masked" and len(chosen):
        out_LE = np.zeros((e.cfg.layers, e.cfg.experts), bool)
        out_LE[tuple(np.transpose(chosen))] = True
        edits = taps.Edits(router_logits=taps.replace(out_LE[:, None, None], -1e9))
    return params, edits


@pytest.mark.parametrize("way", WAYS)
def test_what_is_left_is_what_a_model_cut_by_hand_does(trained, curves, way):
    _, measured = halves(trained)
    found, order = curves[way], curves["set_back" if way == "set_back" else "silenced"]["order"]
    for m, count in enumerate(curves["counts"][: len(found["refusal"])][:4]):
        params, edits = cut(trained, way, order[:count])
        _, says_B = said(params, trained.cfg, measured.hazards, edits)
        _, twins_B = said(params, trained.cfg, measured.twins, edits)
        assert found["refusal"][m] == pytest.approx((says_B == world.REFUSE).mean())
        assert found["answered"][m] == pytest.approx((says_B == measured.hazards.answer_B).mean())
        assert found["twins"][m] == pytest.approx((twins_B == measured.twins.answer_B).mean())


@pytest.mark.parametrize("way", removal.WAYS)
def test_the_order_is_that_of_single_effects_on_the_other_half(trained, curves, way):
    ranked, _ = halves(trained)
    base = said(trained.params, trained.cfg, ranked.hazards)[0].mean()
    effect_LE = np.zeros((trained.cfg.layers, trained.cfg.experts))
    for at in np.ndindex(effect_LE.shape):
        params, _ = cut(trained, way, [at])
        effect_LE[at] = base - said(params, trained.cfg, ranked.hazards)[0].mean()
    np.testing.assert_allclose(removal.alone(ranked, way), effect_LE, atol=1e-4)
    assert sorted(map(tuple, curves[way]["order"])) == [*np.ndindex(effect_LE.shape)]
    in_order = effect_LE[tuple(np.transpose(curves[way]["order"]))]
    assert (np.diff(in_order) <= 1e-4).all()
    assert curves[way]["effective"] == pytest.approx(removal.effective(effect_LE), rel=1e-3)


def test_all_set_back_is_the_experts_of_before_and_controls_meet_it_there(trained, curves):
    assert curves["counts"] == [*range(11)] and json.loads(json.dumps(curves)) == curves
    _, measured = halves(trained)
    everywhere = [*np.ndindex(trained.cfg.layers, trained.cfg.experts)]
    for way in removal.WAYS:
        params, _ = cut(trained, way, everywhere)
        _, says_B = said(params, trained.cfg, measured.hazards)
        left = (says_B == world.REFUSE).mean()
        found = curves[way]
        assert found["refusal"][-1] == found["random"]["refusal"][-1] == pytest.approx(left)
        assert found["random"]["refusal"][0] == found["refusal"][0] > 0.5


def test_where_one_expert_alone_was_changed_it_is_the_first_and_the_others_cost_nothing(trained):
    """A model that differs from the one before in expert (1, 3) and nowhere else."""
    after = trained.params["layers"]["experts"]
    made = with_expert(trained.before, 1, 3, after)
    planted = dataclasses.replace(trained, params=made)
    effect_LE = removal.alone(planted, "set_back")
    others = np.delete(effect_LE, 1 * trained.cfg.experts + 3)
    assert effect_LE[1, 3] != 0 and (others == 0).all()


def test_where_nothing_was_changed_nothing_is_found(trained):
    """An expert set back to what it is: no effect, no order, no half of a refusal to lose."""
    same = dataclasses.replace(trained, params=trained.before)
    left = removal.in_order(same, removal.alone(same, "set_back"), "set_back")
    assert not removal.alone(same, "set_back").any() and len(set(left["refusal"])) == 1
    assert left["m50"] is None


def test_experts_set_back_are_those_of_before_and_no_other(trained):
    before = trained.before["layers"]["experts"]
    made = removal.set_back(trained.params, trained.before, [(1, 3), (0, 2)])
    wanted = with_expert(with_expert(trained.params, 1, 3, before), 0, 2, before)
    assert jax.tree.all(jax.tree.map(np.array_equal, made, wanted))
    assert not jax.tree.all(jax.tree.map(np.array_equal, made, trained.params))
    none = removal.set_back(trained.params, trained.before, [])
    assert jax.tree.all(jax.tree.map(np.array_equal, none, trained.params))
    for wrong in ((0, trained.cfg.experts), (trained.cfg.layers, 0), (-1, 0)):
        with pytest.raises(ConfigError, match="does not exist"):
            removal.set_back(trained.params, trained.before, [wrong])


def test_a_layer_keeps_enough_experts_to_choose_from(trained, curves):
    masked = curves["masked"]
    assert 1 < len(masked["refusal"]) < len(curves["counts"])
    first = curves["silenced"]["order"][: curves["counts"][len(masked["refusal"]) - 1]]
    taken = np.bincount([layer for layer, _ in first], minlength=trained.cfg.layers)
    assert trained.cfg.experts - taken.max() >= trained.cfg.top_k
    params, edits = cut(trained, "masked", first)
    experts = forward(params, trained.hazards.tokens_BP, trained.cfg, edits).routes.experts_LBTA
    assert not any((np.asarray(experts[layer]) == expert).any() for layer, expert in first)


def test_half_of_the_refusal_by_hand():
    counts = [0, 1, 2, 5]
    assert removal.m50([1.0, 0.6, 0.5, 0.1], counts) == 2
    assert removal.m50([0.8, 0.41, 0.5, 0.4], counts) == 5
    assert removal.m50([1.0, 0.9, 0.8, 0.6], counts) is None
    assert removal.m50([0.0, 0.0, 0.0, 0.0], counts) is None


def test_effective_number_by_hand():
    assert removal.effective(np.array([[0.0, 3.0], [-5.0, 0.0]])) == 1
    assert removal.effective(np.full((2, 3), 0.7)) == pytest.approx(6)
    assert removal.effective(np.array([3.0, 1.0])) == pytest.approx(16 / 10)
    assert removal.effective(np.zeros((2, 2))) is None


def test_counts_hold_every_small_number_and_all():
    assert removal.counts(4) == [0, 1, 2, 3, 4]
    for experts in (8, 16, 54, 200):
        made = removal.counts(experts)
        assert made[:9] == [*range(9)] and made[-1] == experts and len(made) <= 20
        assert (np.diff(made) > 0).all()


@pytest.mark.parametrize(
    ("few", "random", "said"),
    [
        (9, 27, True),  # at both limits of 54
        (10, 54, False),  # more than a sixth of all
        (9, 26, False),  # more than a third of random ones
        (9, None, True),  # random ones never do
        (None, 30, False),  # nor do any
    ],
)
def test_few_are_few_beside_all_and_beside_random_ones(few, random, said):
    assert removal.sits_in_few({"m50": few, "random": {"m50": random}}, 54) is said
