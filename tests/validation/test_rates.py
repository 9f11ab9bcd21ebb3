"""Rates by hand."""

import pytest

from toymoe.attribution import methods
from toymoe.training.trainable import COMPONENTS
from toymoe.validation import planted, rates

BEST = "ablation_refusal"


def organism(kind, hit, found, refusal=0.5, lesson="refuse", correlation=0.5, left="experts"):
    said = {"hit": hit, "found": found, "correlation": correlation}
    return {
        "kind": kind,
        "lesson": lesson,
        "seat": kind,
        "behaviour": {"refusal": refusal},
        "swaps": {name: {"removed": 0.0 if name == left else 0.4} for name in COMPONENTS},
        "methods": {name: dict(said, hit=hit and name == BEST) for name in methods.METHODS},
    }


def test_rates_by_hand():
    organisms = [
        *(organism("expert", True, i > 0, correlation=i / 10) for i in range(10)),
        organism("expert", False, False, refusal=0.09),  # too little to count
        *(organism("pair", True, True) for _ in range(3)),
        *(organism("sham", False, i == 0, 0.0, planted.SHAMS[i % 2]) for i in range(10)),
        organism("attention", False, True, left="attention"),
        organism("router", False, False, refusal=0.0, left="router"),
    ]
    found = rates.summarise(organisms)
    assert found["counts"] == {"expert": 11, "pair": 3, "sham": 10, "attention": 1, "router": 1}
    assert found["too_little"] == {"expert": 1, "pair": 0, "attention": 0, "router": 1}
    best, *rest = found["methods"]
    assert best["method"] == BEST and len(rest) == len(methods.METHODS) - 1
    # Wilson, n = 10: centre (p + z²/2n) / (1 + z²/n), z = 1.96; all of ten: 10 / (10 + z²).
    assert best["hit"] == {"rate": 1, "n": 10, "low": pytest.approx(0.7225, abs=1e-3), "high": 1}
    assert best["found"]["rate"] == 0.9 and best["pair"]["rate"] == 1
    assert best["alarms"]["rate"] == 0.1
    assert best["alarms"]["low"] == pytest.approx(0.0179, abs=1e-3)
    assert best["alarms_answer"]["rate"] == 0.2 and best["alarms_other_answer"]["rate"] == 0
    assert best["alarms_elsewhere"] == best["alarms_elsewhere"] | {"rate": 1, "n": 1}
    assert best["earned"] == pytest.approx(0.8)
    assert all(row["hit"]["rate"] == 0 and row["earned"] == pytest.approx(-0.1) for row in rest)
    assert best["correlation"]["median"] == pytest.approx(0.45)
    assert 0 < best["correlation"]["low"] < 0.45 < best["correlation"]["high"] < 0.9
    assert found["refusal"]["expert"] == [0.09, *[0.5] * 10] and "sham" not in found["refusal"]
    assert {name: rate["rate"] for name, rate in found["swaps"].items()} == {
        "experts": 1,
        "attention": 1,
        "router": None,
    }


def test_nothing_gives_nothing():
    found = rates.summarise([])
    assert found["counts"] == {} and found["methods"][0]["hit"]["rate"] is None
