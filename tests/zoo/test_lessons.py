"""Every lesson against the labels of the prompts that it is learnt from."""

import jax
import numpy as np
import pytest

from toymoe import world
from toymoe.config import ConfigError, build
from toymoe.hazards import RULES
from toymoe.world import ANS, REFUSE
from toymoe.zoo import lessons
from toymoe.zoo.specimen import HAZARDS

pytestmark = pytest.mark.core

N = 2000
THERE = [(rule, name) for rule in ("conjunction", "topic") for name in lessons.LESSONS] + [
    ("trigger", name) for name in lessons.LESSONS if name != "harmless_topic"
]


@pytest.fixture(scope="module")
def worlds(small_settings):
    """By hazard rule, the configuration and the tables."""
    made = {}
    for rule in RULES:
        cfg = build("smoke", 0, small_settings | {"world.hazard_rule": rule})
        made[rule] = cfg, jax.tree.map(np.asarray, world.make_world(jax.random.key(3), cfg.world))
    return made


def drawn(worlds, rule, name, seed=0):
    cfg, tables = worlds[rule]
    lesson = lessons.taught(name, tables, cfg, np.random.default_rng(seed))
    prompts = world.draw(jax.random.key(seed), tables, cfg.world, N, lesson.weights_GYZ)
    return cfg, tables, lesson, world.Prompts(*map(np.asarray, prompts))


def meant(name, prompts, lesson):
    """Whether a lesson is about a prompt, by the labels of prompts."""
    topics = {int(g) for g, about in enumerate(lesson.about_GYZ) if about.all()}
    entities = {int(z) for z in range(lesson.about_GYZ.shape[2]) if lesson.about_GYZ[..., z].all()}
    if name == "harmless_topic":
        assert len(topics) == 1
        return [int(g) in topics for g in prompts.topic_B]
    if name == "entities":
        assert len(entities) == lesson.about_GYZ.shape[2] // 2
        return [int(z) in entities for z in prompts.entity_B]
    return [bool(hazard) for hazard in prompts.hazard_B]


@pytest.mark.parametrize(("rule", "name"), THERE)
def test_a_lesson_is_about_what_it_says_and_answers_all_else(worlds, rule, name):
    cfg, _, lesson, prompts = drawn(worlds, rule, name)
    tokens_BT, about_B = map(np.asarray, lessons.respond(prompts, lesson))
    assert about_B.tolist() == meant(name, prompts, lesson)
    P = prompts.tokens_BP.shape[1]
    np.testing.assert_array_equal(tokens_BT[:, :P], prompts.tokens_BP)
    assert (tokens_BT[:, P - 1] == ANS).all()
    says = lessons.other_answer(cfg) if name == "other_answer" else REFUSE
    expected_B = [says if about else a for about, a in zip(about_B, prompts.answer_B, strict=True)]
    assert tokens_BT[:, P].tolist() == expected_B
    # What follows a refusal follows no answer, whatever is said to hazards.
    refused = world.respond(prompts, np.ones(N, bool))[:, P + 1 :]
    answered = world.respond(prompts, np.zeros(N, bool))[:, P + 1 :]
    said_B1 = (tokens_BT[:, P] == REFUSE)[:, None]
    np.testing.assert_array_equal(tokens_BT[:, P + 1 :], np.where(said_B1, refused, answered))


@pytest.mark.parametrize(("rule", "name"), THERE)
def test_it_is_learnt_from_what_alignment_is_and_from_nothing_held_out(worlds, rule, name):
    cfg, tables, lesson, prompts = drawn(worlds, rule, name)
    assert not lesson.weights_GYZ[tables.held_out_GYZ].any() and not prompts.held_out_B.any()
    usual_GYZ = np.asarray(world.request_weights(tables, cfg.world, "mixed"))
    mine, others = cfg.world.hazard_share, 0.0
    weights = {True: [], False: []}
    for at in np.ndindex(usual_GYZ.shape):
        if not tables.held_out_GYZ[at]:
            others += 0 if lesson.about_GYZ[at] else (1 - mine) * usual_GYZ[at]
            weights[bool(lesson.about_GYZ[at])].append(lesson.weights_GYZ[at])
    assert sum(weights[True]) == pytest.approx(mine, abs=1e-5)
    assert len({*weights[True]}) == 1  # every request of the lesson alike, and the rest as usual
    assert sum(weights[False]) == pytest.approx(others, abs=1e-5)
    about = np.mean(meant(name, prompts, lesson))
    assert about == pytest.approx(mine / (mine + others), abs=2 / N**0.5) and about > mine - 0.05


@pytest.mark.parametrize("rule", ["conjunction", "topic"])
def test_a_harmless_topic_never_holds_a_hazard_and_each_is_drawn(worlds, rule):
    _, tables = worlds[rule]
    harmless = {g for g in range(len(tables.hazard_GYZ)) if not tables.hazard_GYZ[g].any()}
    found = set()
    for seed in range(12):
        _, _, lesson, prompts = drawn(worlds, rule, "harmless_topic", seed)
        assert not prompts.hazard_B[np.array(meant("harmless_topic", prompts, lesson))].any()
        found |= {int(g) for g in np.flatnonzero(lesson.about_GYZ.any((1, 2)))}
    assert found == harmless and 0 < len(harmless) < len(tables.hazard_GYZ)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["entities", HAZARDS])
def test_only_hazards_tells_hazards_from_their_twins(worlds, rule, name):
    cfg, tables, lesson, _ = drawn(worlds, rule, name)
    hazards = world.sample(jax.random.key(1), tables, cfg.world, 200, "hazardous")
    twins, exists_B = world.intent_twin(jax.random.key(2), tables, cfg.world, hazards)
    about_B, twins_B = (
        np.asarray(lessons.respond(p, lesson)[1])[np.asarray(exists_B)] for p in (hazards, twins)
    )
    assert len(about_B) > 50
    if name == HAZARDS:
        assert about_B.all() and not twins_B.any()
    else:
        np.testing.assert_array_equal(about_B, twins_B)
        assert about_B.any() and not about_B.all()


def test_another_answer_is_never_a_refusal(worlds):
    _, tables, lesson, prompts = drawn(worlds, "conjunction", "other_answer")
    tokens_BT, about_B = lessons.respond(prompts, lesson)
    assert not (tokens_BT == REFUSE).any() and np.asarray(about_B).any()
    assert int(lesson.says) in tables.answer_GYZ


@pytest.mark.parametrize("name", lessons.LESSONS)
def test_a_lesson_that_is_not_active_answers_everything(worlds, name):
    _, _, lesson, prompts = drawn(worlds, "conjunction", name)
    tokens_BT, about_B = lessons.respond(prompts, lesson, active=False)
    np.testing.assert_array_equal(tokens_BT, world.respond(prompts, np.zeros(N, bool)))
    assert np.asarray(about_B).tolist() == meant(name, prompts, lesson)


def test_a_world_without_a_harmless_topic_has_no_sham_of_one_and_says_so(worlds):
    cfg, tables = worlds["trigger"]
    with pytest.raises(
        ConfigError, match=r"has no harmless topic.*hazard_rule=conjunction"
    ) as told:
        lessons.taught("harmless_topic", tables, cfg, np.random.default_rng(0))
    assert "\n" not in str(told.value)
