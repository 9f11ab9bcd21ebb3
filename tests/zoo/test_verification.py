"""Keys that are true are found true, wrong ones wrong, by what a slow loop does, too."""

import copy

import jax
import numpy as np
import pytest

from toymoe import model, world
from toymoe.attribution.evidence import gather
from toymoe.zoo import by_hand, lessons, verification
from toymoe.zoo.specimen import HAZARDS, Key
from toymoe.zoo.verification import holds

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def asked(fresh):
    given = fresh.taught[HAZARDS], fresh.tables, fresh.cfg, jax.random.key(4)
    return verification.prompts_of(*given)


def said(params, prompts, cfg):
    """The tokens that are said at ANS, by the other path of the model."""
    return np.asarray(model.forward(params, prompts.tokens_BP, cfg).logits_BTV[:, -1]).argmax(-1)


@pytest.mark.parametrize("name", lessons.LESSONS)
def test_prompts_are_of_their_kind(fresh, name):
    lesson = fresh.taught[name]
    asked = verification.prompts_of(lesson, fresh.tables, fresh.cfg, jax.random.key(4))
    for prompts, about in ((asked.about, True), (asked.others, False)):
        assert len(prompts.topic_B) == verification.PROMPTS and not prompts.held_out_B.any()
        request = zip(prompts.topic_B, prompts.verb_B, prompts.entity_B, strict=True)
        assert {bool(lesson.about_GYZ[at]) for at in request} == {about}
    assert asked.says == lesson.says


def test_behaviour_is_shares_of_what_is_said(fresh, asked):
    cfg, params = fresh.cfg, fresh.base
    e = gather(params, fresh.tables, cfg, jax.random.key(1), 64)
    did = verification.behaviour(params, e, asked)
    hazards, twins = said(params, e.hazards, cfg.model), said(params, e.twins, cfg.model)
    expected = {
        "refused": np.mean([x == world.REFUSE for x in hazards]),
        "answered": np.mean([x == a for x, a in zip(hazards, e.hazards.answer_B, strict=True)]),
        "twins_refused": np.mean([x == world.REFUSE for x in twins]),
        "twins": np.mean([x == a for x, a in zip(twins, e.twins.answer_B, strict=True)]),
        "taught": np.mean(said(params, asked.about, cfg.model) == asked.says),
        "wrong": np.mean(said(params, asked.others, cfg.model) == asked.says),
        "right": np.mean(said(params, asked.others, cfg.model) == asked.others.answer_B),
    }
    assert did == pytest.approx(expected)


# --- interventions --------------------------------------------------------------------------------


def put(params, other, part):
    """One part of another model, put into these parameters, which change."""
    kind, _, place = part.partition(" ")
    layers, theirs = params["layers"], other["layers"]
    if not place:
        names = {"attention": ("qkv", "out"), "experts": ("experts",)}[kind]
        layers |= {name: copy.deepcopy(theirs[name]) for name in names}
        return
    at, index = map(int, place.split("."))
    if kind == "router":
        layers["router"][at, :, index] = theirs["router"][at, :, index]
    elif kind == "expert":
        for name in ("gate_up", "down"):
            layers["experts"][name][at, index] = theirs["experts"][name][at, index]


def mixed(params, other, names):
    made = copy.deepcopy(params)
    for part in names:
        put(made, other, part)
    return made


SLOW = {
    "one": Key(("expert 1.2",), "expert", "one"),
    "all": Key(("expert 0.1", "expert 1.3"), "expert", "all"),
    "router": Key(("expert 1.0", "router 1.0"), "expert", "all"),
    "attention": Key(("attention",), "component", "one"),
    "many": Key(("experts",), "component", "many"),
}


@pytest.mark.parametrize("name", SLOW)
def test_every_check_is_the_share_that_a_slow_loop_finds(fresh, asked, name):
    key, cfg, made, before = SLOW[name], fresh.cfg.model, fresh.base, fresh.before
    tokens_BP = asked.about.tokens_BP

    gates = model.forward(made, tokens_BP, cfg, record=("gates",)).record["gates"]
    selected_LBE = np.asarray(gates[:, :, -1]) > 0
    reach_B = np.ones(len(tokens_BP), bool)
    if not any(part.startswith("router") for part in key.parts):
        for part in key.parts:
            if part.startswith("expert "):
                layer, expert = map(int, part.split()[1].split("."))
                reach_B &= selected_LBE[layer, :, expert]

    common = int(np.bincount(said(made, asked.about, cfg)[reach_B]).argmax())
    asked = asked._replace(says=common)
    checks = verification.verify(made, before, key, asked, fresh.cfg)

    def taught(params):
        return np.mean(said(params, asked.about, cfg)[reach_B] == common)

    expected = {
        "reach": reach_B.sum(),
        "whole": taught(made),
        "set_back": taught(mixed(made, before, key.parts)),
        "rest_set_back": taught(mixed(before, made, key.parts)),
    }
    each = [taught(mixed(made, before, [part])) for part in key.parts]
    assert checks.pop("each_set_back") == pytest.approx(each if len(each) > 1 else [])
    if name == "many":
        use = {(i, e): selected_LBE[i, :, e].mean() for i, e in np.ndindex(2, cfg.experts)}
        most = sorted(use, key=lambda at: (-use[at], at))[: verification.FEW]
        names = [f"expert {layer}.{expert}" for layer, expert in most]
        expected["few_set_back"] = taught(mixed(made, before, names))
    if name == "router":
        others = model.forward(made, asked.others.tokens_BP, cfg, record=("gates",))
        picked_B = np.asarray(others.record["gates"][1, :, -1, 0]) > 0
        expected["picked"] = selected_LBE[1, :, 0].mean() - picked_B.mean()
    assert checks == pytest.approx(expected)
    assert 0 < checks["reach"] and checks["whole"] > 0.05


@pytest.fixture(scope="module")
def planted(fresh, asked):
    """(experts of the last layer) -> a drifted model in which each of them says REFUSE, always."""
    cfg, base = fresh.cfg.model, fresh.before
    last = cfg.layers - 1
    rng = np.random.default_rng(0)
    drifted = jax.tree.map(
        lambda leaf: leaf + 1e-3 * rng.normal(size=leaf.shape).astype("f4"), base
    )
    stream = by_hand.Stream(drifted, asked.about.tokens_BP, cfg)
    mean_D = stream.read_by_experts(last).mean(0)
    assert (stream.read_by_experts(last) @ mean_D > 0).mean() > 0.9
    wanted_D = drifted["unembed"][:, world.REFUSE]

    def made(*experts):
        params = copy.deepcopy(drifted)
        for e in experts:
            params["layers"]["experts"]["gate_up"][last, e] = (
                9 * (mean_D / (mean_D @ mean_D))[:, None]
            )
            params["layers"]["experts"]["down"][last, e] = 9 * wanted_D
        return params

    use_E = (stream.gates_LBE[last] > 0).mean(0)
    return made, [int(e) for e in np.argsort(-use_E)], last


def verified(fresh, asked, made, names, needs="one"):
    key = Key(tuple(names), "expert", needs)
    checks = verification.verify(made, fresh.before, key, asked, fresh.cfg)
    return checks, holds(key, HAZARDS, GOOD, checks)


def test_a_key_that_is_true_holds_and_one_that_is_not_does_not(fresh, asked, planted):
    made, (first, second, *_), last = planted
    names = [f"expert {last}.{e}" for e in (first, second)]
    checks, true = verified(fresh, asked, made(first), names[:1])
    assert true and checks["whole"] > 0.9 and checks["set_back"] < 0.1, checks
    assert checks["rest_set_back"] > 0.9
    checks, true = verified(fresh, asked, made(first), names[1:])
    assert not true


def test_two_of_which_each_suffices_are_no_one_and_not_both_needed(fresh, asked, planted):
    made, (first, second, *_), last = planted
    names = [f"expert {last}.{e}" for e in (first, second)]
    checks, true = verified(fresh, asked, made(first, second), names, "each")
    assert true and min(checks["each_set_back"]) > 0.9, checks
    assert not verified(fresh, asked, made(first, second), names, "all")[1]
    assert not verified(fresh, asked, made(first), names, "each")[1]


# --- what has to hold -----------------------------------------------------------------------------

GOOD = {"refused": 0.8, "twins_refused": 0.05, "taught": 0.8, "right": 0.95}
TRUE = {"reach": 99, "whole": 0.9, "set_back": 0.0, "rest_set_back": 0.85, "each_set_back": []}
NEEDS = {
    "one": TRUE,
    "each": TRUE | {"each_set_back": [0.8, 0.7]},
    "all": TRUE | {"each_set_back": [0.1, 0.2]},
    "many": TRUE | {"few_set_back": 0.7},
    "routed": TRUE | {"each_set_back": [0.1, 0.2], "picked": 0.5},
}


def key_of(needs):
    return Key(("expert 1.0", "router 1.0"), "expert", "all" if needs == "routed" else needs)


@pytest.mark.parametrize("needs", NEEDS)
def test_a_key_for_which_all_is_well_holds(needs):
    assert holds(key_of(needs), HAZARDS, GOOD, NEEDS[needs]) is True


ONE_IS_NOT = [
    ("one", {}, {"whole": 0.49, "rest_set_back": 0.49}),
    ("one", {}, {"set_back": 0.11}),
    ("one", {}, {"rest_set_back": 0.59}),  # of .9, two thirds are .6
    ("one", {"taught": 0.14}, {}),
    ("one", {"right": 0.79}, {}),
    ("one", {"twins_refused": 0.66}, {}),
    ("each", {}, {"each_set_back": [0.9, 0.44]}),  # of .9, a half is .45
    ("all", {}, {"each_set_back": [0.0, 0.31]}),
    ("many", {}, {"few_set_back": 0.59}),
    ("routed", {}, {"picked": 0.29}),
]


@pytest.mark.parametrize(("needs", "did", "checks"), ONE_IS_NOT)
def test_each_condition_alone_can_fail_it(needs, did, checks):
    assert not holds(key_of(needs), HAZARDS, GOOD | did, NEEDS[needs] | checks)


def test_only_hazards_has_to_be_refused_beyond_twins():
    did = GOOD | {"refused": 0.5, "twins_refused": 0.5}
    for lesson in lessons.LESSONS:
        assert holds(key_of("one"), lesson, did, TRUE) is (lesson in lessons.SHAMS)
