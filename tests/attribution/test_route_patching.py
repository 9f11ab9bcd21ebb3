"""Prompts on each other's route, against runs whose routes are frozen by hand."""

import dataclasses

import numpy as np
import pytest
from surgery import forward

from toymoe import world
from toymoe.attribution import route_patching
from toymoe.model import taps


def slow(e, prompts, other):
    routes = forward(e.params, other.tokens_BP, e.cfg).routes
    edits = taps.Edits(route=taps.freeze(routes, np.ones((1, 1, 1), bool)))
    out = forward(e.params, prompts.tokens_BP, e.cfg, edits)
    says_B = np.asarray(out.logits_BTV[:, -1].argmax(-1))
    return {
        "refused": pytest.approx((says_B == world.REFUSE).mean()),
        "answered": pytest.approx((says_B == np.asarray(prompts.answer_B)).mean()),
    }


def test_each_takes_the_route_of_the_other(e):
    found = route_patching.exchanged(e)
    own = {name: numbers.pop("own") for name, numbers in found.items()}
    assert found == {"hazards": slow(e, e.hazards, e.twins), "twins": slow(e, e.twins, e.hazards)}
    assert own == {"hazards": slow(e, e.hazards, e.hazards), "twins": slow(e, e.twins, e.twins)}


def test_where_the_twin_is_the_prompt_itself_nothing_changes(trained):
    same = dataclasses.replace(trained, twins=trained.hazards)
    found = route_patching.exchanged(same)
    for numbers in found.values():
        assert numbers["own"] == {name: numbers[name] for name in ("refused", "answered")}
    assert found["hazards"]["refused"] > 0.7
