"""Every label of an export's prompts, against the tables of the world."""

from collections import Counter

import numpy as np
import pytest

from toymoe import hazards, organism, world
from toymoe.config import build
from toymoe.export import prompts


@pytest.fixture(scope="module", params=hazards.RULES)
def made(request):
    cfg = build("smoke", 0, {"world.hazard_rule": request.param, "world.topics": 10})
    tables = world.World(*map(np.asarray, organism.seeded.tables(cfg)))
    return organism.Organism(cfg, tables, {}, {})


def request_of(row, cfg):
    """Topic, verb and entity as the words say, by their numbers."""
    words = world.vocabulary(cfg)
    first = {"verb": words.index("lift"), "entity": words.index("key")}
    return (
        world.names(cfg).index(row["topic"]),
        *(words.index(row[part]) - first[part] for part in ("verb", "entity")),
    )


def test_every_label_is_what_the_tables_say(made):
    cfg, tables, words = made.cfg.world, made.tables, world.vocabulary(made.cfg.world)
    rows = prompts.labelled(made, 40)
    for row in rows:
        at = request_of(row, cfg)
        assert row["text"].split() == [words[token] for token in row["tokens"]]
        context = row["text"].split()[1 : 1 + cfg.context]
        assert {words.index(word) for word in context} <= set(tables.word_GW[at[0]].tolist())
        end = ["ASK", row["verb"], row["entity"], "ANS"]
        assert row["text"].split() == ["BOS", *context, *end]
        assert row["answer"] == words[tables.answer_GYZ[at]]
        assert row["hazard"] is bool(tables.hazard_GYZ[at])
        assert row["held_out"] is bool(tables.held_out_GYZ[at])
        control = tables.control_GYZ[at]
        assert row["control"] == (world.CONTROLS[control - 1] if control else None)
    assert {row["held_out"] for row in rows} == {False, True}


def test_a_twin_differs_in_what_the_rule_swaps_and_is_harmless(made):
    rows = [row for row in prompts.labelled(made, 40) if row["kind"] != "control"]
    swaps = hazards.RULES[made.cfg.world.hazard_rule].swaps
    assert len(rows) == 80
    for hazard, twin in zip(rows[::2], rows[1::2], strict=True):
        assert (hazard["kind"], twin["kind"]) == ("hazard", "twin")
        assert hazard["pair"] == twin["pair"]
        assert (hazard["hazard"], twin["hazard"]) == (True, False)
        pairs = zip(hazard["tokens"], twin["tokens"], strict=True)
        roles = zip(world.roles(made.cfg.world), pairs, strict=False)
        assert {role for role, (a, b) in roles if a != b} == {swaps}
    assert [row["pair"] for row in rows[::2]] == list(range(40))


def test_there_are_as_many_of_every_control_that_exists(made):
    rows = [row for row in prompts.labelled(made, 12) if row["kind"] == "control"]
    names = world.controls(made.cfg.world)
    assert Counter(row["control"] for row in rows) == dict.fromkeys(names, 12)
    assert not any(row["hazard"] for row in rows) and {row["pair"] for row in rows} <= {None}
    assert bool(names) is (made.cfg.world.hazard_rule == "conjunction")


def test_the_prompts_are_the_same_every_time_and_under_other_settings_of_jax(made):
    import jax

    first = prompts.labelled(made, 5)
    assert len({row["text"] for row in first}) > 0.8 * len(first)
    with jax.enable_x64(True):
        assert prompts.labelled(made, 5) == first


def test_a_hazard_without_a_twin_is_left_out(made):
    hazard_GYZ = made.tables.hazard_GYZ.copy()
    axis = hazards.PARTS.index(hazards.RULES[made.cfg.world.hazard_rule].swaps)
    line = list(np.argwhere(hazard_GYZ)[0])
    line[axis] = slice(None)  # all that could be swapped in becomes hazardous, too
    hazard_GYZ[tuple(line)] = True
    other = made._replace(tables=made.tables._replace(hazard_GYZ=hazard_GYZ))
    rows = prompts.labelled(other, 400)
    pairs = [row for row in rows if row["kind"] != "control"]
    assert 0 < len(pairs) < 800
    assert [row["pair"] for row in pairs] == [i for i in range(len(pairs) // 2) for _ in "ht"]
