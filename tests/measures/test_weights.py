"""How far weights moved, by hand."""

import jax
import numpy as np
import pytest
from oracle import random_params

from toymoe import checkpoint
from toymoe.measures import weights
from toymoe.training.trainable import COMPONENTS

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def params(tiny):
    return random_params(tiny.model, 39)


def test_what_stays_has_moved_by_nothing(params):
    for moved in weights.change(params, params).values():
        assert moved == {"relative": 0, "cosine": pytest.approx(1)}


def test_one_part_turned_over_and_the_others_left(params):
    """Twice the other way: the change is three times the part, and the whole moves by its share."""
    flat = checkpoint.flatten(params)
    turned = {path: -2 * x if path in COMPONENTS["attention"] else x for path, x in flat.items()}
    found = weights.change(params, checkpoint.unflatten(turned))
    assert list(found) == [*COMPONENTS, "all"]
    for name, moved in found.items():
        if name == "attention":
            assert moved == {"relative": pytest.approx(3), "cosine": pytest.approx(-1)}
        elif name != "all":
            assert moved == {"relative": 0, "cosine": pytest.approx(1)}
    square = {path: float((np.asarray(x, float) ** 2).sum()) for path, x in flat.items()}
    part = sum(square[path] for path in COMPONENTS["attention"])
    assert found["all"]["relative"] == pytest.approx(3 * (part / sum(square.values())) ** 0.5)


def test_a_step_at_a_right_angle_has_no_size_in_common(params):
    other = jax.tree.map(lambda x: np.roll(x, 1), params)
    found = weights.change(params, other)["experts"]
    assert abs(found["cosine"]) < 0.1 and found["relative"] == pytest.approx(2**0.5, rel=0.1)
