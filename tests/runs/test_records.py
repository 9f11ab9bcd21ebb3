"""Rows of numbers over seeds, by hand."""

import pytest

from toymoe.runs import records

pytestmark = pytest.mark.core


def test_flattened_by_hand():
    nested = {
        "seed": 4,
        "a": {"b": [0.5, 0.25], "c": None, "d": {"e": 3}},
        "matrix": [[1, 5], [3, 2]],
        "pair": {"js": [0.125]},
        "holes": [1.0, None],
        "nothing": [],
    }
    said = {"config": {"seed": 4}, "versions": {"jax": "0.10.2"}, "hash": "ab"}  # of itself
    assert records.flat(nested | said) == {
        "seed": 4,
        "a.b.0": 0.5,
        "a.b.1": 0.25,
        "a.b.best": 0.5,
        "a.c": None,
        "a.d.e": 3,
        "matrix.0.0": 1,
        "matrix.0.1": 5,
        "matrix.0.best": 5,
        "matrix.1.0": 3,
        "matrix.1.1": 2,
        "matrix.1.best": 3,
        "pair.js.0": 0.125,
        "pair.js.best": 0.125,
        "holes.0": 1.0,
        "holes.1": None,
    }


def test_summary_by_hand():
    rows = [{"seed": i, "error": "", "flat": 2.0, "x": float(i), "y": None} for i in range(9)]
    rows += [{"seed": 9, "error": "lost"}, {"seed": 10, "error": "", "once": 7, "y": None}]
    found = records.summarise(rows, 50_000)
    assert found["flat"] == dict(n=9, median=2.0, low=2.0, high=2.0, min=2.0, max=2.0)
    assert found["once"] == dict(n=1, median=7.0, low=7.0, high=7.0, min=7.0, max=7.0)
    assert found.keys() == {"flat", "x", "once"}
    # The median of nine draws from 0..8 is at most k if five of them are: with the binomial
    # chance .0014 for k = 0 and .0304 for k = 1. So 2.5 % lie at 1, and likewise 97.5 % at 7.
    assert found["x"] == dict(n=9, median=4.0, low=1.0, high=7.0, min=0.0, max=8.0)
    assert records.summarise([{"seed": 0, "error": "lost"}]) == {}
