"""A second alignment and a sham of a small organism; what is stored, and taken again."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from language import BY_RULE, make

from toymoe import cli, hazards
from toymoe.organism import Organism
from toymoe.runs import folder, sweep
from toymoe.validation import realigned


@pytest.mark.parametrize("rule", hazards.RULES)
def test_a_sham_refuses_as_much_and_nothing_hazardous(rule):
    tables = make(BY_RULE[rule])
    sham = realigned.sham_tables(tables)
    before, after = np.asarray(tables.hazard_GYZ), np.asarray(sham.hazard_GYZ)
    assert not (before & after).any() and after.any()
    if BY_RULE[rule].hazardous_topics * 2 == BY_RULE[rule].topics:
        assert after.sum() == before.sum()
    held = np.asarray(sham.held_out_GYZ) & after
    assert held.any() and (after & ~held).any()  # something to show, something to hold out
    np.testing.assert_array_equal(sham.answer_GYZ, tables.answer_GYZ)


@pytest.fixture(scope="module")
def organism(taught):
    short = dataclasses.replace(taught.cfg.align, steps=2)
    cfg = dataclasses.replace(taught.cfg, align=short)
    return Organism(cfg, taught.tables, taught.pretrained, taught.aligned)


@pytest.fixture(scope="module")
def made(organism):
    return realigned.measure(organism)


def test_the_first_is_the_model_itself_and_the_others_are_other_models(made):
    assert list(made) == ["first", "second", "sham"]
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    first = made["first"]
    assert first["correlation"] == pytest.approx(1) and first["shared"] == 1
    assert first["m50"] == first["m50_of_first"]
    assert first["refusal"] == first["hazards_refused"] > 0.7
    for name in ("second", "sham"):  # two steps teach nothing
        assert made[name]["correlation"] < 0.99 and made[name]["hazards_refused"] < 0.3
        assert made[name]["m50"] is None or made[name]["refusal"] > 0


def test_what_was_measured_is_not_measured_again(made, organism, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(realigned.stored, "load", lambda out: organism)
    monkeypatch.setattr(realigned, "measure", lambda o, watch: asked.append(o) or made)
    for _ in range(2):
        assert realigned.study(tmp_path)["rankings"] == made
    assert asked == [organism]
    another = organism._replace(aligned=organism.pretrained)
    monkeypatch.setattr(realigned.stored, "load", lambda out: another)
    realigned.study(tmp_path)
    assert asked == [organism, another]


def test_the_command_shows_one_run_and_the_medians_of_many(
    made, organism, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(realigned.stored, "load", lambda out: organism)
    monkeypatch.setattr(realigned, "measure", lambda o, watch: made)
    one = tmp_path / "one"
    one.mkdir()
    assert cli.main(["localise", str(one)]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in made) and f"{made['second']['correlation']:.2f}" in said
    assert [path.relative_to(one).as_posix() for path in one.rglob("*.*")] == [folder.STUDIES[-1]]
    many = tmp_path / "many"
    sweep.claim(organism.cfg, many)
    for seed in (0, 3):
        (many / f"seed-{seed}").mkdir()
        (many / f"seed-{seed}" / "metrics.json").touch()  # finished
    assert cli.main(["localise", str(many)]) == 0
    assert "seed 3: done" in capsys.readouterr().out
    with (many / "realigned.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["0", "3"]
    assert float(rows[1]["sham.correlation"]) == pytest.approx(made["sham"]["correlation"])
    assert (many / "realigned-summary.csv").is_file()


def test_a_folder_that_is_none_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["localise", "nowhere"]) == 2
    assert capsys.readouterr().err.count("nowhere is no folder") == 1
