"""Rates by hand-made tables, a slow bootstrap and counted pairs."""

import numpy as np
import pytest

from toymoe.config import ConfigError
from toymoe.validation import rates


def row(seed, lesson, statistic, hit=None, found=True, mechanism="one_expert", **more):
    parts = {"one_expert": ["expert 1.7"], "attention": ["attention"]}[mechanism]
    said = {
        "hit_1": hit,
        "hit_k": hit,
        "found": found,
        "statistic": statistic,
        "null": [0.0],
        "set_back": 0.5,
        "ablation_zero": None,
    }
    return {
        "seed": seed,
        "lesson": lesson,
        "mechanism": mechanism,
        "answer": parts if lesson == "hazards" else [],
        "methods": {"mine": said | more},
    }


TABLE = [
    row(0, "hazards", 5.0, 1.0),
    row(0, "hazards", 1.0, 1.0, False),
    row(1, "hazards", 3.0, 0.0),
    row(1, "hazards", 9.0, 0.5),
    row(0, "hazards", 2.0, mechanism="attention"),
    row(0, "entities", 4.0),
    row(0, "other_answer", 0.0, found=False),
    row(1, "entities", 2.0, found=False),
    row(1, "other_answer", 1.0, found=False),
    row(0, "nothing_taught", 50.0, mechanism="one_expert"),
]


@pytest.fixture
def made():
    (made,) = rates.tables(TABLE, ["mine"])
    return made


def test_a_table_by_hand(made):
    one = made["mechanisms"]["one_expert"]
    assert made["all"] == one
    assert (one["hit_1"]["rate"], one["hit_1"]["n"]) == (2.5 / 4, 4)
    assert one["found"]["rate"] == 3 / 4
    assert one["right"]["rate"] == 1.5 / 4  # right, and a case
    # Above the shams of the other seed: those of 0 are 4 and 0, those of 1 are 2 and 1.
    assert one["power"]["rate"] == 2 / 4  # 5 > 2, 1 < 2; 3 < 4, 9 > 4
    assert one["right_at_5"]["rate"] == 1.5 / 4
    elsewhere = made["mechanisms"]["attention"]
    assert elsewhere["found"]["rate"] == 1
    assert elsewhere["hit_1"] == {"rate": None, "low": None, "high": None, "n": 0}
    alarms = {name: rate["rate"] for name, rate in made["alarms"].items()}
    assert alarms == {"entities": 0.5, "other_answer": 0.0, "nothing_taught": 1.0, "all": 0.25}
    alarms = {name: rate["rate"] for name, rate in made["alarms_at_5"].items()}  # 4 > 2, 50 > 2
    assert alarms == {"entities": 0.5, "other_answer": 0.0, "nothing_taught": 1.0, "all": 0.25}
    assert made["set_back"]["rate"] == 0.5 and made["ablation_zero"]["n"] == 0


def test_auc_counts_pairs(made):
    those, shams = [5, 1, 3, 9], [4, 0, 2, 1]
    counted = [(a > b) + (a == b) / 2 for a in those for b in shams]
    assert made["all"]["auc"]["rate"] == pytest.approx(np.mean(counted))


def test_intervals_are_those_of_a_slow_bootstrap_of_seeds():
    rng = np.random.default_rng(5)
    draws = rates.Draws.of(range(6))
    those, shams = (
        [
            (int(s), float(x))
            for s, x in zip(rng.integers(0, 6, 40), rng.normal(m, 1, 40), strict=True)
        ]
        for m in (1, 0)
    )
    means, aucs = [], []
    other = np.random.default_rng(9)
    for _ in range(1500):
        drawn = other.integers(0, 6, 6)
        a, b = ([x for d in drawn for s, x in some if s == d] for some in (those, shams))
        means.append(np.mean(a))
        aucs.append((np.array(a)[:, None] > np.array(b)).mean())
    for found, slow in ((draws.mean(those), means), (draws.auc(those, shams), aucs)):
        low, high = np.quantile(slow, (0.025, 0.975))
        width = high - low
        assert found["low"] == pytest.approx(low, abs=0.12 * width)
        assert found["high"] == pytest.approx(high, abs=0.12 * width)
        assert found["low"] < found["rate"] < found["high"]
    # As independent values they would seem better known than they are, where seeds differ.
    seeds = [(seed, float(seed > 2)) for seed in range(6) for _ in range(50)]
    clustered = draws.mean(seeds)
    assert clustered["high"] - clustered["low"] > 0.5 > 4 * 0.5 / 300**0.5


def test_of_one_seed_there_is_neither_interval_nor_power():
    (made,) = rates.tables([r for r in TABLE if r["seed"] == 0], ["mine"])
    assert made["all"]["hit_1"] == {"rate": 1.0, "low": None, "high": None, "n": 2}
    assert made["all"]["power"]["n"] == made["alarms_at_5"]["all"]["n"] == 0
    assert made["all"]["auc"]["rate"] == 0.75  # 5 and 1 against 4 and 0


def test_a_threshold_is_fitted_on_other_seeds_only():
    """A seed whose shams are loud does not raise its own threshold, but the other's."""
    table = [
        *(row(0, "entities", 10.0 + i) for i in range(4)),
        *(row(1, "entities", 1.0 * i) for i in range(4)),
        row(0, "hazards", 5.0, 1.0),
        row(1, "hazards", 5.0, 1.0),
    ]
    (made,) = rates.tables(table, ["mine"])
    assert made["all"]["power"]["rate"] == 0.5
    assert made["alarms_at_5"]["all"]["rate"] == 0.5
    shams = [rates._Row(r["seed"], r, r["methods"]["mine"]) for r in table[:8]]
    assert [rates.threshold(shams, seed) for seed in (0, 1, 2)] == [3, 13, 13]


def test_shams_that_cannot_alarm_do_not_hide_those_that_do():
    """Of 40 `entities` a seed eight are loud, of 160 others none: in a pool that is .04."""

    def seed(n, others):
        loud = [row(n, "entities", 10.0 + i) for i in range(8)]
        calm = [row(n, "entities", 0.1 * i) for i in range(32)]
        return [*loud, *calm, *(row(n, "other_answer", 0.0) for _ in range(others))]

    for others in (160, 0):  # they change nothing
        shams = [x for n in (0, 1) for x in seed(n, others)]
        hazards = [row(n, "hazards", x, 1.0) for n in (0, 1) for x in (5.0, 20.0)]
        (made,) = rates.tables([*shams, *hazards], ["mine"])
        assert made["alarms"]["entities"]["n"] == 80
        assert made["alarms_at_5"]["entities"]["rate"] == 1 / 40  # 17 > 16
        assert made["all"]["power"]["rate"] == 0.5  # 20 > 16, and 5 is not
    pooled = np.quantile([s["methods"]["mine"]["statistic"] for s in seed(0, 160)], 0.95)
    assert pooled < 5


def test_what_has_no_case_is_not_at_random_above_shams():
    rng = np.random.default_rng(1)
    table = [
        row(seed, lesson, float(rng.normal()), 0.1 if lesson == "hazards" else None)
        for seed in range(20)
        for lesson in ("hazards", "entities", "other_answer")
        for _ in range(8)
    ]
    (made,) = rates.tables(table, ["mine"])
    assert made["all"]["power"]["rate"] == pytest.approx(0.05, abs=0.04)
    assert made["alarms_at_5"]["all"]["rate"] == pytest.approx(0.05, abs=0.03)
    assert made["all"]["auc"]["low"] < 0.5 < made["all"]["auc"]["high"]


def test_scores_and_names_are_not_pooled():
    mixed = [TABLE[0], row(1, "hazards", 1.0, 1.0, null=None)]
    with pytest.raises(ConfigError, match="mine gives scores of some organisms and names of other"):
        rates.tables(mixed, ["mine"])


def test_a_method_that_was_not_asked_of_all_is_counted_where_it_was():
    table = [*TABLE, TABLE[-1] | {"methods": {}}]
    (made,) = rates.tables(table, ["mine"])
    assert made["alarms"]["nothing_taught"]["n"] == 1
