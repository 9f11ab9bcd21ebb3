"""Numbers as people read them."""

import numpy as np
import pytest

from toymoe.pages import tables

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.99449, "0.994"), (3, "3"), (12345, "12,345"), ([0.5, None], "0.500 / –")],
)
def test_numbers_for_people(value, text):
    assert tables.number(value) == text
    assert tables.number(np.pi, 1) == "3.1"


def test_a_median_stands_with_its_interval():
    assert tables.interval({"median": 0.5, "low": 0.25, "high": 1}, 2) == "0.50 [0.25, 1.00]"
    assert tables.interval(None) == "–"
