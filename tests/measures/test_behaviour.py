"""Behaviour rates against a hand table and a slow loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toymoe.measures.behaviour import rates
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
