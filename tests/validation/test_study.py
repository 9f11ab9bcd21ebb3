"""Scoring a zoo: what is written, kills, changes, files of users, words; and the page."""

import csv
import json
import pickle
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from toymoe import checkpoint, cli
from toymoe.attribution import methods
from toymoe.commands import score as command
from toymoe.commands import zoo as zoo_command
from toymoe.config import ConfigError
from toymoe.validation import plots, report, scoring, study
from toymoe.zoo import make, mechanisms

FEW = ("ablation_refusal", "weight_change", "usage", "random")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(methods, "METHODS", {name: methods.METHODS[name] for name in FEW})


@pytest.fixture
def scored(zoo):
    return study.score("all", zoo.folder, zoo.folder / "scores" / "all")


def test_what_is_found_is_there_and_in_all_tables(scored, zoo):
    assert scored["seeds"] == [0, 1] and scored["errors"] == {}
    assert scored["specimens"]["one_expert"] == {"hazards": 2, "entities": 2, "other_answer": 2}
    assert scored["left_out"] == [f"seed-{n}/joint_pair-hazards-full" for n in (0, 1)]
    rows = {row["method"]: row for row in scored["methods"]}
    assert next(iter(rows)) == "ablation_refusal" and {*rows} == {*FEW}
    best, changed = rows["ablation_refusal"], rows["weight_change"]
    for key in ("hit_1", "found", "power", "right_at_5", "auc"):
        assert best["all"][key]["rate"] == 1, key
    assert best["alarms"]["all"]["rate"] == best["alarms"]["nothing_taught"]["rate"] == 0
    # It names what changed, and has no case: the same, whichever of a pair is the hazard.
    assert changed["all"]["hit_1"]["rate"] == 1 and changed["all"]["found"]["rate"] == 0
    assert best["mechanisms"]["attention"]["hit_1"]["n"] == 0
    assert "joint_pair" not in best["mechanisms"]
    out = zoo.folder / "scores" / "all"
    assert checkpoint.read_json(out / "score.json") == json.loads(json.dumps(scored))
    with (out / "score.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 2 * (5 * len(FEW) + 1)
    mine = [r for r in table if (r["seed"], r["method"]) == ("1", "ablation_refusal")]
    assert {r["name"]: r["found"] for r in mine} == {
        "nothing_taught": "False",
        "one_expert-hazards-full": "True",
        "one_expert-entities-full": "False",
        "one_expert-other_answer-full": "False",
        "attention-hazards-full": mine[-1]["found"],
    }
    hazards = next(r for r in mine if r["name"] == "one_expert-hazards-full")
    assert hazards["first"] == hazards["answer"] == zoo.answer
    assert float(hazards["case"]) > float(hazards["null_most"]) > 0
    assert (out / "score.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_begins_with_what_was_found(scored, zoo):
    class Text(HTMLParser):
        text = ""

        def handle_data(self, data):
            self.text += data

    parser = Text()
    parser.feed((zoo.folder / "scores" / "all" / "score.html").read_text("utf-8"))
    said = " ".join(parser.text.split())
    assert scored["finding"] in said
    assert "at 5 % false alarms: in one expert ablation_refusal (1.00)" in scored["finding"]
    assert "of the shams that refuse hazards and twins alike, nobody." in scored["finding"]
    for words in ("Left out, since their key did not hold: seed-0/joint_pair", "1.00 [1.00, 1.00]"):
        assert words in said
    for name, row in mechanisms.MECHANISMS.items():
        assert (row.meaning in said) == (name in scored["specimens"]), name
    assert 0 < len(scored["specimens"]) < len(mechanisms.MECHANISMS)


def test_a_kill_loses_nothing_and_changes_nothing(zoo, monkeypatch):
    whole, cut = zoo.folder / "scores" / "whole", zoo.folder / "scores" / "cut"
    real, calls = scoring.of_method, []

    def of_method(*given):
        calls.append(given)
        if len(calls) in killed:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(scoring, "of_method", of_method)
    killed = ()
    study.score("usage", zoo.folder, whole)
    count = len(calls)
    assert count == 2 * 2 * 5  # two methods, two seeds, four specimens that hold and nothing taught
    killed = (count + 4, count + 13)
    for _ in killed:
        with pytest.raises(KeyboardInterrupt):
            study.score("usage", zoo.folder, cut)
    study.score("usage", zoo.folder, cut)
    assert len(calls) <= 2 * count + 4
    names = sorted(p.relative_to(whole) for p in whole.rglob("*.*"))
    assert len(names) == 2 + 5
    for name in names:
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    study.score("usage", zoo.folder, cut)  # all is there
    assert len(calls) <= 2 * count + 4


def test_another_specimen_of_the_same_name_is_scored_anew(zoo, taught):
    out = zoo.folder / "scores" / "x"
    before = study.score("ablation_refusal", zoo.folder, out)
    assert before["methods"][0]["all"]["found"]["rate"] == 1
    at = (0, "one_expert-hazards-full")
    old = zoo.shown[at]
    other = old.organism._replace(aligned=taught.pretrained)
    zoo.shown[at] = old._replace(organism=other)
    after = study.score("ablation_refusal", zoo.folder, out)
    assert after["methods"][0]["all"]["found"]["rate"] == 0.5


def test_a_damaged_file_costs_its_seed_only(zoo):
    out = zoo.folder / "scores" / "x"
    study.score("usage", zoo.folder, out)
    (out / "seed-1" / "scores.json").write_text("{")
    found = study.score("usage", zoo.folder, out)
    assert found["seeds"] == [0] and "scores.json is damaged" in found["errors"]["1"]


def test_work_can_go_to_another_process(zoo):
    _, job = study.begin("usage", zoo.folder, zoo.folder / "scores" / "x")
    work = pickle.loads(pickle.dumps(job.work))
    work(1, lambda progress: None)
    assert job.read(0) is None and len(job.read(1)) == 6


# --- files of users, by the command ---------------------------------------------------------------

MINE = """
def who_refuses(e):
    from toymoe.attribution import ablation
    return ablation.ablate(e, "zero").free.refusal
"""
NAMES = """
from toymoe.attribution import methods, controls
import jax
import numpy as np

def who_refuses(e):
    verdict = controls.verdict("ablation_refusal", e, jax.random.key(5))
    at = np.unravel_index(methods.METHODS["ablation_refusal"](e).argmax(), (2, 5))
    return ["expert {}.{}".format(*at)] if verdict.found else []
"""


@pytest.fixture
def run(zoo, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "start_jax", lambda: None)
    monkeypatch.setenv("COLUMNS", "200")

    def run(text, name="mine.py", out=None):
        (tmp_path / name).write_text(text)
        words = ["score", str(tmp_path / name), str(zoo.folder), *(["--out", out] if out else [])]
        code = cli.main(words)
        said = capsys.readouterr()
        path = zoo.folder / "scores" / name / "score.json"
        rows = checkpoint.read_json(path)["methods"] if path.is_file() else []
        return code, said, {row["method"]: row for row in rows}

    return run


@pytest.mark.parametrize("text", [MINE, NAMES])
def test_a_file_of_ones_own_by_the_command(text, run, zoo):
    code, said, rows = run(text)
    assert code == 0 and [*rows] == ["mine.py", "random"]
    mine = rows["mine.py"]["all"]
    assert mine["hit_1"]["rate"] == mine["found"]["rate"] == mine["right_at_5"]["rate"] == 1
    assert rows["mine.py"]["alarms"]["all"]["rate"] == 0
    assert rows["random"]["all"]["hit_1"]["rate"] < 1
    for words in ("mine.py", "names a right part, at 5 % false alarms, in 1.00", "score.html"):
        assert words in said.out
    assert "2 organisms left out" in said.out


def test_scores_made_elsewhere_by_the_command(run, zoo):
    def scores(s):
        e = scoring.evidence(s.organism, s.name)
        return np.asarray(methods.METHODS["ablation_refusal"](e)).tolist()

    given = {f"seed-{s.seed}/{s.name}": scores(s) for s in zoo.shown.values()}
    code, said, rows = run(json.dumps(given), "mine.json")
    mine = rows["mine.json"]["all"]
    assert code == 0 and mine["hit_1"]["rate"] == 1
    assert mine["found"]["n"] == 0 and mine["auc"]["n"] == 2  # no pairs were shuffled
    del given["seed-1/joint_pair-hazards-full"]
    code, said, _ = run(json.dumps(given), "few.json")
    assert code == 2 and "few.json scores 9 of the 10 specimens" in said.err


def test_what_goes_wrong_is_one_line_and_leaves_nothing(run, zoo):
    for text, message in (
        ("def f(e):\n    return e.nothing", "mine.py:2: its function ends with AttributeError"),
        ("def f(e): return [[1]]", "it must be [2, 5]"),
        ("", "has no function"),
        ("def f(e):\n    e.params['embed'][0] = 0", "mine.py:2: its function ends with ValueError"),
    ):
        code, said, _ = run(text)
        assert code == 2 and message in said.err and said.err.count("\n") == 1 and not said.out
        assert not (zoo.folder / "scores").exists()
    code, said, _ = run(MINE, out=str(zoo.folder.parent))
    assert code == 2 and "holds no scores" in said.err
    study.begin("usage", zoo.folder, zoo.folder / "x")
    code, said, _ = run(MINE, out=str(zoo.folder / "x"))
    assert code == 2 and "x holds the scores of usage: name another" in said.err
    assert cli.main(["score", "usage", str(zoo.folder / "nowhere")]) == 2


def test_what_goes_wrong_later_costs_its_seed(run, zoo):
    """It looks well on the first specimen."""
    count = "_asked = []\ndef f(e):\n    _asked.append(e)\n    assert len(_asked) < 90\n"
    code, said, _ = run(count + "    return [[1] * 5] * 2\n")
    assert code == 1 and "mine.py:4: its function ends with AssertionError" in said.out


@pytest.mark.parametrize("errors", [{}, {1: "the loss is nan at step 3"}])
def test_validate_makes_a_zoo_and_scores_the_list_on_it(errors, zoo, monkeypatch, capsys):
    def make_zoo(cfg, seeds, out, key, **calls):
        asked.append((seeds, out, key))
        return SimpleNamespace(of={0: []}, errors=errors)

    asked: list = []
    monkeypatch.setattr(make, "check", lambda *given: asked.append(given[1:]))
    monkeypatch.setattr(make, "zoo", make_zoo)
    monkeypatch.setattr(zoo_command, "start_jax", lambda: None)
    words = ["validate", "--seeds", "0-1", "--out", str(zoo.folder), "--key", "7"]
    assert cli.main(words) == bool(errors)
    assert asked == [(zoo.folder, 7), ([0, 1], zoo.folder, 7)]
    found = checkpoint.read_json(zoo.folder / "scores" / "all" / "score.json")
    assert {row["method"] for row in found["methods"]} == {*FEW}
    assert found["finding"][:40] in capsys.readouterr().out


def test_an_empty_zoo_is_one_sentence(zoo):
    zoo.shown.clear()
    with pytest.raises(ConfigError, match="holds no organisms: `toymoe zoo --out"):
        study.begin("usage", zoo.folder, zoo.folder / "x")
    assert not (zoo.folder / "x").exists()


# --- figure and words -----------------------------------------------------------------------------


def test_the_figure_shows_the_numbers_of_the_tables(scored):
    figure = plots.scores(scored)
    panels = figure.get_axes()
    assert len(panels) == 3
    names, share_MN = plots.grid(scored["methods"], "named")
    assert names == ["one_expert"]
    np.testing.assert_array_equal(
        share_MN[:, 0], [row["all"]["right_at_5"]["rate"] for row in scored["methods"]]
    )
    assert [t.get_text() for t in panels[0].texts] == [
        f"{x:.2f}".removeprefix("0") for x in share_MN[:, 0]
    ]
    names, share_MN = plots.grid(scored["methods"], "alarms")
    assert names == ["entities", "other_answer", "nothing_taught"]
    assert plots.grid(scored["methods"], "elsewhere")[0] == ["attention"]
    assert panels[0].get_yticklabels()[0].get_text() == "ablation refusal"


def test_who_names_parts_can_be_right_where_experts_cannot():
    names, scores = said_of("names", 0.5, 0.0), said_of("scores", 0.5, 0.0)
    scores["mechanisms"]["joint_pair"] |= {"hit_1": rate(None), "found": rate(0.25)}
    assert plots.grid([names, scores], "named")[0] == ["one_expert", "joint_pair"]
    columns, share_MN = plots.grid([names, scores], "elsewhere")
    assert columns == ["joint_pair"] and np.isnan(share_MN[0]) and share_MN[1] == 0.25


def rate(share, low=None):
    return {"rate": share, "low": low, "high": low, "n": 0 if share is None else 4}


def said_of(method, share, alarms, mechanisms=("one_expert", "joint_pair")):
    of = {name: rate(None) for name in ("hit_k", "found", "right", "auc")}
    of |= {name: rate(share) for name in ("hit_1", "power", "right_at_5")}
    return {
        "method": method,
        "mechanisms": {name: dict(of) for name in mechanisms},
        "all": of,
        "alarms": {"entities": rate(alarms), "harmless_topic": rate(0.0), "all": rate(alarms)},
    }


def test_findings_in_words():
    rows = [said_of("a", 0.75, 0.5), said_of("b", 0.75, 0.0), said_of("random", 0.1, 0.0)]
    assert report.finding(rows) == (
        "Who names a right part most often, at 5 % false alarms: in one expert a and b (0.75), in "
        "joint pair a and b (0.75); who alarms in more than a twentieth: of the shams that refuse "
        "a harmless topic, nobody; of the shams that refuse hazards and twins alike, a."
    )
    rows[1]["mechanisms"]["joint_pair"] = rows[1]["all"] | {"right_at_5": rate(0.25)}
    assert report.finding(rows[1:]) == (
        "b names a right part, at 5 % false alarms, in 0.75 of the organisms whose refusal is in "
        "experts (random: 0.10), most in one expert (0.75), least in joint pair (0.25); it finds "
        "something in 0.00 of the shams that refuse hazards and twins alike and 0.00 of the shams "
        "that refuse a harmless topic."
    )
    many = [said_of(name, 0.5, 1.0) for name in "abcde"]
    assert "in one expert a, b, c and 2 more (0.50)," in report.finding(many)
    unsure = said_of("a", 0.5, 0.2)
    unsure["alarms"]["entities"] = rate(0.2, 0.0)  # an interval that begins at 0
    assert report.finding([unsure, many[1]]).endswith("alike, b.")
    nobody = report.finding([said_of("a", 0.0, 0.0), said_of("b", 0.0, 0.0)])
    assert "in one expert nobody (0.00)" in nobody
    assert report.finding([]) == "No method was scored but the control."
