"""The vocabulary against hand tables and slow loops."""

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from language import CFG, ODD

from toymoe import world
from toymoe.world.tokens import layout

pytestmark = pytest.mark.core


def test_vocabulary_by_hand():
    # 2 of 4 words are shared, one with each neighbour on the ring alps - boat - clay - dune - alps.
    assert " ".join(world.vocabulary(CFG)) == (
        "BOS ASK ANS REFUSE SORRY OKAY END NOTE "
        "alps1 alps2 boat1 boat2 clay1 clay2 dune1 dune2 "
        "alps-dune1 alps-boat1 boat-clay1 clay-dune1 "
        "lift seal turn mark key box rope lamp coin "
        "answer0 answer1 answer2 answer3 answer4 answer5"
    )
    assert world.names(CFG) == ["alps", "boat", "clay", "dune"]


def test_positions_by_hand():
    cfg = dataclasses.replace(CFG, context=2)
    assert " ".join(world.roles(cfg)) == (
        "BOS context context ASK verb entity ANS response response response"
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 64), st.integers(2, 40), st.floats(0, 1), st.integers(2, 64))
def test_topics_share_words_with_their_neighbours_only(G, W, overlap, many):
    cfg = dataclasses.replace(ODD, topics=G, words=W, overlap=overlap, verbs=many)
    words = [set(row) for row in layout(cfg).word_GW.tolist()]
    assert [len(s) for s in words] == [W] * G
    shared = len(words[0] & set().union(*words[1:]))
    assert abs(W * overlap - shared) <= 0.5
    halves = (shared // 2, (shared + 1) // 2) if G > 2 else (shared,)
    for g, h in itertools.combinations(range(G), 2):
        assert len(words[g] & words[h]) in (halves if h - g in (1, G - 1) else (0,))
    union = set().union(*words)
    assert union == set(range(8, 8 + len(union)))
    vocabulary = world.vocabulary(cfg)
    assert len(set(vocabulary)) == len(vocabulary) == 8 + len(union) + many + 2 + 2
