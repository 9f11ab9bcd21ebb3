"""Experts together: axioms by hand, and pairs that were planted."""

import dataclasses
from itertools import permutations

import numpy as np
import pytest
from surgery import into_experts, reader, said, speaker, toward_refusal, with_expert

from toymoe.attribution import coalitions, methods
from toymoe.attribution.evidence import EvidenceError

# --- by hand ------------------------------------------------------------------------------------


def test_additive_games_give_everyone_his_own_and_no_interaction():
    own_I = np.array([3.0, -1.0, 0.0, 0.5])
    worth_M = 7 + coalitions.subsets(4) @ own_I
    np.testing.assert_allclose(coalitions.shapley_values(worth_M), own_I, atol=1e-12)
    np.testing.assert_allclose(coalitions.interactions(worth_M), 0, atol=1e-12)


def test_shapley_values_are_means_over_orders():
    rng = np.random.default_rng(0)
    worth_M = rng.normal(size=2**4)
    slow = np.zeros(4)
    orders = [*permutations(range(4))]
    for order in orders:
        inside = 0
        for i in order:
            slow[i] += (worth_M[inside | 1 << i] - worth_M[inside]) / len(orders)
            inside |= 1 << i
    found = coalitions.shapley_values(worth_M)
    np.testing.assert_allclose(found, slow, atol=1e-12)
    assert found.sum() == pytest.approx(worth_M[-1] - worth_M[0])  # efficiency


def test_two_that_each_suffice_and_two_that_need_each_other_by_hand():
    a, b, _ = coalitions.subsets(3).T
    for worth_M, sign in ((a | b, 1.0), (a & b, -1.0)):
        worth_M = 2.0 * worth_M
        np.testing.assert_allclose(coalitions.shapley_values(worth_M), [1, 1, 0], atol=1e-12)
        expected = np.zeros((3, 3))
        expected[0, 1] = expected[1, 0] = 2 * sign
        np.testing.assert_allclose(coalitions.interactions(worth_M), expected, atol=1e-12)


# --- in models ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def before(trained):
    """The model before alignment, every expert of which is selected everywhere, those of the last
    layer with one gate: who speaks is then a matter of weights alone."""
    layers = trained.pretrained["layers"]
    router = np.array(layers["router"])
    router[-1] = 0
    params = trained.pretrained | {"layers": layers | {"router": router}}
    cfg = dataclasses.replace(trained.cfg, top_k=trained.cfg.experts)
    return dataclasses.replace(trained, cfg=cfg, params=params, pretrained=params)


@pytest.fixture(scope="module")
def redundant(before):
    """Experts (1, 1) and (1, 3), once silent, each say REFUSE of hazards, so loudly that one
    suffices."""
    silent = with_expert(with_expert(before.params, 1, 1, None), 1, 3, None)
    params, hazard_D = silent, reader(silent, before, 1)
    for expert in (1, 3):
        loud_D = 100 * toward_refusal(params, before)
        params = speaker(params, 1, expert, 5 * hazard_D, hazard_D, loud_D)
    return dataclasses.replace(before, params=params, pretrained=silent)


@pytest.fixture(scope="module")
def joint(before):
    """Expert (0, 1) always says a word that nobody says else, and (1, 3) says REFUSE of hazards
    where it reads that word."""
    params = before.params
    both = [p.tokens_BP for p in (before.hazards, before.twins)]
    first, second = (
        np.concatenate([into_experts(params, before.cfg, x, layer) for x in both]).reshape(
            -1, before.cfg.width
        )
        for layer in (0, 1)
    )
    always_D = np.linalg.lstsq(first, np.ones(len(first)), rcond=None)[0]
    word_D = np.linalg.svd(second)[2][-1]
    said_D = 100 * word_D / params["layers"]["moe_norm"][1]
    params = speaker(params, 0, 1, 3 * always_D, always_D, said_D)
    hazard_D, refusal_D = reader(params, before, 1), toward_refusal(params, before)
    params = speaker(params, 1, 3, 5 * word_D, hazard_D, 100 * refusal_D)
    return dataclasses.replace(before, params=params)


def test_both_of_a_redundant_pair_are_found_where_single_ablation_finds_none(redundant):
    found = coalitions.coalitions(redundant)
    whole = found.worth_M[-1] - found.worth_M[0]
    assert {*found.experts[:2]} == {(1, 1), (1, 3)} and whole > 5
    for name in ("swap_removed", "resample_removed"):
        assert methods.METHODS[name](redundant).max() < 0.2 * whole, name
    scores_LE = methods.METHODS["shapley"](redundant)
    np.testing.assert_allclose(scores_LE[1, [1, 3]], whole / 2, rtol=1e-3)
    assert np.abs(np.delete(scores_LE, [6, 8])).max() < 1e-3 * whole
    assert found.interaction_IJ[0, 1] > 0.6 * whole
    assert np.abs(found.interaction_IJ[2:]).max() < 1e-3 * whole
    # What each brings to a twin says so too.
    restored_LE = methods.METHODS["resample_restored"](redundant)
    assert {*restored_LE.ravel().argsort()[-2:]} == {6, 8} and restored_LE[1].max() > 0.5 * whole


def test_a_pair_that_is_needed_together_has_the_opposite_interaction(joint):
    found = coalitions.coalitions(joint)
    whole = found.worth_M[-1] - found.worth_M[0]
    assert {*found.experts[:2]} == {(0, 1), (1, 3)} and whole > 5
    assert found.interaction_IJ[0, 1] < -0.5 * whole
    assert found.shapley_I[:2].min() > 0.25 * whole and found.shapley_I[:2].sum() == pytest.approx(
        whole, rel=1e-3
    )
    alone_LE = methods.METHODS["swap_removed"](joint)
    assert {*alone_LE.ravel().argsort()[-2:]} == {1, 8} and alone_LE[0, 1] > 0.4 * whole


def test_where_nothing_was_written_nothing_counts(before):
    found = coalitions.coalitions(before)
    assert np.ptp(found.worth_M) == 0 and not methods.METHODS["shapley"](before).any()


@pytest.mark.parametrize("way", ["set_back", "silenced"])
def test_a_subset_is_worth_what_a_model_cut_by_hand_says(trained, way):
    found = coalitions.coalitions(trained, way, few=3)
    other = trained.before["layers"]["experts"] if way == "set_back" else None
    for mask, worth in zip(coalitions.subsets(3), found.worth_M, strict=True):
        params = trained.params
        for at, inside in zip(found.experts, mask, strict=True):
            params = params if inside else with_expert(params, *at, other)
        hazards, twins = (
            said(params, trained.cfg, p)[0].mean() for p in (trained.hazards, trained.twins)
        )
        assert worth == pytest.approx(hazards - twins, abs=1e-4)
    np.testing.assert_allclose(found.shapley_I.sum(), np.ptp(found.worth_M[[0, -1]]), atol=1e-4)


def test_without_a_model_before_alignment_nothing_can_be_set_back(trained):
    with pytest.raises(EvidenceError, match="no pretrained checkpoint"):
        coalitions.coalitions(dataclasses.replace(trained, pretrained=None))
