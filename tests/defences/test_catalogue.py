"""The table of defences: what learns, and which attacks each one meets."""

import jax
import jax.numpy as jnp
import pytest
from oracle import random_params

from toymoe import world
from toymoe.attacks import catalogue as attacks
from toymoe.config import Config
from toymoe.defences import alignment, catalogue
from toymoe.organism import Organism


@pytest.fixture(scope="module")
def params(tiny):
    return jax.tree.map(jnp.asarray, random_params(tiny.model, len(world.vocabulary(tiny.world))))


def test_a_small_model_has_no_more_experts_to_learn_in_than_it_has(
    monkeypatch, params, tiny_world, tiny
):
    monkeypatch.setattr(catalogue, "PAIRS", 16)
    monkeypatch.setattr(alignment, "align", lambda *asked: asked[-1])
    organism = Organism(tiny, tiny_world, params, params)
    for most_used, expected in ((3, 3), (99, 16)):
        defence = alignment.Defence(most_used=most_used)
        assert catalogue.defend(organism, defence).aligned.experts.sum() == expected


def test_every_attack_of_the_defences_is_a_row_of_the_one_table():
    rows = attacks.table(Config())
    assert {met.row for met in catalogue.ATTACKS.values()} <= rows.keys()
    assert {name for met in catalogue.ATTACKS.values() for name in met.aimed} <= (
        catalogue.DEFENCES.keys()
    )


def test_no_attack_comes_first_and_one_aimed_elsewhere_not_at_all():
    plan = [(name, n) for name, _, n in catalogue.plan(["spread"], Config())]
    assert plan[0] == ("none", 0) and ("tuned", 16) in plan
    assert not any(name == "tuned_free" for name, _ in plan)
    both = {name for name, _, _ in catalogue.plan(["spread", "detector"], Config())}
    assert "tuned_free" in both
