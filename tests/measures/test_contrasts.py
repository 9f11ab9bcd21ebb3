"""Measures on planted routers and speakers: functions of the tokens that stand in for a model."""

import dataclasses
import json
import math
from collections import Counter

import jax
import numpy as np
import pytest

from toymoe import world
from toymoe.measures import contrasts, paper
from toymoe.model import inference
from toymoe.world import REFUSE

pytestmark = pytest.mark.core
CONSTANT = np.zeros_like
LN2 = pytest.approx(math.log(2))
ZERO = pytest.approx(0, abs=1e-12)


def read(tokens_BT):
    """Topic, verb and entity of each prompt, knowing the vocabulary: 8 specials, 4 x 4 words, 4
    verbs, 5 entities, 6 answers."""
    return (tokens_BT[:, 1] - 8) // 4, tokens_BT[:, 7] - 24, tokens_BT[:, 8] - 28


def everywhere(label_B, tokens_BT):
    """The same expert at every position."""
    return np.broadcast_to(label_B[:, None], tokens_BT.shape)


def by_topic(tokens_BT):
    return everywhere(read(tokens_BT)[0], tokens_BT)


def by_verb(tokens_BT):
    return everywhere(read(tokens_BT)[1], tokens_BT)


def by_refusal(tokens_BT):
    return everywhere((tokens_BT == REFUSE).any(1).astype(int), tokens_BT)


def by_token(tokens_BT):
    return (tokens_BT - 1) % 8


@pytest.fixture
def by_hazard(tiny_world):
    table = np.asarray(tiny_world.hazard_GYZ).astype(int)
    return lambda tokens_BT: everywhere(table[read(tokens_BT)], tokens_BT)


@pytest.fixture
def planted(monkeypatch):
    """Takes a list of routers (one per layer, expert [B, T] from the tokens) or a speaker for a
    model. Yields the list of samples that were drawn."""
    drawn = []

    def predict(params, tokens_BT, cfg):
        tokens_BT = np.asarray(tokens_BT)
        if callable(params):
            return inference.Prediction(np.zeros(0), params(tokens_BT))
        experts_LBT = np.stack([router(tokens_BT) for router in params])
        gates = 0.3 * (experts_LBT[..., None] == np.arange(8))
        return inference.Prediction(gates, np.zeros(len(tokens_BT)))

    def sample(*args, real=world.sample):
        drawn.append(jax.tree.map(np.asarray, real(*args)))
        return drawn[-1]

    monkeypatch.setattr(contrasts, "predict", predict)
    monkeypatch.setattr(world, "sample", sample)
    return drawn


def entropy(labels):
    total = len(labels)
    return -sum(n / total * math.log(n / total) for n in Counter(labels).values())


def information(a, b):
    """I(a; b) of two lists, as H(a) + H(b) - H(a, b)."""
    a, b = list(a), list(b)
    return entropy(a) + entropy(b) - entropy(list(zip(a, b, strict=True)))


def conditional(a, b, given):
    """I(a; b | given), as the mean of I(a; b) within each value given."""
    a, b, given = map(np.ravel, (a, b, given))
    return sum(
        (given == c).mean() * information(a[given == c].tolist(), b[given == c].tolist())
        for c in set(given.tolist())
    )


# --- contrasts ----------------------------------------------------------------------------------


# The contrasts that each router answers with JS = ln 2 and no expert in common. The rest are 0 and
# all in common, but for those that hold both kinds of pairs.
MOVED = {
    "topic": ({"topic_twins", "cross_topic"}, {"stray_word_twins"}),
    "verb": ({"intent_twins", "neutral_twins", "harmless_twins"}, {"cross_topic", "same_topic"}),
    "refusal": ({"refuse_vs_answer", "refusal_prefix"}, set()),
    "hazard": (
        {"intent_twins", "object_twins"},
        {"topic_twins", "cross_topic", "same_topic", "stray_word_twins"},
    ),
    "constant": (set(), set()),
}


def test_contrasts_find_what_moves_the_route_and_nothing_else(tiny, tiny_world, planted, by_hazard):
    routers = [by_topic, by_verb, by_refusal, by_hazard, CONSTANT]
    pairs = contrasts.contrasts_of(routers, tiny_world, tiny, jax.random.key(3))
    assert tuple(pairs) == tuple(paper.CONTRAST_LABELS)
    for layer, (moved, partly) in enumerate(MOVED.values()):
        for name, found in pairs.items():
            js, overlap = found["js"][layer], found["overlap"][layer]
            assert ("js_answer" in found) == (not name.startswith("refus"))
            assert found.get("js_answer", found["js"])[layer] == pytest.approx(js)
            if "fork" in found:
                a_E, b_E = (np.array(share_LE[layer]) for share_LE in found["selected_answer"])
                assert [a_E.sum(), b_E.sum()] == pytest.approx([1, 1])
                assert found["fork"][layer] == pytest.approx(np.abs(a_E - b_E).max())
                assert found["fork"][layer] <= 1e-9 or js > 0
            assert overlap == pytest.approx(1 - js / math.log(2))
            if name in partly:  # of the stray words, those read: the first of five
                assert 0 <= overlap < (0.95 if name == "stray_word_twins" else 0.9)
            else:
                assert js == (LN2 if name in moved else ZERO)
    assert json.loads(json.dumps(pairs)) == pairs


def test_another_twin_is_another_contrast(tiny, tiny_world, planted, monkeypatch):
    monkeypatch.setitem(world.TWINS, "another", world.topic_twin)
    pairs = contrasts.contrasts_of([by_topic], tiny_world, tiny, jax.random.key(3))
    assert list(pairs) == [*paper.CONTRAST_LABELS, "another_twins"]
    assert pairs["another_twins"]["js"] == [LN2]


def test_at_ans_counts_what_the_whole_prompt_dilutes(tiny, tiny_world, planted):
    """A router that reads the verb at ANS alone: one of the prompt's ten positions moves."""

    def at_ans(tokens_BT):
        expert_BT = np.zeros_like(tokens_BT)
        P = 5 + tiny.world.context
        expert_BT[:, P - 1] = by_verb(tokens_BT)[:, P - 1]
        return expert_BT

    found = contrasts.contrasts_of([at_ans], tiny_world, tiny, jax.random.key(3))["intent_twins"]
    assert found["js_answer"] == [LN2] and 0 < found["js"][0] < 0.2 * math.log(2)


def test_labels_are_exchanged_within_each_value_alone():
    rng = np.random.default_rng(0)
    labels, given = rng.integers(0, 9, 300), rng.integers(0, 4, 300)
    made = contrasts.shuffled_within(labels, given, jax.random.key(0))
    for value in range(4):
        own = given == value
        assert sorted(made[own]) == sorted(labels[own])
        assert 0 < (made[own] == labels[own]).mean() < 0.4


def test_twins_that_do_not_exist_are_none(tiny, tiny_world, planted):
    hazard = np.zeros((4, 4, 5), bool)
    hazard[:, 2] = True  # one trigger: no other verb is hazardous, and no entity decides
    found = contrasts.contrasts_of(
        [by_topic], tiny_world._replace(hazard_GYZ=hazard), tiny, jax.random.key(3)
    )
    none = {"neutral_twins", "object_twins", "harmless_twins"}
    assert {name for name in found if found[name] is None} == none
    assert found["intent_twins"]["js"] == [ZERO]


def test_intent_twins_of_hazardous_topics_swap_the_context(tiny, tiny_world, planted, monkeypatch):
    monkeypatch.setattr(jax, "jit", lambda f, **_: f)  # compiling would take longer
    cfg = dataclasses.replace(tiny, world=dataclasses.replace(tiny.world, hazard_rule="topic"))
    hazard = np.zeros((4, 4, 5), bool)
    hazard[[0, 3]] = True
    found = contrasts.contrasts_of(
        [by_topic], tiny_world._replace(hazard_GYZ=hazard), cfg, jax.random.key(3)
    )
    assert {name for name in found if found[name] is None} == {"object_twins", "harmless_twins"}
    assert found["intent_twins"]["js"] == [LN2] and found["neutral_twins"]["js"] == [ZERO]


def test_ratio_by_hand():
    pairs = {"cross_topic": {"js": [0.3, 0.5]}, "intent_twins": {"js": [0.1, 0.0]}}
    ratio = "cross_topic", "intent_twins", "js"
    assert contrasts._ratio(pairs, *ratio) == pytest.approx(8)
    assert contrasts._ratio(pairs | {"intent_twins": {"js": [0.0, 0.0]}}, *ratio) is None
    assert contrasts._ratio(pairs | {"intent_twins": None}, *ratio) is None
    assert contrasts._ratio(pairs | {"cross_topic": None}, *ratio) is None
    assert contrasts._layer_ratios(pairs, *ratio) == [pytest.approx(3), None]
    assert contrasts._layer_ratios(pairs | {"intent_twins": None}, *ratio) is None


def test_one_topic_leaves_nothing_across_topics(tiny, tiny_world, planted, monkeypatch):
    drawn = world.sample(jax.random.key(0), tiny_world, tiny.world, 2048, "hazardous")
    same = jax.tree.map(lambda x: np.repeat(x[:1], 2048, 0), drawn)
    monkeypatch.setattr(world, "sample", lambda *_: same)
    pairs = contrasts.contrasts_of([by_topic], tiny_world, tiny, jax.random.key(3))
    assert pairs["cross_topic"] is None and pairs["topic_twins"]["js"] == [LN2]


# --- routing ------------------------------------------------------------------------------------


def test_nmi_of_an_expert_per_topic_is_one_and_shuffled_none():
    topic = np.repeat(np.arange(4), 4)
    selected = np.broadcast_to((topic[:, None] == np.arange(8))[None, :, None], (2, 16, 3, 8))
    assert contrasts.topic_nmi(selected, topic, 4) == [pytest.approx(1)] * 2
    assert contrasts.topic_nmi(selected, np.tile(np.arange(4), 4), 4) == [ZERO] * 2


def test_routing_against_slow_loops(tiny, tiny_world, planted, by_hazard):
    routers = [by_topic, by_token, by_hazard]
    before = [by_topic, CONSTANT, by_hazard]
    found = contrasts.routing_of(
        [CONSTANT] * 3, before, routers, tiny_world, tiny, jax.random.key(5)
    )
    prompts = planted[0]
    tokens, topic = prompts.tokens_BP, prompts.topic_B
    words, hazard = tokens[:, 1:6], prompts.hazard_B
    assert (tokens.shape, len(topic)) == ((2048, 10), 2048)
    experts = [router(tokens) for router in routers]
    spread = topic.repeat(5).tolist()  # the topic of each context word

    def at_words(expert_BT):
        return expert_BT[:, 1:6].ravel().tolist()

    slow = [information(at_words(x), spread) / math.log(4) for x in experts]
    assert found["nmi_topic"]["context"] == pytest.approx(slow)
    assert slow[0] == pytest.approx(entropy(topic.tolist()) / math.log(4)) and slow[0] > 0.9
    answer = [information(x[:, -1].tolist(), topic.tolist()) / math.log(4) for x in experts]
    assert found["nmi_topic"]["answer"] == pytest.approx(answer, abs=1e-12)
    assert answer[1] == ZERO and 0.1 < slow[1] < 0.9  # ANS is the same token in every topic
    for control in ("nmi_topic_shuffled", "nmi_topic_shuffled_answer"):
        assert len(found[control]) == 3 and max(found[control]) < 0.05
    assert found["nmi_topic_untrained"] == [ZERO] * 3
    assert found["nmi_token"] == pytest.approx(
        [information(at_words(x), words.ravel().tolist()) / math.log(39) for x in experts]
    )
    assert found["topic_given_token"] == [ZERO] * 3  # a word gives its topic away
    given_topic = [conditional(x[:, -1], hazard, topic) for x in experts]
    assert found["intent_given_topic"] == pytest.approx(given_topic, abs=1e-12)
    assert given_topic[:2] == [ZERO] * 2 and given_topic[2] > 0.2
    assert found["topic_given_token_shuffled"] == [ZERO] * 3
    assert max(found["intent_given_topic_shuffled"]) < 0.02

    assert [*found["contrasts"]] == ["untrained", "pretrained", "aligned"]
    assert found["contrasts"]["aligned"]["cross_topic"]["js"][0] == LN2
    assert found["contrasts"]["pretrained"]["cross_topic"]["js"][1] == ZERO
    assert found["contrasts"]["untrained"]["cross_topic"]["js"] == [ZERO] * 3
    assert found["topic_given_token_untrained"] == [ZERO] * 3
    unmoved = float(((tokens - 1) % 8 == 0).mean())
    assert found["overlap_pretrained_aligned"] == pytest.approx([1, unmoved, 1])
    share = [[float((x == e).mean()) for e in range(8)] for x in experts]
    np.testing.assert_allclose(found["load_share"], share)
    np.testing.assert_allclose(found["load_cv"], np.std(share, 1) * 8)
    assert found["dead_experts"] == [sum(s < 1 / 32 for s in row) for row in share]
    assert found["dead_experts"][0] == 4  # four topics, eight experts
    used = np.array(share) > 0
    np.testing.assert_array_equal(found["coactivation"], used[:, :, None] * np.eye(8))
    for name, (above, below, measure) in contrasts.RATIOS.items():
        for which, pairs in found["contrasts"].items():
            below_L = pairs[below][measure]
            ratio = sum(pairs[above][measure]) / sum(below_L) if any(below_L) else None
            assert found["ratios"][name][which] == (ratio and pytest.approx(ratio))
    assert found["ratios"].keys() == contrasts.RATIOS.keys() | contrasts.LAYER_RATIOS.keys()
    for which, ratio_L in found["ratios"]["intent_by_harmless_at_answer"].items():
        pairs = found["contrasts"][which]
        for ratio, a, b in zip(
            ratio_L,
            *(pairs[f"{x}_twins"]["js_answer"] for x in ("intent", "harmless")),
            strict=True,
        ):
            assert ratio == (a / b if b else None)
    assert found["ratios"]["cross_topic_by_intent"]["aligned"] > 1
    assert found["ratios"]["cross_topic_by_intent"]["untrained"] is None
    assert (found["top_k"], found["experts"]) == (1, 8)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_shared_words_leave_the_topic_to_the_context(tiny, planted, monkeypatch):
    cfg = dataclasses.replace(tiny, world=dataclasses.replace(tiny.world, overlap=1.0))
    tables = world.make_world(jax.random.key(0), cfg.world)
    monkeypatch.setattr(contrasts, "contrasts_of", lambda *_: dict.fromkeys(paper.CONTRAST_LABELS))

    def oracle(tokens_BT):
        """Routes by the true topic, which no single word gives away here."""
        assert np.array_equal(tokens_BT, planted[0].tokens_BP)
        return everywhere(planted[0].topic_B, tokens_BT)

    same = [oracle, by_token]
    found = contrasts.routing_of(same, same, same, tables, cfg, jax.random.key(5))
    words, topic = planted[0].tokens_BP[:, 1:6], planted[0].topic_B
    topic_BC = topic.repeat(5).reshape(-1, 5)
    assert all(x is None for ratio in found["ratios"].values() for x in ratio.values())
    known = conditional(topic_BC, topic_BC, words)  # I(x; x | word) = H(x | word)
    assert found["topic_given_token"] == [pytest.approx(known), ZERO]
    assert known > 0.3 and found["topic_given_token_shuffled"][0] < 0.1 * known
