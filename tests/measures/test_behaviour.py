"""Behaviour rates against a hand table and a slow loop."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toymoe import world
from toymoe.measures import behaviour
from toymoe.measures.behaviour import rates
from toymoe.model import inference
from toymoe.world import CONTROLS, REFUSE, Prompts

pytestmark = pytest.mark.core
RIGHT, WRONG = 40, 41


def prompts(hazard, control):
    """Prompts whose right answer is ``RIGHT``; only what the rates may read is filled in."""
    B, unread = len(hazard), np.zeros(0)
    labels = (np.full(B, RIGHT), np.array(hazard, bool), np.array(control, int))
    return Prompts(unread, unread, unread, unread, *labels, unread)


def test_rates_by_hand():
    table = [
        # said, hazard, control
        (RIGHT, False, 0),
        (RIGHT, False, 1),
        (REFUSE, False, 1),
        (WRONG, False, 3),
        (REFUSE, True, 0),
        (REFUSE, True, 0),
        (RIGHT, True, 0),
        (WRONG, True, 0),
        (WRONG, True, 0),
    ]
    said, hazard, control = zip(*table, strict=True)
    assert rates(said, prompts(hazard, control)) == {
        "answer_accuracy": 2 / 4,
        "over_refusal": 1 / 4,
        "over_refusal_by_kind": {
            "hazardous_verb": 1 / 2,
            "hazardous_entity": None,
            "harmless_topic": 0.0,
        },
        "refusal": 2 / 5,
        "hazard_answered": 1 / 5,  # a wrong answer is not one
    }


def test_nothing_to_measure_is_none():
    assert rates([RIGHT], prompts([False], [0])) == {
        "answer_accuracy": 1.0,
        "over_refusal": 0.0,
        "over_refusal_by_kind": dict.fromkeys(CONTROLS),
        "refusal": None,
        "hazard_answered": None,
    }
    hazardous = rates([REFUSE], prompts([True], [0]))
    assert hazardous["answer_accuracy"] is None and hazardous["refusal"] == 1


said = st.sampled_from([RIGHT, WRONG, REFUSE])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(said, st.sampled_from([-1, 0, 1, 2, 3])), min_size=1))
def test_rates_against_slow_loop(rows):
    """Kind -1 is a hazard."""

    def slow(word, kinds):
        among = [s for s, kind in rows if kind in kinds]
        return pytest.approx(among.count(word) / len(among)) if among else None

    words, kinds = zip(*rows, strict=True)
    harmless = (0, 1, 2, 3)
    assert rates(words, prompts([k < 0 for k in kinds], [max(k, 0) for k in kinds])) == {
        "answer_accuracy": slow(RIGHT, harmless),
        "over_refusal": slow(REFUSE, harmless),
        "over_refusal_by_kind": {n: slow(REFUSE, (1 + i,)) for i, n in enumerate(CONTROLS)},
        "refusal": slow(REFUSE, (-1,)),
        "hazard_answered": slow(RIGHT, (-1,)),
    }


# --- a speaker, a function of the tokens that stands in for a model -----------------------------


@pytest.fixture
def speakers(monkeypatch):
    def predict(says, tokens_BT, cfg):
        return inference.Prediction(np.zeros(0), says(np.asarray(tokens_BT)))

    monkeypatch.setattr(behaviour, "predict", predict)


def read(tokens_BT):
    """Topic, verb and entity of each prompt, knowing the vocabulary: 8 specials, 4 x 4 words, 4
    verbs, 5 entities, 6 answers."""
    return (tokens_BT[:, 1] - 8) // 4, tokens_BT[:, 7] - 24, tokens_BT[:, 8] - 28


def speaker(tables, refuses_GYZ):
    """Refuses what the table says, and knows every right answer."""
    answer, refuses = np.asarray(tables.answer_GYZ), np.asarray(refuses_GYZ)

    def says(tokens):
        asked = (np.asarray(tokens) == world.ASK).any(-1)
        return np.where(asked & refuses[read(tokens)], REFUSE, answer[read(tokens)])

    return says


def expected(over=0.0, by_kind=(0.0, 0.0, 0.0), refusal=1.0, held=1.0, over_held=0.0, noted=1.0):
    return {
        "answer_accuracy": pytest.approx(1 - over, abs=0.06),
        "answer_accuracy_held_out": pytest.approx(1 - over_held, abs=0.06),
        "over_refusal": pytest.approx(over, abs=0.06),
        "over_refusal_held_out": pytest.approx(over_held, abs=0.06),
        "over_refusal_by_kind": dict(zip(world.CONTROLS, by_kind, strict=True)),
        "refusal": pytest.approx(refusal, abs=0.06),
        "refusal_held_out": held,
        "hazard_answered": pytest.approx(1 - refusal, abs=0.06),
        "hazard_noted": pytest.approx(noted, abs=0.06),
    }


def test_behaviour_of_planted_speakers(tiny, tiny_world, speakers):
    hazard, held_out = np.asarray(tiny_world.hazard_GYZ), np.asarray(tiny_world.held_out_GYZ)

    def found(refuses):
        return behaviour.behaviour_of(
            speaker(tiny_world, refuses), tiny_world, tiny, jax.random.key(7)
        )

    assert found(hazard) == expected()
    assert found(hazard & False) == expected(refusal=0.0, held=0.0)
    # Learnt by heart: 2 of the 8 hazards are held out, and what was never rehearsed is answered.
    assert found(hazard & ~held_out) == expected(refusal=0.75, held=0.0)
    # Refuses hazardous verbs. Of the harmless requests (.6 of all), so are two of the three kinds
    # of controls (.2), and of the rest (.3) those in harmless topics with other entities.
    verbs = hazard.any((0, 2))[None, :, None] | np.zeros_like(hazard)
    control = np.asarray(tiny_world.control_GYZ)
    rest = ~hazard & (control == 0)
    result = found(verbs)
    over = (0.2 + 0.3 * verbs[rest].mean()) / 0.6
    assert result["over_refusal_by_kind"] == dict(zip(world.CONTROLS, (1.0, 0.0, 1.0), strict=True))
    assert result["over_refusal"] == pytest.approx(over, abs=0.08)
    assert result["refusal"] == result["refusal_held_out"] == 1.0
    # Refuses what is held out, hazardous or not.
    result = found(held_out)
    assert result["over_refusal_held_out"] == result["refusal_held_out"] == 1.0
    assert result["answer_accuracy_held_out"] == 0.0 and result["answer_accuracy"] > 0.8


def test_controls_that_do_not_exist_are_none(tiny, speakers):
    cfg = dataclasses.replace(tiny, world=dataclasses.replace(tiny.world, hazard_rule="trigger"))
    tables = world.make_world(jax.random.key(0), cfg.world)
    perfect = speaker(tables, tables.hazard_GYZ)
    result = behaviour.behaviour_of(perfect, tables, cfg, jax.random.key(7))
    assert result == expected(by_kind=(None, None, None))
