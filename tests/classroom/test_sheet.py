"""The table, the totals and the pages: whose work it is, and nothing in them that acts."""

import csv
import os
from pathlib import Path

import pytest

from toymoe.classroom.grading import sheet
from toymoe.classroom.grading.rows import Row, plain, students


def row(student="a", check="posterior", status="wrong", message="", lesson=1, file="f"):
    return Row(student, file, lesson, check, int(status == "solved"), status, message, 0.0)


@pytest.mark.parametrize(
    "paths, names",
    [
        (["in/ann.ipynb", "in/bob.ipynb"], ["ann", "bob"]),
        (["in/ann/01_world.ipynb", "in/bob/01_world.ipynb"], ["ann", "bob"]),
        (
            ["in/ann/01_world.ipynb", "in/ann/02_moe.ipynb", "in/bob/02_moe.ipynb"],
            ["ann"] * 2 + ["bob"],
        ),
        (["in/ann/hw.ipynb", "in/bob/hw.ipynb", "in/eve/x.ipynb"], ["ann/hw", "bob/hw", "eve/x"]),
        (["mon/ann.py", "mon/bob.py", "tue/ann.py"], ["mon/ann", "mon/bob", "tue/ann"]),
        (["ann/hw.ipynb"], ["ann/hw"]),
        (["ann/01_world.ipynb"], ["ann"]),
        (["ann/01_world.ipynb", "ann/02_moe.ipynb"], ["ann", "ann"]),
        (["in/c.py", "in/c.ipynb", "in/c.ipynb"], ["c", "c (2)", "c (2)"]),
        (["in/ann.ipynb", "in/late/eve.ipynb"], ["ann", "late/eve"]),
        (["in/01_world (1).ipynb", "in/01_world (2).ipynb"], ["01_world (1)", "01_world (2)"]),
        (["in/a\x1b[2J.py", "in/b\n.py"], [r"a\x1b[2J", "b"]),
        ([os.fsdecode(b"in/a\xff.py"), os.fsdecode(b"in/a\xfe.py")], [r"a\udcff", r"a\udcfe"]),
        ([], []),
    ],
)
def test_whose_a_submission_is(tmp_path, paths, names):
    assert students([tmp_path / path for path in paths]) == names


def test_a_lone_file_keeps_the_name_of_the_folder_it_is_in(tmp_path, monkeypatch):
    (tmp_path / "ann").mkdir()
    monkeypatch.chdir(tmp_path / "ann")
    assert students([Path("hw.ipynb")]) == ["ann/hw"]
    assert students([Path("01_world.ipynb")]) == ["ann"]
    assert students([Path("../bob/hw.ipynb"), Path("hw.ipynb")]) == ["bob/hw", "ann/hw"]


@pytest.mark.parametrize(
    "text, shown",
    [
        ("it gives −1 · ä ✔", "it gives −1 · ä ✔"),
        ("a  b", "a  b"),
        ("a\n\tb", "a b"),
        ("\x1b[31m\x07", r"\x1b[31m\x07"),
        ("\x9b31m\u202e\ud800", r"\x9b31m\u202e\ud800"),
    ],
)
def test_text_that_a_terminal_only_shows(text, shown):
    assert plain(text) == shown


@pytest.mark.parametrize(
    "text, cell",
    [
        ("=1+1", "'=1+1"),
        ("@x", "'@x"),
        ("-x.ipynb", "'-x.ipynb"),
        ("＝1", "'＝1"),
        ("＋1", "'＋1"),
        ("\n=1", "\n'=1"),
        ('"=1', "\"'=1"),
        ("a;=1", "a;'=1"),
        ("a; -1", "a; '-1"),
        ("a\t+1", "a\t'+1"),
        ("f([-1.0, -2.0]) gives -3", "f([-1.0, -2.0]) gives -3"),
        ("a = 1; b = 2", "a = 1; b = 2"),
        (-1.5, "-1.5"),
    ],
)
def test_a_cell_is_no_formula(tmp_path, text, cell):
    path = tmp_path / "a.csv"
    sheet.write_csv(path, [row(message=text)])
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert next(csv.DictReader(file))["message"] == cell


def test_the_table_grows_and_begins_with_a_mark_for_excel(tmp_path):
    path = tmp_path / "a.csv"
    sheet.write_csv(path, [row("Jürgen")])
    sheet.append_csv(path, [row("b"), row("c\ud800")])
    text = path.read_bytes().decode("utf-8")
    assert text.startswith("\ufeffstudent,file,") and text.count("\ufeff") == 1
    assert [line.split(",")[0] for line in text.splitlines()[1:]] == ["Jürgen", "b", r"c\ud800"]


def test_totals_are_by_student(tmp_path):
    rows = [
        row("ann", status="solved"),
        row("ann", "best_guess"),
        row("bob"),
        row("ann", "mix", "solved", lesson=2),
    ]
    sheet.write_totals(tmp_path / "t.csv", rows)
    assert (tmp_path / "t.csv").read_text("utf-8-sig").splitlines() == [
        "student,lessons,solved,exercises",
        "ann,1 2,2,3",
        "bob,1,0,1",
    ]


def test_the_most_frequent_mistake_is_a_mistake():
    rows = [row(status="not yet", message="write it")] * 3 + [row(message="bits")] * 2
    rows += [row(message="axes"), row(status="missing", message="none"), row(status="solved")]
    rows += [row(check="mix", status="missing", message="none", lesson=2)]
    assert sheet.summary(rows) == [("posterior", "1 of 8", "2 ×: bits"), ("mix", "0 of 1", "")]


def test_a_page_escapes_what_students_write_and_numbers_exercises(tmp_path):
    names = sheet.page_names(["../<b>", "..?<b>", "../<b>", "..."])
    assert names == {"../<b>": "b.html", "..?<b>": "b-2.html", "...": "student.html"}
    rows = [
        row(message="<script>alert(1)</script>"),
        row(check="mix", status="solved", lesson=2, file="g"),
    ]
    sheet.write_page(tmp_path / "pages" / "b.html", "../<b>", rows)
    said = (tmp_path / "pages" / "b.html").read_text("utf-8")
    assert "<script>" not in said and "<h1>../&lt;b&gt;</h1>" in said
    assert "Lesson 1: 0 of 1 exercises solved." in said
    assert "Lesson 2: 1 of 1 exercises solved." in said
    assert "<td>✘</td><td>1.1 posterior</td><td>wrong</td><td>&lt;script&gt;alert(1)" in said
    assert "<td>✔</td><td>2.2 mix</td><td>solved</td>" in said
