"""Planted organisms: only the seat changes, refusal goes with it, and shams have none."""

import jax
import numpy as np
import pytest

from toymoe import checkpoint
from toymoe.attribution import ablation, methods, weight_patching
from toymoe.attribution.evidence import gather
from toymoe.config import ConfigError
from toymoe.training.trainable import COMPONENTS
from toymoe.validation import planted

pytestmark = pytest.mark.usefixtures("optimised")

KEY, N, STEPS = jax.random.key(7), 24, 200


def evidence(taught, params):
    key = jax.random.key(1)
    return gather(params, taught.tables, taught.cfg, key, N, taught.pretrained)


@pytest.fixture(scope="module")
def plant(taught):
    """Plants; all seats and lessons share one compiled program."""
    made = {}

    def plant(seat, lesson="refuse", key=KEY):
        name = (seat, lesson, key is KEY)
        if name not in made:
            made[name] = planted.plant(
                seat, taught.pretrained, taught.tables, taught.cfg, key, lesson, STEPS
            )
        return made[name]

    return plant


@pytest.fixture(scope="module")
def busiest(taught):
    """The expert of the last layer that most hazards use at ANS."""
    usage = methods.usage(evidence(taught, taught.pretrained))
    return (1, int(usage[1].argmax()))


def changed(params, other):
    """For each array, where the two differ."""
    one, two = checkpoint.flatten(params), checkpoint.flatten(other)
    return {path: one[path] != two[path] for path in one}


@pytest.mark.parametrize(
    ("seat", "lesson"),
    [
        *((seat, "refuse") for seat in (((1, 3),), ((0, 2), (1, 0)), "attention", "router")),
        *(("attention", lesson) for lesson in planted.SHAMS),
    ],
)
def test_nothing_but_the_seat_changes(seat, lesson, plant, taught):
    for path, differ in changed(plant(seat, lesson), taught.pretrained).items():
        if isinstance(seat, str):
            assert differ.any() == (path in COMPONENTS[seat]), path
        elif path in COMPONENTS["experts"]:
            own = {tuple(map(int, at)) for at in np.argwhere(differ.any((2, 3)))}
            assert own == set(seat), path
        else:
            assert not differ.any(), path


def test_refusal_is_where_it_was_planted_and_goes_with_it(plant, busiest, taught):
    params = plant((busiest,))
    e = evidence(taught, params)
    refusal = weight_patching.behaviour(params, e).refusal
    assert refusal >= planted.TAUGHT
    assert weight_patching.behaviour(taught.pretrained, e).refusal == 0
    by_expert = ablation.ablate(e, "pretrained").free.refusal
    assert by_expert[busiest] == pytest.approx(refusal)  # all of it
    assert np.count_nonzero(by_expert) == 1  # and nobody else's
    assert weight_patching.behaviour(plant("attention"), e).refusal > refusal


@pytest.mark.parametrize("lesson", planted.SHAMS)
def test_shams_learn_their_lesson_and_never_refuse(lesson, plant, busiest, taught):
    for seat in ((busiest,), "attention"):
        params = plant(seat, lesson)
        found = weight_patching.behaviour(params, evidence(taught, params))
        assert found.refusal == 0
    answered = found.hazard_answered  # of attention, which has the reach to change it
    before = weight_patching.behaviour(taught.pretrained, evidence(taught, params)).hazard_answered
    assert answered < 0.5 * before if lesson == "other answer" else answered > 0.8 * before


def test_the_same_key_plants_the_same_organism(plant, taught):
    again = planted.plant(
        "router", taught.pretrained, taught.tables, taught.cfg, KEY, "refuse", STEPS
    )
    assert not any(x.any() for x in changed(again, plant("router")).values())
    other = plant("router", key=jax.random.key(8))
    assert changed(other, again)["layers/router"].any()


USAGE = np.array([[0.5, 0.05, 0.3, 0.25, 0.0], [0.1, 0.7, 0.15, 0.19, 0.4]])


def test_seats_are_drawn_among_experts_that_enough_hazards_use():
    used = {(0, 0), (0, 2), (0, 3), (1, 1), (1, 4)}
    drawn = [planted.draw_seats(USAGE, 0.2, 4, jax.random.key(i)) for i in range(30)]
    for seats in drawn:
        assert len(seats) == len(set(seats)) == 4 and {at for (at,) in seats} <= used
        assert [at[0] for (at,) in seats] == [0, 1, 0, 1]  # layers take turns
    assert {at for seats in drawn for (at,) in seats} == used  # and chance decides among them
    assert drawn[0] == planted.draw_seats(USAGE, 0.2, 4, jax.random.key(0))
    seven = planted.draw_seats(USAGE, 0.2, 7, jax.random.key(0))
    assert {at for (at,) in seven[:5]} == used
    assert seven[5:] == [((1, 3),), ((1, 2),)]  # then the busiest of the rest
    assert planted.pair_seats(seven[:3], 2) == [
        tuple(sorted(seven[0] + seven[1])),
        tuple(sorted(seven[1] + seven[2])),
    ]
    assert planted.pair_seats(seven[:1], 2) == []


BAD = {
    "component": (lambda plant: plant("expert"), "'expert' is not known.*attention"),
    "expert": (lambda plant: plant(((0, 5),)), "expert 5.* 5 experts, numbered from 0"),
    "layer": (lambda plant: plant(((-1, 0),)), "layer -1.* 2 layers"),
    "no expert": (lambda plant: plant(()), "at least one"),
    "lesson": (lambda plant: plant("router", "sham"), "'sham' is not known.*other answer"),
    "no seats": (lambda plant: planted.draw_seats(USAGE, 0.2, 0, KEY), "10 experts"),
    "many seats": (lambda plant: planted.draw_seats(USAGE, 0.2, 11, KEY), "11 seats"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case, plant):
    call, message = BAD[case]
    with pytest.raises(ConfigError, match=message) as error:
        call(plant)
    assert "\n" not in str(error.value)
