"""Twins against a slow loop over all that one part of the request could be."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from language import BY_RULE, CFG, N, check_prompts, chi_square, draw, make, requests, twin

from toymoe import hazards, world

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def tables():
    return {rule: make(cfg) for rule, cfg in BY_RULE.items()}


@pytest.fixture(scope="module")
def mixed(tables):
    return draw(tables["conjunction"], CFG)


# Which part of the request each twin changes (topic, verb, entity), and whether the hazard flips.
TWINS = {"intent": (1, True), "neutral": (1, False), "object": (2, True), "topic": (0, None)}


def check_twins(name, made, cfg, prompts, n=100):
    axis, flip = TWINS[name]
    if name == "intent" and cfg.hazard_rule == "topic":
        axis = 0
    twins, exists = twin(name, made, cfg, prompts)
    check_prompts(twins, made, cfg, n)
    position = {1: cfg.context + 2, 2: cfg.context + 3}
    asked = list(zip(requests(prompts), requests(twins), strict=True))
    for i, (before, after) in enumerate(asked[:n]):
        hazard = made.hazard_GYZ[before]
        options = [(*before[:axis], v, *before[axis + 1 :]) for v in range(made[3].shape[axis])]
        allowed = [
            option
            for option in options
            if option != before and (flip is None or (made.hazard_GYZ[option] != hazard) == flip)
        ]
        assert exists[i] == bool(allowed)
        assert after in (allowed or [before])
        changed = np.flatnonzero(prompts.tokens_BP[i] != twins.tokens_BP[i]).tolist()
        if axis:
            assert changed == [position[axis]] * bool(allowed)
        else:
            assert all(1 <= p <= cfg.context for p in changed)
    return exists


@pytest.mark.parametrize("rule", hazards.RULES)
def test_twins_are_the_minimal_change(tables, rule):
    exists = {
        name: check_twins(name, tables[rule], BY_RULE[rule], draw(tables[rule], BY_RULE[rule]))
        for name in TWINS
    }
    assert exists["topic"].all()
    assert exists["intent"].all() == (rule != "conjunction")
    # No entity decides under the other two rules, and the only trigger has no neutral twin.
    assert exists["object"].any() == (rule == "conjunction")
    assert exists["neutral"].all() == (rule != "trigger")


def test_tables_may_be_numpy(tables):
    cfg, numpy = BY_RULE["conjunction"], tables["conjunction"]
    prompts, arrays = draw(numpy, cfg), jax.tree.map(jnp.asarray, numpy)
    assert isinstance(numpy.chain_GWW, np.ndarray)
    made = (world.topic_twin(jax.random.key(0), t, cfg, prompts)[0] for t in (numpy, arrays))
    for a, b in zip(*made, strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_twins_under_any_hazards(tables, mixed, seed, density):
    hazard = np.random.default_rng(seed).random((4, 4, 5)) < density
    planted = tables["conjunction"]._replace(hazard_GYZ=hazard)
    prompts = mixed._replace(hazard_B=hazard[mixed.topic_B, mixed.verb_B, mixed.entity_B])
    for name in TWINS:
        check_twins(name, planted, CFG, prompts, n=30)


def test_twins_are_any_of_the_possible_ones(tables, mixed):
    harmless = tables["conjunction"]._replace(hazard_GYZ=np.zeros((4, 4, 5), bool))
    twins, _ = twin("neutral", harmless, CFG, mixed._replace(hazard_B=np.zeros(N, bool)))
    shift = Counter(((twins.verb_B - mixed.verb_B) % 4).tolist())
    assert set(shift) == {1, 2, 3}
    assert chi_square(list(shift.values()), [N / 3] * 3) < 4


@pytest.mark.parametrize("name", ["word", "stray_word"])
def test_word_twins_swap_one_word_for_one_of_the_topic_or_for_a_stranger(tables, mixed, name):
    made, prompts = tables["conjunction"], mixed
    twins, exists = twin(name, made, CFG, prompts)
    check_prompts(twins, made, CFG, 0)
    changed_BP = np.asarray(prompts.tokens_BP) != np.asarray(twins.tokens_BP)
    assert exists.all() and (changed_BP.sum(1) == 1).all()
    places, swapped = np.unique(changed_BP.argmax(1), return_counts=True)
    assert places.tolist() == [*range(1, 1 + CFG.context)]
    assert swapped.min() > 0.7 * len(changed_BP) / CFG.context
    words = np.asarray(made.word_GW)[np.asarray(prompts.topic_B)]
    after = np.asarray(twins.tokens_BP)[changed_BP]
    assert ((words == after[:, None]).any(1) == (name == "word")).all()
    assert np.isin(after, made.word_GW).all()
    for field in ("topic_B", "verb_B", "entity_B", "answer_B", "hazard_B"):
        np.testing.assert_array_equal(getattr(prompts, field), getattr(twins, field))


def test_where_all_topics_share_all_words_no_word_is_a_stranger(tables, mixed):
    made = tables["conjunction"]
    words = np.broadcast_to(np.asarray(made.word_GW)[:1], np.shape(made.word_GW))
    twins, exists = twin("stray_word", made._replace(word_GW=words), CFG, mixed)
    assert not exists.any()
    np.testing.assert_array_equal(twins.tokens_BP, mixed.tokens_BP)


@pytest.mark.parametrize("rule", hazards.RULES)
def test_a_harmless_pair_exchanges_the_same_words_where_neither_is_a_hazard(tables, rule):
    made, cfg = tables[rule], BY_RULE[rule]
    prompts = draw(made, cfg)
    twins, _ = twin("intent", made, cfg, prompts)
    a, b, exists = jax.tree.map(
        np.asarray, world.harmless_pair(jax.random.key(4), made, cfg, prompts, twins)
    )
    for i in range(100):
        asked = requests(prompts)[i][1:], requests(twins)[i][1:]
        free = [
            g
            for g in range(cfg.topics)
            if not any(made.hazard_GYZ[(g, *request)] for request in asked)
        ]
        assert exists[i] == bool(free and asked[0] != asked[1])
        if exists[i]:
            (topic, *first), (other, *second) = requests(a)[i], requests(b)[i]
            assert topic == other and topic in free and (tuple(first), tuple(second)) == asked
            assert not (a.hazard_B[i] or b.hazard_B[i])
            changed = np.flatnonzero(a.tokens_BP[i] != b.tokens_BP[i]).tolist()
            assert changed == [cfg.context + 2]  # the verb
    check_prompts(a, made, cfg, 30)
    check_prompts(b, made, cfg, 30)
    assert exists.any() == (rule == "conjunction")
