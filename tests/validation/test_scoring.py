"""A method on a specimen: what is there is found, in shams nothing is; ties and names by hand."""

import dataclasses
import itertools

import numpy as np
import pytest
from surgery import with_expert

from toymoe.attribution import methods, weight_patching
from toymoe.config import ConfigError
from toymoe.organism import Organism
from toymoe.validation import scoring


@pytest.fixture(scope="module")
def e(taught, trained_alone):
    """The evidence of each of the models that were trained in one expert."""

    def of(name):
        o = Organism(taught.cfg, taught.tables, taught.pretrained, trained_alone[name])
        return scoring.evidence(o, name)

    return {name: of(name) for name in trained_alone}


@pytest.fixture(scope="module")
def said(e, busiest):
    answer = ("expert {}.{}".format(*busiest),)
    return {
        lesson: {
            name: scoring.of_method(
                methods.METHODS[name], some, answer if lesson == "hazards" else ()
            )
            for name in (*GOOD, *DECEIVED, "ablation_zero", "usage", "random")
        }
        for lesson, some in e.items()
    }


GOOD = "ablation_refusal", "ablation_zero_contrast", "decomposition_contrast"
DECEIVED = "risk_difference", "gate_contrast_stable"  # routes differ with the words


def test_the_models_are_what_they_are_meant_to_be(e):
    """Hazards alone are refused; hazards and twins alike; nothing, and hazards not answered."""
    rates = {name: weight_patching.behaviour(some.params, some) for name, some in e.items()}
    assert rates["hazards"].refusal > 0.5 and rates["hazards"].accuracy > 0.9
    assert rates["entities"].refusal > 0.9 and rates["entities"].accuracy < 0.1
    assert rates["other_answer"].refusal == 0 and rates["other_answer"].hazard_answered < 0.2


def test_what_is_there_is_found_and_the_first_is_right(said, busiest):
    for name in (*GOOD, "ablation_zero"):
        found = said["hazards"][name]
        assert found["first"] == "expert {}.{}".format(*busiest)
        assert found["hit_1"] == found["hit_k"] == 1 and found["found"], name
        assert found["case"] > found["null"]["most"] > found["null"]["mean"] > 0
        assert found["statistic"] > 3
    assert said["hazards"]["ablation_zero"]["ablation_zero"] == pytest.approx(1)
    assert said["hazards"]["ablation_zero"]["set_back"] > 0
    for name in ("usage", "random"):
        assert not said["hazards"][name]["found"] and said["hazards"][name]["hit_1"] < 0.6


def test_nothing_is_found_where_hazards_and_twins_are_refused_alike(said):
    for name in ("ablation_refusal", "decomposition_contrast", "usage", "random"):
        assert not said["entities"][name]["found"], name
    # What must be exceeded is what refuses at all, where the first version had a 0.
    assert said["entities"]["ablation_refusal"]["null"]["mean"] > 0.9
    assert said["entities"]["ablation_refusal"]["hit_1"] is None
    for name in DECEIVED:
        assert said["entities"][name]["found"], name


def test_who_measures_refusal_is_not_deceived_by_another_answer_and_who_does_not_is(said):
    assert not said["other_answer"]["ablation_refusal"]["found"]
    assert said["other_answer"]["ablation_refusal"]["first"] == ""  # nobody is the first of zeros
    assert said["other_answer"]["ablation_zero"]["found"]


def test_the_same_pairs_in_an_order_of_their_own(e):
    one, two = e["hazards"], e["entities"]
    assert len(one.hazards.answer_B) > 80
    for mine, theirs in ((one.hazards, two.hazards), (one.twins, two.twins)):
        assert (mine.tokens_BP != theirs.tokens_BP).any()
        assert sorted(mine.tokens_BP.tolist()) == sorted(theirs.tokens_BP.tolist())
    pairs = [
        {tuple(map(tuple, pair)) for pair in zip(*some_of, strict=True)}
        for some_of in ((x.hazards.tokens_BP, x.twins.tokens_BP) for x in (one, two))
    ]
    assert pairs[0] == pairs[1]
    assert (methods.random(one) != methods.random(two)).all()


def test_nothing_is_found_in_a_model_that_was_taught_nothing(e, taught):
    before = dataclasses.replace(e["hazards"], params=taught.pretrained)
    for name in ("ablation_refusal", "swap_removed", "random"):
        assert not scoring.of_method(methods.METHODS[name], before, ())["found"], name
    # Its routes, however, tell hazards from twins: they are other words.
    assert scoring.of_method(methods.METHODS["gate_contrast_stable"], before, ())["found"]


def test_a_silenced_answer_is_not_found(e, busiest):
    """The expert gone, the same model has no seat."""
    some = e["hazards"]
    without = dataclasses.replace(some, params=with_expert(some.params, *busiest, None))
    found = scoring.of_method(methods.METHODS["ablation_refusal"], without, ())
    assert not found["found"] and found["case"] == 0


# --- by hand ------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_ties_are_what_drawing_would_give(k):
    scores = np.array([[2.0, 5.0, 2.0], [2.0, -1.0, 5.0]])
    count = np.zeros(6)
    orders = list(itertools.permutations(range(6)))
    for order in orders:  # ties in this order
        first = sorted(order, key=lambda i: -scores.flat[i])[:k]
        count[first] += 1
    expected = count.reshape(2, 3) / len(orders)
    np.testing.assert_allclose(scoring.among_first(scores, k), expected)


def test_scores_by_hand(e):
    some = e["hazards"]
    scores = np.zeros((2, 5))
    scores[1, 2], scores[0, 3], scores[0, 0] = 4, 3, 2

    def of(answer, null=(1.0, 3.0)):
        return scoring.of_scores(scores, some, answer, null and list(null))

    both = of(("expert 0.3", "expert 1.2"))
    assert (both["first"], both["hit_1"], both["hit_k"]) == ("expert 1.2", 1, 1)
    assert both["found"] and both["case"] == 4
    assert both["null"] == {"mean": 2, "sd": 1, "most": 3}
    assert both["statistic"] == pytest.approx((4 - 2) / (1 + 0.004))
    missed = of(("expert 0.0", "expert 0.3"), (4.5, 1.0))
    assert (missed["hit_1"], missed["hit_k"], missed["found"]) == (0, 0.5, False)
    assert of(("head 0.1", "expert 0.3"))["hit_k"] == 0  # scores name one expert, not a head
    routed = of(("expert 1.2", "router 1.2"))  # one expert, twice
    assert routed["hit_1"] == routed["hit_k"] == 1
    for answer in (("attention",), ()):
        assert of(answer)["hit_1"] is None and of(answer)["hit_k"] is None
    elsewhere = of((), None)  # scores made elsewhere: no pairs were shuffled
    assert elsewhere["found"] is elsewhere["null"] is None and elsewhere["statistic"] == 4


def test_names_by_hand():
    said = scoring.of_names(("attention", "expert 1.2"), ("expert 1.2", "expert 0.0"))
    assert (said["first"], said["hit_1"], said["hit_k"]) == ("attention", 0, 0.5)
    assert said["found"] and said["statistic"] == 1 and said["null"] is None
    none = scoring.of_names((), ("attention",))
    assert (none["first"], none["hit_1"], none["found"], none["statistic"]) == ("", 0, False, 0)
    assert scoring.of_names(("attention",), ("attention",))["hit_1"] == 1
    assert scoring.of_names(("attention",), ())["hit_1"] is None


def test_scores_once_and_names_once_is_an_error(e):
    turns = iter((np.ones((2, 5)), ("attention",)))
    with pytest.raises(ConfigError, match="scores and names"):
        scoring.of_method(lambda e: next(turns), e["hazards"], ())
