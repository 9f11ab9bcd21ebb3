"""The tables of a world against slow loops and expected counts."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from language import BY_RULE, CFG, cells, ingredients, make

from toymoe import hazards, world

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def tables():
    return {rule: make(cfg) for rule, cfg in BY_RULE.items()}


def test_a_hazard_needs_all_three(tables):
    hazard = tables["conjunction"].hazard_GYZ
    topics, verbs, entities = ingredients(hazard)
    assert len(topics) == 2 and len(verbs) == 2 and all(len(entities[g]) == 2 for g in topics)
    for g, y, z in cells(hazard):
        assert hazard[g, y, z] == (g in topics and y in verbs and z in entities[g])
    # No ingredient decides alone: each occurs in harmless requests too.
    harmless = [cell for cell in cells(hazard) if not hazard[cell]]
    assert topics <= {g for g, _, _ in harmless} and verbs <= {y for _, y, _ in harmless}
    assert all(entities[g] <= {z for h, _, z in harmless if h == g} for g in topics)


def test_controls_lack_one_ingredient(tables):
    hazard, control = tables["conjunction"].hazard_GYZ, tables["conjunction"].control_GYZ
    topics, verbs, entities = ingredients(hazard)
    for g, y, z in cells(hazard):
        expected = 0
        if g in topics and (y in verbs) != (z in entities[g]):
            expected = 1 if y in verbs else 2
        elif g not in topics and any(hazard[h, y, z] for h in topics):
            expected = 3
        assert control[g, y, z] == expected
    assert set(np.unique(control)) == {0, 1, 2, 3}
    assert not tables["trigger"].control_GYZ.any() and not tables["topic"].control_GYZ.any()
    assert [len(world.controls(cfg)) for cfg in BY_RULE.values()] == [3, 0, 0]


def test_the_other_hazard_rules(tables):
    trigger, topic = tables["trigger"].hazard_GYZ, tables["topic"].hazard_GYZ
    verbs = [y for y in range(4) if trigger[:, y].all()]
    assert len(verbs) == 1 and trigger.sum() == 4 * 5  # that verb with every topic and entity
    topics = [g for g in range(4) if topic[g].all()]
    assert len(topics) == 2 and topic.sum() == 2 * 4 * 5


def test_every_topic_can_become_hazardous():
    found = [ingredients(make(CFG, seed).hazard_GYZ) for seed in range(20)]
    assert set.union(*(topics for topics, _, _ in found)) == set(range(4))
    assert set.union(*(verbs for _, verbs, _ in found)) == set(range(4))
    assert set.union(*(e[g] for _, _, e in found for g in e)) == set(range(5))
    assert any(len({frozenset(e[g]) for g in topics}) == 2 for topics, _, e in found)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rule=st.sampled_from(list(hazards.RULES)),
    counts=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)),
    held=st.tuples(st.floats(0.01, 0.8), st.floats(0, 0.8)),
)
def test_shares_are_exact(seed, rule, counts, held):
    cfg = dataclasses.replace(
        CFG,
        hazard_rule=rule,
        hazardous_topics=counts[0],
        hazardous_verbs=counts[1],
        hazardous_entities=counts[2],
        held_out=held[0],
        held_out_harmless=held[1],
    )
    made = make(cfg, seed)
    expected = {"conjunction": np.prod(counts), "trigger": 4 * 5, "topic": counts[0] * 4 * 5}
    assert made.hazard_GYZ.sum() == expected[rule]
    for among, share in ((made.hazard_GYZ, held[0]), (~made.hazard_GYZ, held[1])):
        held, total = (made.held_out_GYZ & among).sum(), among.sum()
        least, most = int(share > 0), total - 1  # some, and never all
        assert min(least, most) <= held <= most
        assert held in (least, most) or abs(held - share * total) < 0.501


@pytest.mark.parametrize("rule", hazards.RULES)
def test_never_all_is_held_out_and_nothing_where_the_share_is_0(rule):
    few = dict(topics=2, hazardous_topics=1, verbs=2, entities=2, held_out=0.8)
    cfg = dataclasses.replace(
        CFG, hazardous_verbs=1, hazardous_entities=1, held_out_harmless=0.0, hazard_rule=rule, **few
    )
    made = make(cfg)
    hazards = {"conjunction": 1, "trigger": 4, "topic": 4}[rule]
    assert made.hazard_GYZ.sum() == hazards
    assert (made.held_out_GYZ & made.hazard_GYZ).sum() == {1: 0, 4: 3}[hazards]
    assert not (made.held_out_GYZ & ~made.hazard_GYZ).any()


@pytest.mark.parametrize("answers", [6, 3])
def test_facts_conflict(answers):
    answer = make(dataclasses.replace(CFG, answers=answers)).answer_GYZ
    tokens = range(29, 29 + answers)  # after 8 specials, 12 words, 4 verbs and 5 entities
    assert set(answer.ravel().tolist()) == set(tokens)
    for y, z in itertools.product(range(4), range(5)):
        assert len(set(answer[:, y, z].tolist())) == min(answers, 4)
        assert (answer[0, y, z] == answer[3, y, z]) == (answers == 3)  # three have to do for four
    assert all(len(set(answer[g].ravel().tolist())) == answers for g in range(4))
