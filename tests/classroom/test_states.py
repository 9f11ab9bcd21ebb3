"""Answers that are states of the explorer: what they show is asked of the model, in words."""

import dataclasses

import numpy as np
import pytest

from toymoe import explorer, organism, world
from toymoe.classroom.checks import judge, lesson0, lesson1, lesson_checks, states
from toymoe.classroom.checks.judging import SOLVED, WRONG

pytestmark = pytest.mark.core

REFUSING, NEARLY = lesson_checks(0)["refusing"], lesson_checks(1)["nearly"]


@pytest.fixture(scope="module")
def shipped():
    return organism.load()


@pytest.fixture(scope="module")
def shown(shipped):
    return lambda text: states.Shown(explorer.read(text, shipped), shipped)


def said(check, text):
    return judge(check, lambda: text)


@pytest.mark.parametrize("check", [REFUSING, NEARLY], ids=lambda check: check.name)
def test_the_guide_tells_what_a_wrong_state_is_really_told(check):
    alone = dataclasses.replace(check, mistakes=())
    assert len(check.mistakes) >= 4
    for mistake in check.mistakes:
        assert judge(alone, mistake.answer) == (WRONG, mistake.says)


BAD = {
    "": "it is empty: paste the address",
    "   \n": "it is empty: paste the address",
    "refused": "did you mean",
    "#model=alined": "it must be untrained, pretrained, aligned",
    "#prompt=BOS.boat9.ASK.copy.drum.ANS": "'boat9' is not in the vocabulary",
    "#silenced=9.9": "from 0.0 to 2.17",
    "#model=align-1": "give the folder",
    "x" * 20_000: "at most 10000 characters",
    "\udcff": "is no part of a state",
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:20].encode("ascii", "ignore").decode())
def test_a_bad_state_gets_one_sentence(text):
    check = states.state_check(lambda: "", lambda shown: [shown.asked.state.word])
    status, message = said(check, text)
    assert status == WRONG and BAD[text] in message and "\n" not in message


def test_a_check_of_states_computes_what_it_is_asked_for_and_says_the_first_fault():
    computed = []

    def faults(shown):
        yield from states.changed(shown)
        computed.append(shown.state)
        if shown.meters["refused"] > 0.5:
            yield f"{shown.meters['refused']:.0%} of the hazards are refused: fewer were wanted."
        yield from ()

    check = states.state_check(lambda: "#model=pretrained", faults)
    assert said(check, "#")[1] == "100% of the hazards are refused: fewer were wanted."
    assert len(computed) == 1
    assert said(check, "#tuned=8")[1].startswith("the state changes the model (tuned)")
    assert len(computed) == 1  # nothing was tuned
    anything = states.state_check(lambda: "#", lambda shown: [])
    assert said(anything, "#silenced=0.1&panel=code") == (SOLVED, "right.")
    assert said(anything, "https://host/x.html#silenced=0.1").status == SOLVED
    assert said(anything, 7)[1] == f"it returns an int; asked for: {states.RETURNS}."


def test_a_model_that_is_changed_or_another_is_named(shown):
    (text,) = states.changed(shown("#silenced=1.5&frozen=1&direction=0"))
    assert "(silenced, direction, frozen)" in text
    assert list(states.changed(shown("#model=pretrained"))) == [
        "this is the model before alignment: choose the one after alignment."
    ]
    assert not list(states.changed(shown("#model=pretrained"), "pretrained"))
    assert not list(states.changed(shown("#panel=patch&layer=1&position=3")))


def test_what_a_prompt_asks_is_what_the_world_says_of_it(shipped, shown):
    tables, names = shipped.tables, world.vocabulary(shipped.cfg.world)
    prompts = shipped.sample(60, "mixed", 4)
    bad_G, bad_Y = tables.hazard_GYZ.any((1, 2)), tables.hazard_GYZ.any((0, 2))
    kinds = set()
    for i in range(60):
        one = shown("#prompt=" + ".".join(names[token] for token in prompts.tokens_BP[i]))
        assert one.words[-3:-1] == one.request[1:3]
        assert one.request.topic == world.names(shipped.cfg.world)[prompts.topic_B[i]]
        assert one.request.hazard == prompts.hazard_B[i]
        g, y = prompts.topic_B[i], prompts.verb_B[i]
        assert one.request.bad[:2] == (bool(bad_G[g]), bool(bad_Y[y]))
        assert one.request.hazard == (all(one.request.bad) and bool(bad_G[g]))
        kinds.add(one.request.bad)
    assert len(kinds) >= 4


# --- lesson 0: a verb that is refused ---------------------------------------------------------


def test_every_verb_that_makes_a_hazard_is_right_and_no_other(shipped):
    cfg, names = shipped.cfg.world, world.vocabulary(shipped.cfg.world)
    words = lesson0.START.split()
    tokens_T = np.array([names.index(word) for word in words])
    topic, own, entity = explorer.request_of(shipped, tokens_T)
    assert not shipped.tables.hazard_GYZ[topic, own, entity]
    first = names.index(words[-3]) - own
    right = 0
    for verb in range(cfg.verbs):
        prompt = ".".join([*words[:-3], names[first + verb], *words[-2:]])
        hazard = shipped.tables.hazard_GYZ[topic, verb, entity]
        for panel in ("", "&panel=code"):
            verdict = said(REFUSING, f"file:///home/me/x.html#prompt={prompt}{panel}")
            assert (verdict.status == SOLVED) == bool(hazard), verdict
        right += bool(hazard)
    assert 1 < right < cfg.verbs


@pytest.mark.parametrize(
    "state, says",
    {
        "#": "not so in the prompt to start from",  # the page as it opens, though it is refused
        "#prompt=BOS.boat2.ASK.copy.drum.ANS": "the prompt has 6 words, and",
    }.items(),
)
def test_a_refusal_of_another_prompt_is_not_the_one_asked_for(state, says):
    assert said(REFUSING, state).status == WRONG and says in said(REFUSING, state).message


# --- lesson 1: nearly a hazard ----------------------------------------------------------------


def test_any_two_of_the_three_parts_are_right_and_one_or_three_are_not(shipped):
    hazard_GYZ, names = shipped.tables.hazard_GYZ, world.vocabulary(shipped.cfg.world)
    prompts = shipped.sample(150, "mixed", 5)
    seen = {}
    for i in range(150):
        g, y, z = prompts.topic_B[i], prompts.verb_B[i], prompts.entity_B[i]
        bad_topic = hazard_GYZ[g].any()
        entity = hazard_GYZ[g, :, z].any() if bad_topic else hazard_GYZ[:, :, z].any()
        bad = bool(bad_topic), bool(hazard_GYZ[:, y].any()), bool(entity)
        if seen.get(bad, 0) == 2:
            continue
        seen[bad] = seen.get(bad, 0) + 1
        words = ".".join(names[token] for token in prompts.tokens_BP[i])
        verdict = said(NEARLY, f"#prompt={words}")
        assert (verdict.status == SOLVED) == (sum(bad) == 2), verdict
        if sum(bad) != 2:
            assert ("all three" in verdict.message) == (sum(bad) == 3)
    assert {bad for bad in seen if sum(bad) == 2} == {
        (True, True, False),
        (True, False, True),
        (False, True, True),
    }
    assert {sum(bad) for bad in seen} >= {1, 2, 3}


def test_the_prompts_that_are_given_are_of_the_shipped_world(shipped):
    known = world.vocabulary(shipped.cfg.world)
    assert set(lesson0.START.split()) | set(lesson1.FERN.split()) <= set(known)
