"""States of the explorer as answers in lessons 3 to 7: what is right follows from the model."""

import dataclasses
from functools import cache

import numpy as np
import pytest

from toymoe import explorer, organism, world
from toymoe.classroom.checks import Check, judge, lesson_checks
from toymoe.classroom.checks.judging import SOLVED, WRONG
from toymoe.model.inference import predict

pytestmark = pytest.mark.usefixtures("optimised")

NAMES = {3: ("halfway", "parted"), 4: ("unasked",), 5: ("few",), 6: ("answering",), 7: ("attack",)}
STATES = {name: lesson_checks(n)[name] for n, names in NAMES.items() for name in names}


@pytest.fixture(scope="module")
def shipped():
    return organism.load()


def solved(name: str, *texts: str) -> bool:
    return judge(STATES[name], lambda: texts[0] if len(texts) == 1 else texts).status == SOLVED


@pytest.mark.parametrize("check", STATES.values(), ids=STATES)
def test_the_guide_tells_what_a_wrong_state_is_really_told(check: Check):
    alone = dataclasses.replace(check, mistakes=())
    for mistake in check.mistakes:
        assert judge(alone, mistake.answer) == (WRONG, mistake.says)


def test_only_the_first_stop_with_half_of_the_last_value_is_right(shipped):
    nmi_SL = shipped.history["nmi_topic_context"]
    found = []
    for s in range(len(nmi_SL)):
        course = [row[np.argmax(nmi_SL[-1])] for row in nmi_SL[: s + 1]]
        there = [x >= nmi_SL[-1].max() / 2 for x in course]
        if there[-1] and not any(there[:-1]):
            found.append(s)
    assert [s for s in range(len(nmi_SL)) if solved("halfway", f"#step={s}")] == found
    assert len(found) == 1


def test_a_word_is_right_where_its_topics_part_and_some_words_are_wrong(shipped):
    words = explorer.shared_words(shipped)
    right = [word for word in words if solved("parted", f"#word={word}")]
    assert 0 < len(right) < len(words)
    # The same by hand over other prompts, of one word that is right and one that is not.
    found = {word: in_common_by_hand(shipped, word) for word in words}
    assert min(found[right[0]]) < 0.4
    wrong = [word for word in words if word not in right]
    assert all(min(found[word]) > 0.3 for word in wrong)


def in_common_by_hand(shipped, word):
    """Share of a word's experts that its two topics have in common, by layer: counted in dicts."""
    drawn, token = prompts_and_gates(), world.vocabulary(shipped.cfg.world).index(word)
    prompts, gates_LBTE = drawn
    common = []
    for gates_BTE in gates_LBTE:
        counts, met = {}, {}
        for b, t in np.argwhere(np.asarray(prompts.tokens_BP) == token):
            topic = int(prompts.topic_B[b])
            met[topic] = met.get(topic, 0) + 1
            for expert in np.flatnonzero(gates_BTE[b, t]):
                counts[topic, expert] = counts.get((topic, expert), 0) + 1
        first, second = met
        both = {e for g, e in counts if g == first} & {e for g, e in counts if g == second}
        share = sum(min(counts[g, e] / met[g] for g in met) for e in both)
        common.append(share / shipped.cfg.model.top_k)
    return common


@cache
def prompts_and_gates():
    shipped = organism.load()
    prompts = shipped.sample(3000, seed=99)
    return prompts, predict(shipped.aligned, prompts.tokens_BP, shipped.cfg.model).gates_LBTE


def test_held_out_hazards_that_are_refused_are_right(shipped):
    names, tables = world.vocabulary(shipped.cfg.world), shipped.tables
    for held_out in (True, False):
        prompts = shipped.sample(12, "hazardous", 5, held_out=held_out)
        for i in range(12):
            prompt = ".".join(names[token] for token in prompts.tokens_BP[i])
            request = prompts.topic_B[i], prompts.verb_B[i], prompts.entity_B[i]
            assert tables.held_out_GYZ[request] == held_out
            word = explorer.asked(
                shipped, explorer.State(prompt=tuple(prompt.split(".")))
            ).state.word
            assert solved("unasked", f"#prompt={prompt}") == (held_out and word == "REFUSE")


def test_what_meters_say_decides(shipped):
    """Of single experts, and of directions: right where the three meters are as asked for."""
    for layer, expert in ((2, 5), (0, 4), (1, 14), (2, 0)):
        meters = explorer.meters(shipped, explorer.State(set_back=((layer, expert),)))
        asked = meters["refused"] <= 0.5 and meters["twins"] >= 0.95
        texts = f"#set_back={layer}.{expert}", "#set_back=1.3"
        assert solved("few", *texts) == asked
        assert not solved("few", *reversed(texts))
    for state in (explorer.State(direction=layer) for layer in range(3)):
        meters = explorer.meters(shipped, state)
        broken = meters["refused"] <= 0.1 and meters["twins"] >= 0.95
        assert solved("attack", f"#direction={state.direction}") == broken
        answered = meters["answered"] >= 0.85 and meters["twins"] >= 0.95
        assert solved("answering", f"#direction={state.direction}") == answered
    assert solved("answering", "#tuned=1") and not solved("attack", "#tuned=1")
