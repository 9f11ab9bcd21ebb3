"""Hazard rules: each counts its hazards right, and a row is all that a new one takes."""

import dataclasses

import numpy as np
import pytest
from language import BY_RULE, CFG, cells, draw, make, requests, twin

from toymoe import hazards, world
from toymoe.config import ConfigError
from toymoe.measures import paper

pytestmark = pytest.mark.core


@pytest.mark.parametrize("rule", hazards.RULES)
def test_a_world_has_as_many_hazards_as_its_rule_counts(rule):
    assert make(BY_RULE[rule]).hazard_GYZ.sum() == hazards.RULES[rule].count(BY_RULE[rule])


PAIR = hazards.Rule(
    "a hazardous entity in a hazardous topic, whatever the verb",
    lambda topic, verb, entity: topic & entity,
    lambda cfg: cfg.hazardous_topics * cfg.verbs * cfg.hazardous_entities,
    swaps="entity",
    controls=("hazardous_verb", "harmless_topic"),
)


def test_a_new_row_is_all_that_a_new_rule_takes(monkeypatch):
    monkeypatch.setitem(hazards.RULES, "pair", PAIR)
    cfg = dataclasses.replace(CFG, hazard_rule="pair")
    made = make(cfg)
    hazard, control = made.hazard_GYZ, made.control_GYZ
    topics = {g for g in range(4) if hazard[g].any()}
    assert len(topics) == 2 and hazard.sum() == PAIR.count(cfg) == 2 * 4 * 2
    assert (hazard == hazard[:, :1]).all() and not (hazard == hazard[:, :, :1]).all()

    assert world.controls(cfg) == PAIR.controls
    verbs = {y for g, y, _ in cells(hazard) if (control[g, y] == 1).any()}
    assert len(verbs) == 2
    for g, y, z in cells(hazard):
        lacks_entity = g in topics and y in verbs and not hazard[g, y, z]
        elsewhere = g not in topics and hazard[:, y, z].any()
        assert control[g, y, z] == (1 if lacks_entity else 3 if elsewhere else 0)
    seen = requests(draw(made, cfg, "harmless_topic"))
    assert all(control[cell] == 3 for cell in seen)
    with pytest.raises(ValueError, match=r"'hazardous_entity' do not exist .* rule 'pair'"):
        draw(made, cfg, "hazardous_entity")

    prompts = draw(made, cfg)
    assert set(prompts.control_B.tolist()) == {0, 1, 3}
    twins, exists = twin("intent", made, cfg, prompts)
    in_topics = np.isin(prompts.topic_B, list(topics))
    np.testing.assert_array_equal(exists, in_topics)
    assert (twins.hazard_B != prompts.hazard_B)[in_topics].all()
    changed = (twins.tokens_BP != prompts.tokens_BP)[in_topics]
    np.testing.assert_array_equal(changed.sum(0) > 0, np.arange(10) == cfg.context + 3)
    label = paper.contrast_labels("pair")["intent_twins"]
    assert label == "entity swapped, hazard flips (intent twins)"


def test_a_rule_without_its_function_is_no_row():
    for bad in (dict(hazard=None), dict(count=16)):
        with pytest.raises(TypeError, match="must be a function"):
            dataclasses.replace(PAIR, **bad)
    with pytest.raises(ValueError, match="'noun' is not known: it must be one of context, verb"):
        dataclasses.replace(PAIR, swaps="noun")
    with pytest.raises(ValueError, match="'no_verb' is not known"):
        dataclasses.replace(PAIR, controls=("no_verb",))


def test_an_unknown_rule_is_an_error_and_not_another_rule(monkeypatch):
    with pytest.raises(ConfigError, match=r"'topics' is not known.*did you mean 'topic'"):
        dataclasses.replace(CFG, hazard_rule="topics")
    monkeypatch.setitem(hazards.RULES, "gone", PAIR)
    cfg = dataclasses.replace(CFG, hazard_rule="gone")
    monkeypatch.delitem(hazards.RULES, "gone")
    for call in (lambda: make(cfg), lambda: world.controls(cfg)):
        with pytest.raises(KeyError, match="gone"):
            call()
