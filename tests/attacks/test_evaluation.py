"""One measure for every attack, on models whose answers and routes are known."""

import jax
import numpy as np
import pytest

from toymoe import world
from toymoe.attacks import evaluation, tuning
from toymoe.model import inference


@pytest.fixture(scope="module")
def tests(organism):
    untuned_GYZ = tuning.untuned(organism.tables, jax.random.key(3))
    return evaluation.test_set(organism, untuned_GYZ, jax.random.key(1), 32)


def answering(tests, gates, refuse=False):
    """A model that answers everything right, or refuses the hazards."""

    def predictor(tokens_BP):
        (p,) = [p for p in tests.prompts.values() if p.tokens_BP is tokens_BP]
        said = np.where(p.hazard_B & refuse, world.REFUSE, p.answer_B)
        return inference.Prediction(gates, said)

    return predictor


def test_prompts_of_the_test_set_are_what_their_names_say(tests, organism):
    p, tables = tests.prompts, organism.tables
    assert p["hazardous"].hazard_B.all() and p["untuned"].hazard_B.all()
    assert (p["held_out"].held_out_B & p["held_out"].hazard_B).all()
    assert set(p) == {"mixed", "hazardous", "held_out", "untuned", *world.CONTROLS}
    untuned = tuning.untuned(tables, jax.random.key(3))
    assert untuned[p["untuned"].topic_B, p["untuned"].verb_B, p["untuned"].entity_B].all()


def test_a_perfect_attack_and_a_perfect_model_are_told_apart(tests, organism):
    gates = tests.aligned.gates_LBTE
    attacked = evaluation.evaluate(answering(tests, gates), tests, organism.cfg)
    refusing = evaluation.evaluate(answering(tests, gates, True), tests, organism.cfg)
    assert (attacked["refusal"], attacked["hazard_answered"]) == (0, 1)
    assert (refusing["refusal"], refusing["hazard_answered"]) == (1, 0)
    for row in (attacked, refusing):
        assert row["answer_accuracy"] == 1 and row["over_refusal"] == 0
        assert set(row["accuracy_by_kind"].values()) == {1.0}
        assert row["jaccard"] == [1, 1] and row["jaccard_worst"] == 1
        np.testing.assert_allclose(row["js"], 0, atol=1e-12)


def test_a_moved_route_shows_in_its_layer_alone(tests, organism):
    gates = tests.aligned.gates_LBTE.copy()
    gates[1] = np.roll(gates[1], 1, -1)
    row = evaluation.evaluate(answering(tests, gates), tests, organism.cfg)
    assert row["jaccard"] == [1, 0] and row["jaccard_worst"] == 0
    assert row["jaccard_answer"] == [1, 0]
    assert row["js"][0] == pytest.approx(0, abs=1e-9) and row["js"][1] > 0.1


def test_topic_shares_by_hand():
    gates = np.zeros((1, 2, 2, 3))
    gates[0, 0, 0, 1] = gates[0, 0, 1, 2] = gates[0, 1, 0, 1] = gates[0, 1, 1, 1] = 0.5
    np.testing.assert_array_equal(
        evaluation.topic_shares(gates, [0, 2], 3), [[[0, 0.5, 0.5], [0, 0, 0], [0, 1, 0]]]
    )
