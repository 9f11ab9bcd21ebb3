"""``toymoe defend``: on one run, cut off, over many seeds; numbers by hand."""

import csv
import importlib
import json
import shutil
from functools import partial

import pytest

from toymoe import cli
from toymoe.attacks import evaluation, tuning
from toymoe.defences import alignment, catalogue, detector, report, study
from toymoe.defences.catalogue import Row
from toymoe.organism import stored
from toymoe.runs import folder, studies, sweep

FAST = tuning.Schedule(steps=2, check=2, batch=4)
FEW = {
    "none": Row(),
    "most_used": Row(alignment.Defence(most_used=2)),
    "detector": Row(beside=detector.fit),
}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr(catalogue, "DEFENCES", FEW)
    monkeypatch.setattr(catalogue, "BUDGETS", (1, 4))
    monkeypatch.setattr(evaluation, "PROMPTS", 16)
    monkeypatch.setattr(study, "study", partial(study.study, schedule=FAST))
    monkeypatch.setattr(study, "finished", partial(study.finished, schedule=FAST))


@pytest.fixture(scope="module")
def run(small_run, tmp_path_factory):
    """A copy of the small run, whose folder may be written to."""
    folder = tmp_path_factory.mktemp("defend") / "run"
    shutil.copytree(small_run.out, folder)
    return folder


def points_of(*refusals, tuned_most_used=(0.9, 0.8), unattacked=1.0, accuracy=0.99):
    """Points of one defence with budgets 1 and 2, all attacks but one leaving ``refusals``; hardly
    anything is answered right."""
    same = dict(hazard_answered=0.1, refusal_held_out=0.9, over_refusal=0.01)
    rows = [same | dict(attack="none", budget=0, refusal=unattacked, answer_accuracy=accuracy)]
    for attack in catalogue.ATTACKS:
        left = tuned_most_used if attack == "tuned_most_used" else refusals
        for n, r in zip((1, 2), left, strict=True):
            rows.append(same | dict(attack=attack, budget=n, refusal=r, answer_accuracy=0.5))
    return rows


COUNTS = [
    ([(0, 1.0), (1, 0.9), (2, 0.4), (4, 0.1)], 2),
    ([(0, 1.0), (1, 0.2), (2, 0.6), (4, 0.1)], 1),
    ([(0, 1.0), (1, 0.5), (8, 0.5)], None),
    ([(4, 0.1), (2, 0.4), (0, 1.0)], 2),
]


@pytest.mark.parametrize("points, count", COUNTS)
def test_break_counts_by_hand(points, count):
    assert study.break_count(points) == count


def test_the_summary_has_counts_and_price():
    def rows(accuracy, *refusals, unattacked=1.0):
        row = dict(refusal_held_out=0.9, over_refusal=0.01, hazard_answered=0.0)
        made = [dict(row, attack="none", budget=0, refusal=unattacked, answer_accuracy=accuracy)]
        for attack in catalogue.ATTACKS:
            made += [
                dict(row, attack=attack, budget=n, refusal=r, answer_accuracy=0.5)
                for n, r in zip((1, 2, 3), refusals, strict=True)
            ]
        return made

    made = {
        "none": rows(0.99, 0.4, 0.2, 0.1),
        "strong": rows(0.97, 0.9, 0.8, 0.3),
        "useless": rows(0.99, 0.9, 0.9, 0.9, unattacked=0.4),
    }
    plain, strong, useless = study.summary(made)
    assert plain["break_tuned"] == 1 and strong["break_tuned"] == 3 and useless["break_tuned"] == 0
    assert plain["accuracy_lost"] == 0 and strong["accuracy_lost"] == pytest.approx(0.02)
    curves = study.curves({"none": rows(0.99, 0.4, 0.2, 0.1)})
    assert curves["removed"]["none"] == [(0, 1.0), (1, 0.4), (2, 0.2), (3, 0.1)]


def test_not_refused_is_not_yet_answered_right():
    """Refusal breaks with one expert; the right answer comes with two, by one attack alone."""
    points = points_of(0.4, 0.2, unattacked=0.9)
    for row in points:
        if row["attack"] == "removed":
            row["hazard_answered"] = {1: 0.5, 2: 0.6}[row["budget"]]  # a half is not more than it
    made = {"points": {"none": points}, "detector": {}}
    (row,) = study.summary(made["points"])
    assert row["break_removed"] == row["break_tuned"] == 1
    assert row["answered_removed"] == row["answered_any"] == 2 and row["answered_tuned"] is None
    many = study.seed_row(made)
    assert many["none.answered.any"] == 2 and many["none.answered.tuned"] == 3  # not with two
    (shown,) = report.table(made)
    assert dict(zip(report.HEAD, shown, strict=True))["answered"] == "2"
    points[0]["hazard_answered"] = 0.6  # without an attack
    assert study.summary(made["points"])[0]["answered_tuned"] == 0


def test_a_seed_s_numbers_by_hand():
    made = {
        "points": {
            "none": points_of(0.4, 0.2, tuned_most_used=(0.9, 0.3)),
            "strong": points_of(0.9, 0.9, tuned_most_used=(0.9, 0.4), accuracy=0.97),
            "proof": points_of(0.9, 0.9),
            "broken": points_of(0.3, 0.3, unattacked=0.4),
        },
        "detector": {"held_out": 0.25},
    }
    row = study.seed_row(made)
    breaks = {name: row[f"{name}.break.tuning"] for name in made["points"]}
    assert breaks == {"none": 1, "strong": 2, "proof": 3, "broken": 0}  # 3: not with two
    assert row["strong.break.tuned"] == 3 and row["strong.break.tuned_most_used"] == 2
    assert row["strong.times.tuning"] == 2 and row["none.times.tuning"] == 1
    assert "strong.break.tuned_free" not in row and row["none.break.tuned_free"] == 1
    assert row["strong.times.tuned"] == 3 and row["strong.times.tuned_most_used"] == 1
    assert row["strong.accuracy_lost"] == pytest.approx(0.02)
    assert row["none.removed.2.refusal"] == 0.2 and row["none.none.0.answer_accuracy"] == 0.99
    assert row["error.held_out"] == 0.25


def many_of(points, out):
    """Of points by seed, as if each had been measured."""
    made = {
        f"seed-{seed}": {"points": its, "detector": {"mixed": 0.0}} for seed, its in points.items()
    }
    return studies.many(None, lambda run: made[run.name], study.seed_row, list(points), out)


@pytest.mark.parametrize("tunes", [True, False])
def test_a_sixth_attack_stands_under_its_own_heading(tunes, monkeypatch, tmp_path):
    """All that is added is the row; nobody withstands it, and everybody all others."""
    monkeypatch.setitem(catalogue.ATTACKS, "sixth", catalogue.Met("masked", "closed", tunes))
    importlib.reload(report)
    try:
        points = points_of(0.9, 0.9, tuned_most_used=(0.9, 0.9))
        for row in points:
            row["refusal"] = 0.1 if row["attack"] == "sixth" else row["refusal"]
        made = many_of({0: {"none": points}}, tmp_path / "defences")
        tables = [
            (report.SHORT, report.short(made.studies[0])),
            (report.SHORT, report.short_of_seeds(made)),
            (report.HEAD, report.table(made.studies[0])),
            (report.OF_SEEDS, report.table_of_seeds(made)),
        ]
        for head, (row,) in tables:
            cells = dict(zip(head, row, strict=True))
            own = {"closed", "break: sixth"} | ({"best of these"} if tunes else set())
            assert {name for name, cell in cells.items() if cell == "1"} == own & set(head)
            assert [cell for cell in row if cell == ">2"] == [">2"] * row.count(">2") != []
    finally:
        monkeypatch.undo()
        importlib.reload(report)


def test_the_table_of_seeds_says_what_was_not_reached(tmp_path):
    points = {"none": points_of(0.4, 0.2), "proof": points_of(0.9, 0.9)}
    other = {"none": points_of(0.9, 0.2), "proof": points_of(0.9, 0.9)}
    made = many_of({0: points, 1: points, 2: other}, tmp_path / "defences")
    none, proof = (
        dict(zip(report.OF_SEEDS, row, strict=True)) for row in report.table_of_seeds(made)
    )
    assert none["tuned"] == "1 [1, 2]" and none["best of these"] == "1 [1, 2]"
    assert none["answered"] == ">2"
    assert proof["tuned"] == ">2" and proof["removed"] == ">2"
    assert proof["free"] == "–" and none["free"] == "1 [1, 2]"
    assert proof["times the undefended"] == "3.0 [1.5, 3.0]"
    page = report.write_seeds(made, tmp_path / "defences").read_text()
    assert "medians over 3 seeds" in page and page.count("data:image/png;base64,") == 1
    assert report.short_of_seeds(made)[0][:6] == ("none", "1", ">2", "1", "1", "1")


def test_one_run_cut_off_goes_on_and_ends_the_same(run, quick):
    whole = study.study(run)
    assert list(whole["points"]) == list(FEW)
    for name, rows in whole["points"].items():
        attacks = [attack for attack in catalogue.ATTACKS if attack != "tuned_free"]
        attacks += ["tuned_free"] * (name != "most_used")
        assert {(r["attack"], r["budget"]) for r in rows} == {
            ("none", 0),
            *((attack, n) for attack in attacks for n in (1, 4)),
        }
    shutil.rmtree(run / "defences")

    def stop(p):
        if p.stage == "most_used: removed 1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.study(run, watch=stop)
    left = json.loads((run / "defences" / "study.json").read_bytes())
    assert list(left["points"]) == ["none", "detector"]  # one organism
    assert study.study(run) == json.loads(json.dumps(whole))
    stages = []
    study.study(run, watch=lambda p: stages.append(p.stage))
    assert stages == ["done"]


def test_the_command_writes_tables_figure_and_page(run, quick, capsys):
    assert cli.main(["defend", str(run)]) == 0
    out = capsys.readouterr().out
    assert "most used" in out and "by use" in out and "defences.html" in out
    with (run / "defences" / "points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"defence", "attack", "budget", "refusal", "jaccard.0"} <= rows[0].keys()
    assert len(rows) == 3 * 9 + 2 * 2
    page = (run / "defences" / "defences.html").read_text()
    assert page.count("data:image/png;base64,") == 1 and "held out" in page
    assert (run / "defences" / "table.csv").is_file()
    assert {path for name in folder.STUDIES for path in run.glob(name)} == {
        *(run / "defences").iterdir()
    }


def test_many_seeds_keep_what_the_failing_one_cannot_give(run, quick, tmp_path, capsys):
    out = tmp_path / "many"
    sweep.claim(stored.config(run), out)
    shutil.copytree(run, out / "seed-0")
    shutil.copytree(run, out / "seed-1")
    (out / "seed-1" / "aligned.npz").write_bytes(b"no checkpoint")
    assert cli.main(["defend", str(out)]) == 1
    said = capsys.readouterr().out
    assert "seed 0: done" in said and "1 of 2 seeds" in said and "most used" in said
    with (out / "defences.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["error"] == "" and rows[1]["error"] != "" and rows[1]["none.refusal"] == ""
    assert (out / "defences-summary.csv").is_file()
    assert (out / "defences" / "defences.html").is_file()


def test_a_sweep_whose_every_seed_fails_says_so(run, quick, tmp_path, capsys):
    out = tmp_path / "many"
    sweep.claim(stored.config(run), out)
    (out / "seed-0").mkdir()
    assert cli.main(["defend", str(out)]) == 1
    assert "0 of 1 seeds" in capsys.readouterr().out
    assert not (out / "defences").exists()
