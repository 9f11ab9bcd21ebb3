"""Methods, against slow averages, finite differences, formulas and planted seats."""

import dataclasses
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from surgery import N, forward, into_experts, reader, said, speaker, toward_refusal

from toymoe import world
from toymoe.attacks import raset
from toymoe.attribution import CRITERION, REFERENCE, choice, methods, removal
from toymoe.attribution.evidence import EvidenceError
from toymoe.config import ConfigError
from toymoe.model import taps
from toymoe.validation import asked, scoring


def test_sensitivity_is_the_slope_of_the_margin_in_a_gate(e):
    found = methods.gate_sensitivity(e)
    used = (e.gates[0] > 0).any((1, 2))
    assert (found[~used] == 0).all()
    step = 0.02
    for layer, x in np.ndindex(*found.shape):
        where = taps.places("gates", e.cfg, e.hazards.tokens_BP, layer=layer, expert=x)
        edits = (taps.Edits(gates=taps.scale(where, np.float32(1 + s))) for s in (step, -step))
        up, down = (said(e.params, e.cfg, e.hazards, edit)[0] for edit in edits)
        # A median over prompts: a later selection may flip within the step.
        slope_B = (up - down) / (2 * step)
        slopes = methods.gate_sensitivities(e)[0][layer, x]
        assert np.median(np.abs(slope_B - slopes)) < 2e-3 + 0.01 * np.abs(slopes).max()
    hazards, twins = methods.gate_sensitivities(e)
    contrast = methods.gate_sensitivity_contrast(e)
    np.testing.assert_allclose(contrast, (hazards - twins).mean(-1), rtol=1e-6)


def test_gate_scores_are_slow_averages(trained):
    e, E = trained, trained.cfg.experts
    routes = [forward(e.params, p.tokens_BP, e.cfg).routes for p in (e.hazards, e.twins)]
    T = e.hazards.tokens_BP.shape[1]
    gate = np.zeros((2, e.cfg.layers, N, E))
    count, at_answer = np.zeros((2, e.cfg.layers, E)), np.zeros((e.cfg.layers, E))
    for i, route in enumerate(routes):
        for place in np.ndindex(route.experts_LBTA.shape):
            layer, b, t, _ = place
            x = int(route.experts_LBTA[place])
            gate[i, layer, b, x] += float(route.gates_LBTA[place]) / T
            count[i, layer, x] += 1 / (N * T)
            at_answer[layer, x] += (i == 0 and t == T - 1) / N
    change = gate[0] - gate[1]
    stable = np.abs(change.mean(1)) / (change.std(1) + 1e-3)
    for name, expected in {
        "usage": at_answer,
        "risk_difference": count[0] - count[1],
        "gate_contrast": change.mean(1),
        "gate_contrast_stable": stable,
    }.items():
        np.testing.assert_allclose(methods.METHODS[name](e), expected, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(methods.token_share(e), count[0], atol=1e-6)


class Told:
    """Evidence whose gates are what the test says."""

    def __init__(self, gates):
        self.gates = gates


def test_our_reading_is_its_formula(monkeypatch):
    rng = np.random.default_rng(0)
    h, t = rng.normal(size=(2, 3, 4, 50))
    monkeypatch.setattr(methods, "gate_sensitivities", lambda e: (h, t))
    scores = methods.contrastive_routing_sensitivity(None)
    sd = max((h - t)[x, y].std() for x in range(3) for y in range(4))
    for x in range(3):
        for y in range(4):
            change = h[x, y] - t[x, y]
            assert scores[x, y] == pytest.approx(change.mean() / (change.std() + 1e-3 * sd))


def test_our_reading_prefers_the_steady_expert_and_sees_nothing_in_equal_twins(monkeypatch):
    rng = np.random.default_rng(0)
    h = 0.1 * rng.normal(size=(2, 4, 200))
    t = h.copy()
    h[0, 1] += 1  # on every hazard
    h[1, 2, :20] += 20  # more in the mean, on one hazard in ten
    monkeypatch.setattr(methods, "gate_sensitivities", lambda e: (h, t))
    scores = methods.contrastive_routing_sensitivity(None)
    assert scores.argmax() == 1 and scores[0, 1] > 3 * scores[1, 2] > 0
    monkeypatch.setattr(methods, "gate_sensitivities", lambda e: (t, t))
    np.testing.assert_array_equal(methods.contrastive_routing_sensitivity(None), 0)


def test_bootstrap_intersection_is_sure_of_the_planted_and_of_nothing_else():
    rng = np.random.default_rng(0)
    t = rng.normal(size=(1, 60, 2, 8))
    h = t + 0.1 * rng.normal(size=t.shape)
    h[0, :, :, 3] += 1
    share_LE = methods.gate_contrast_bootstrap(Told((h, t)))
    assert share_LE[0, 3] == 1 and np.delete(share_LE[0], 3).max() < 1
    assert share_LE.sum() == pytest.approx(2)  # a quarter of eight experts in every resample


def test_an_unknown_method_is_an_error():
    with pytest.raises(ConfigError, match="did you mean 'gate_contrast'"):
        methods.named("gate_contrasts")


def test_a_row_is_all_it_takes(trained, monkeypatch):
    """A student's method is scored by its name, and an attack chooses by it."""

    def mine(e):
        return np.eye(2, 5) * [[2], [1]] * (e is trained)

    monkeypatch.setitem(methods.METHODS, "mine", mine)
    found = {
        name: scoring.of_method(method, trained, ("expert 0.0",))
        for name, method in asked.load("mine").functions.items()
    }
    assert found["mine"]["hit_1"] == 1 and found["mine"]["found"]
    assert not found["random"]["found"]
    attacker = raset.Attacker(None, trained, None, jax.random.key(0))
    chosen = choice.highest(attacker.scores("mine"), 2)
    assert np.argwhere(chosen).tolist() == [[0, 0], [1, 1]]


def test_the_methods_held_against_others_are_rows():
    assert {REFERENCE, CRITERION} <= set(methods.METHODS)


def test_the_page_names_every_method_and_no_other():
    page = (Path(__file__).parents[2] / "docs/methods.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page, re.M)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(methods.METHODS)


def plant(e, layer, expert, strength):
    """A model without refusal in which one expert, where selected, says REFUSE."""
    experts = {k: np.array(v) for k, v in e.pretrained["layers"]["experts"].items()}
    unembed = np.asarray(e.pretrained["unembed"])
    toward_D = unembed[:, world.REFUSE] - unembed[:, np.unique(e.hazards.answer_B)].mean(1)
    # Only |hidden| is known to be positive, so the hidden units are made so: up = gate.
    gate = experts["gate_up"][layer, expert][:, : experts["down"].shape[2]]
    experts["gate_up"][layer, expert] = np.concatenate([gate, gate], 1)
    experts["down"][layer, expert] = strength * toward_D / len(gate.T)
    return e.pretrained | {"layers": e.pretrained["layers"] | {"experts": experts}}


def test_methods_find_a_planted_expert_and_nothing_where_nothing_is(trained):
    usage = methods.usage(dataclasses.replace(trained, params=trained.pretrained))
    seat = (1, int(usage[1].argmax()))  # used at ANS, or it could not speak there
    planted = dataclasses.replace(trained, params=plant(trained, *seat, 30.0))
    sham = dataclasses.replace(trained, params=trained.pretrained)
    for name in ("ablation_zero", "decomposition", "gate_sensitivity", "swap_removed"):
        method = methods.METHODS[name]
        assert np.unravel_index(method(planted).argmax(), (2, 5)) == seat, name
        assert method(planted).max() > 2 * method(sham).max(), name
    assert np.abs(methods.METHODS["swap_removed"](sham)).max() < 1e-5  # but for rounding
    assert (methods.METHODS["weight_change"](sham) == 0).all()
    changed = methods.METHODS["weight_change"](planted)
    assert np.flatnonzero(changed).tolist() == [np.ravel_multi_index(seat, (2, 5))]


def test_what_is_said_and_what_is_selected_are_told_apart(trained):
    """A seat that reads hazards, selected alike on hazards and twins; and one that says REFUSE
    always, which the router picks on hazards alone."""
    layers, seat = trained.pretrained["layers"], (1, 3)
    router = np.array(layers["router"])
    router[1] = 0
    flat = trained.pretrained | {"layers": layers | {"router": router}}
    every = dataclasses.replace(trained.cfg, top_k=trained.cfg.experts)
    e = dataclasses.replace(trained, params=flat, cfg=every)
    hazard_D, refusal_D = reader(flat, e, 1), 10 * toward_refusal(flat, e)
    says = dataclasses.replace(e, params=speaker(flat, *seat, 5 * hazard_D, hazard_D, refusal_D))

    hazard_D = reader(trained.pretrained, trained, 1)
    read = [into_experts(flat, trained.cfg, p.tokens_BP, 1)[:, -1] for p in both(trained)]
    always_D = np.linalg.lstsq(np.concatenate(read), np.ones(2 * N), rcond=None)[0]
    router = np.array(layers["router"])
    router[1, :, seat[1]] = 20 * hazard_D
    picked = trained.pretrained | {"layers": layers | {"router": router}}
    picked = speaker(picked, *seat, 3 * always_D, always_D, refusal_D)
    routed = dataclasses.replace(trained, params=picked)

    found = {
        name: (methods.METHODS[name](says), methods.METHODS[name](routed))
        for name in (
            "resample_removed", "resample_restored", "resample_both", "resample_other",
            "attribution_patching", "route_removed", "route_restored",
        )
    }  # fmt: skip
    for name, (of_said, of_routed) in found.items():
        of_seat, of_other = (of_routed, of_said) if "route" in name else (of_said, of_routed)
        assert np.unravel_index(of_seat.argmax(), (2, 5)) == seat, name
        if name != "resample_other":  # which draws prompts that are selected otherwise, too
            assert of_other[seat] < 0.2 * of_seat[seat], name
    both_ways = found["resample_removed"][0] + found["resample_restored"][0]
    np.testing.assert_allclose(found["resample_both"][0], both_ways, atol=1e-5)


def both(e):
    return e.hazards, e.twins


def test_an_expert_set_back_is_one_thing_under_two_programs(trained):
    for way, name in (("set_back", "swap_removed"), ("silenced", "ablation_zero")):
        scores = methods.METHODS[name](trained)
        np.testing.assert_allclose(removal.alone(trained, way), scores, atol=1e-4)
        assert scores.std() > 0.01


def test_every_method_scores_every_expert(trained):
    bare = dataclasses.replace(trained, pretrained=None)
    for name, method in methods.METHODS.items():
        scores = method(trained)
        assert scores.shape == (2, 5) and np.isfinite(scores).all() and scores.std() > 0, name
        np.testing.assert_array_equal(method(trained), scores)
        if name in ("swap_removed", "swap_alone", "shapley", "weight_change"):
            with pytest.raises(EvidenceError, match="no pretrained checkpoint"):
                method(bare)
    free, frozen = (methods.METHODS[f"ablation_zero{x}"](trained) for x in ("", "_frozen"))
    assert (free[1] == frozen[1]).all() and (free[0] != frozen[0]).any()
