"""The table of attacks: which rival at which budget, in which order, of which family."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from toymoe.attacks import attacker, catalogue, tuning
from toymoe.attacks.catalogue import Attack
from toymoe.attacks.family import Family
from toymoe.config import Config, ConfigError, build


def names(cfg):
    return [(attack.name, n) for attack, n in catalogue.plan(cfg)]


def nothing(a, n):
    """An attack that changes nothing."""
    return a.changed(a.params)


def test_the_plan_covers_every_rival_at_every_budget(small):
    plan = names(small)
    assert len(set(plan)) == len(plan)
    for method in ("raset", "random_experts", "usage_matched", "silenced", "masked"):
        assert {b for m, b in plan if m == method} == {1, 2, 4}
    for method in ("all_experts", "attention_only", "router_only", "full_tuning"):
        assert any(m == method for m, _ in plan)
    for method in ("raset", "router_only", "full_tuning"):
        assert any(m == f"free_{method}" for m, _ in plan)


def closing(cfg):
    """The attacks that leave each token its experts."""
    closing = ("masked", "steering_off_raset")
    return [(attack, n) for attack, n in catalogue.plan(cfg) if attack.name in closing]


@pytest.mark.parametrize(
    ("settings", "masked", "off"),
    [
        ({"model.layers": 1}, [1, 2, 4], []),  # 8 experts, of which each token takes 2
        ({"model.layers": 2}, [1, 2, 4, 8], [8]),
        ({"model.top_k": 8}, [], []),
    ],
)
def test_no_more_experts_are_closed_than_can_be(settings, masked, off):
    cfg = build("smoke", overrides=settings)
    attacks = closing(cfg)
    assert [n for attack, n in attacks if attack.name == "masked"] == masked
    assert [n for attack, n in attacks if attack.name == "steering_off_raset"] == off
    shape = (cfg.model.layers, cfg.model.experts)
    told = SimpleNamespace(
        cfg=cfg, params=None, scores=lambda _: np.random.default_rng(0).random(shape)
    )
    for attack, n in attacks:
        attack.run(told, n)
    assert len(set(names(cfg))) == len(names(cfg))


def test_the_default_plan_closes_at_every_budget():
    assert [(attack.name, n) for attack, n in closing(Config())] == [
        ("steering_off_raset", 8),
        *(("masked", n) for n in (1, 2, 4, 8)),
    ]
    assert catalogue.table(Config())["expert_directions"].budgets == (8, 54)


def test_controls_take_turns_with_what_they_stand_beside():
    plan = names(Config())
    assert plan[:7] == [
        ("none", 0),
        ("raset", 1), ("random_experts", 1), ("usage_matched", 1),
        ("raset", 2), ("random_experts", 2), ("usage_matched", 2),
    ]  # fmt: skip
    steered = [n for name, n in plan if name == "steering_off_responses"]
    at = plan.index(("steering_off_responses", 1))
    assert plan[at : at + 5] == [("steering_off_responses", n) for n in (1, 2, 4, 8, 16)]
    assert steered == [1, 2, 4, 8, 16]


def test_a_row_without_budgets_is_for_who_picks_it_by_name():
    picked = ("tuned_by_usage_on_hazards", "steering_off_twins")
    table = catalogue.table(Config())
    assert [name for name, row in table.items() if not row.budgets] == list(picked)
    assert not {name for name, _ in names(Config())} & set(picked)


@pytest.mark.parametrize("family", ["", None, "RASET"])
def test_a_rival_without_a_family_is_an_error_in_one_sentence(family):
    with pytest.raises(
        ConfigError, match=r"'mine' has family .* it must be one of untouched, RASET"
    ):
        Attack("mine", family, (1,), nothing)
    assert Attack("mine", Family.RASET, (1,), nothing).name == "mine"


def test_every_row_is_in_one_family_and_every_family_has_rows():
    families = catalogue.families(Config())
    assert list(families) == list(Family) and all(families.values())
    members = [name for names in families.values() for name in names]
    assert sorted(members) == sorted(catalogue.table(Config()))
    assert families["untouched"] == ["none"]


def test_free_tuning_differs_in_the_routing_term_alone(organism, e, monkeypatch):
    asked = []

    def tune(params, trainable, prompts, cfg, key, schedule):
        asked.append((trainable, schedule))
        return params

    monkeypatch.setattr(tuning, "tune", tune)
    monkeypatch.setattr(attacker.lora, "share", lambda *_: 0.0)
    a = attacker.Attacker(organism, e, None, jax.random.key(0))
    table = catalogue.table(organism.cfg)
    (n,) = table["free_raset"].budgets
    assert n in table["raset"].budgets
    for method in ("raset", "free_raset"):
        table[method].run(a, n)
    (held, schedule), (free, other) = asked
    np.testing.assert_array_equal(held.experts, free.experts)
    assert schedule.route > 0 and other == dataclasses.replace(schedule, route=0.0)


@pytest.mark.parametrize(
    ("name", "by", "sign"),
    [("both_twins", "twins", 0), ("off_answer", "answer", 1), ("on_responses", "responses", -1)],
)
def test_steering_goes_by_the_sign_of_the_risk_difference(monkeypatch, name, by, sign):
    """By hand: of these experts the largest are switched, off where refusal selects them."""
    rd_LE = np.array([[0.5, -0.9, 0.1], [-0.2, 0.0, 0.3]])
    size_LE = np.abs(rd_LE) if sign == 0 else sign * rd_LE
    chosen = set(np.argsort(-size_LE, None, kind="stable")[:2].tolist())
    asked = []
    monkeypatch.setattr(catalogue.steering, "steered", lambda *given: asked.append(given[3:5]))
    cfg = build("smoke")
    told = SimpleNamespace(cfg=cfg, params=None, risk_differences={by: rd_LE})
    catalogue.table(cfg)[f"steering_{name}"].run(told, 2).predictor(None)
    ((on_LE, off_LE),) = asked
    off = {i for i in chosen if sign == 1 or (sign == 0 and rd_LE.flat[i] >= 0)}
    assert set(np.flatnonzero(off_LE).tolist()) == off
    assert set(np.flatnonzero(on_LE).tolist()) == chosen - off
