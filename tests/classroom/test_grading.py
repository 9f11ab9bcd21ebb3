"""Forty submissions, many of them broken or hostile: forty students' rows with the right marks."""

import csv
import json
import sys
import time

import pytest

from lessons import build
from toymoe import cli
from toymoe.classroom.checks import lesson_checks
from toymoe.classroom.grading import marking, sheet, submission
from toymoe.classroom.notebook import Cell, write_ipynb
from toymoe.commands import lessons

LESSON = 1
NAMES = list(lesson_checks(LESSON))
POINTS = len(NAMES)
(SOURCE,) = build.HERE.glob(f"{LESSON:02}_*.py")
SOLUTION, EXERCISE = build.cells_of(SOURCE)
CODE = [cell.source for cell in SOLUTION if cell.kind == "code"]

GUESS = "def best_guess(counts_XG):\n    {}\n"


def with_guess(body):
    """The solution with another `best_guess`, as a notebook."""
    cells = [Cell("code", s) for s in CODE if "def best_guess" not in s]
    return write_ipynb([*cells, Cell("code", GUESS.format(body))])


def plus(extra, first=False):
    cells = [Cell("code", source) for source in CODE]
    return write_ipynb([Cell("code", extra), *cells] if first else [*cells, Cell("code", extra)])


LOOP, EXIT = "while True: pass", "import os; os._exit(0)"

# name: (text of the file, points, what best_guess comes to)
STRANGE = {
    "loop.ipynb": (with_guess(LOOP), POINTS - 1, "stopped"),
    "exit.ipynb": (with_guess(EXIT), POINTS - 1, "stopped"),
    "sysexit.ipynb": (with_guess("import sys; sys.exit(3)"), POINTS - 1, "wrong"),
    "fork.ipynb": (with_guess("import os\n    while True: os.fork()"), POINTS - 1, "wrong"),
    "flood.ipynb": (
        with_guess("while True: print('x' * 10**6, flush=True)"),
        POINTS - 1,
        "stopped",
    ),
    "memory.ipynb": (with_guess("x = bytearray(10**11); return 0.5"), POINTS - 1, "wrong"),
    "recursion.ipynb": (with_guess("return best_guess(counts_XG)"), POINTS - 1, "wrong"),
    "crash.ipynb": (with_guess("import ctypes; return ctypes.string_at(0)"), POINTS - 1, "stopped"),
    "disk.ipynb": (
        with_guess("open('big', 'wb').write(b'x' * 10**8); return 0.5"),
        POINTS - 1,
        "wrong",
    ),
    "cell_loops.ipynb": (plus("while True:\n    pass", first=True), POINTS, "solved"),
    "cell_exits.ipynb": (plus("import os\nos._exit(1)", first=True), POINTS, "solved"),
    "cell_is_no_python.ipynb": (plus("for for for", first=True), POINTS, "solved"),
    "magic.ipynb": (plus("%matplotlib inline\n!pip list\nx = 1", first=True), POINTS, "solved"),
    "name_used_again.ipynb": (plus("best_guess = 0.79\ncheck = None"), POINTS, "solved"),
    "numpy_shadowed.ipynb": (plus("np = 'mine'"), None, None),
    "own_check.ipynb": (
        with_guess("return 1.0"),
        POINTS - 1,
        "wrong",
    ),
    "not_json.ipynb": ("{not json", 0, "unreadable"),
    "json_list.ipynb": ("[1, 2]", 0, "unreadable"),
    "deep.ipynb": ("[" * 100_000, 0, "unreadable"),
    "empty.ipynb": ("", 0, "unreadable"),
    "empty.py": ("", 0, "unreadable"),
    "syntax.py": ("def posterior(:\n  pass", 0, "unreadable"),
    "binary.py": ("\x00\x01", 0, "unreadable"),
    "prose.py": ("# I did not have the time\nx = 1\n", 0, "missing"),
    "=cmd.py": (GUESS.format("return 1 / 0"), 0, "wrong"),
}


def submissions(folder):
    """Forty files: path -> (points, status of best_guess)."""
    found = {}
    solved = write_ipynb(SOLUTION)
    files = dict(STRANGE)
    files |= {f"solved_{i}.ipynb": (solved, POINTS, "solved") for i in range(3)}
    files |= {f"script_{i}.py": ("\n".join(CODE), POINTS, "solved") for i in range(2)}
    files |= {f"unsolved_{i}.ipynb": (write_ipynb(EXERCISE), 0, "not yet") for i in range(2)}
    wrong = {
        "unweighted": "return (counts_XG / counts_XG.sum(1, keepdims=True)).max(1).mean()",
        "baseline": "return counts_XG.sum(0).max() / counts_XG.sum()",
        "uses_another": "p = posterior(counts_XG); return (p.max(1) * counts_XG.sum(1)).sum()",
        "none": "counts_XG.max(1).sum() / counts_XG.sum()",
        "changes": "counts_XG /= counts_XG.sum(); return counts_XG.max(1).sum()",
        "text": "return 'half of them'",
        "slow": "import time; time.sleep(60)",
    }
    files |= {
        f"{name}.ipynb": (with_guess(body), POINTS - 1, "stopped" if name == "slow" else "wrong")
        for name, body in wrong.items()
    }
    for name, (text, points, status) in files.items():
        path = folder / name
        path.write_text(text, "utf-8")
        found[path] = (points, status)
    found[folder / "never_handed_in.ipynb"] = (0, "unreadable")
    return found


def test_forty_submissions_give_forty_students_rows_and_the_right_marks(tmp_path, capsys):
    expected = submissions(tmp_path)
    assert len(expected) == 40
    out, begin = tmp_path / "grades.csv", time.monotonic()
    argv = ["grade", *map(str, expected), "--out", str(out), "--seconds", "2"]
    assert cli.main(argv) == 0
    assert time.monotonic() - begin < 200
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40 * POINTS
    for path, (points, status) in expected.items():
        mine = [row for row in rows if row["file"] == str(path)]
        assert [row["check"] for row in mine] == NAMES
        if points is not None:
            got = {row["check"]: (row["status"], row["message"]) for row in mine}
            assert sum(int(row["mark"]) for row in mine) == points, (path.name, got)
            assert got["best_guess"][0] == status, (path.name, got)
    assert all((row["mark"] == "1") == (row["status"] == "solved") for row in rows)
    assert not any(row["student"].startswith("=") for row in rows)
    pages = list((tmp_path / "grades_feedback").glob("*.html"))
    assert len(pages) == 40
    said = capsys.readouterr().out
    assert "not a sandbox" in said and "endless loop" in said


def test_a_function_takes_along_what_it_needs_and_nothing_else(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        "import numpy as np\nfrom math import *\nscale = 2\nscale += 1\n1 / 0\n"
        "def helper(x):\n    return x * scale\n"
        "def f(x):\n    return helper(x)\nf = check('f', f)\nf = 3\n"
        "def g(x):\n    local = scale = 1\n    return [local for _ in x]\n"
        "def h(x):\n    return f(x) + h(x - 1)\n"
        "k = lambda x: np.sum(x)\n"
    )
    found = submission.read(path)
    assert found.functions() == {"helper", "f", "g", "h", "k"}
    program = submission.needed(found, "f", set())
    assert program.splitlines()[0] == "from math import *" and "numpy" not in program
    assert "scale += 1" in program and "def helper" in program and "check" not in program
    assert "1 / 0" not in program and "f = 3" not in program
    assert "scale = 2" not in submission.needed(found, "g", set())
    assert "def f" not in submission.needed(found, "h", {"f"})
    assert "import numpy" in submission.needed(found, "k", set())
    assert submission.needed(found, "scale", set()) is None


def test_what_fills_a_table_goes_along(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        "table = {}\nfor i in range(3):\n    table[i] = i * i\n"
        "class Box: pass\nbox = Box()\nbox.inner = [0]\nbox.inner[0] += 5\n"
        "other = {}\nother[0] = 1\n"
        "def f(x):\n    return table[x] + box.inner[0]\n"
    )
    program = submission.needed(submission.read(path), "f", set())
    names = {}
    exec(program, names)
    assert names["f"](2) == 9 and "other" not in program


def test_no_student_is_blamed_for_a_process_that_does_not_start(tmp_path, monkeypatch, capsys):
    path, out = tmp_path / "a.py", tmp_path / "g.csv"
    path.write_text("\n".join(CODE))
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho no module here >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(marking.sys, "executable", str(script))
    assert cli.main(["grade", str(path), "--out", str(out)]) == 2
    assert "does not start (no module here)" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [path, script]


@pytest.mark.parametrize("line", ["5", "[]", "null", '{"end": "posterior"}', "[" * 5000])
def test_a_stray_line_costs_nobody_a_mark(line):
    lines = marking.queue.Queue()
    said = {"end": "posterior", "status": "solved", "message": "right"}
    for one in (json.dumps({"begin": "posterior"}), line, json.dumps(said)):
        lines.put(one.encode())
    done = marking._follow(None, lines, {"posterior": ""}, marking.Limits())
    assert done["posterior"][:2] == ("solved", "right")


def test_students_are_told_apart_by_the_shortest_end_of_their_path(tmp_path):
    paths = [tmp_path / name for name in ("ann/01.ipynb", "bob/01.ipynb", "c.py", "c.ipynb")]
    assert marking.names(paths) == [
        "ann/01",
        "bob/01",
        str(tmp_path / "c"),
        f"{tmp_path / 'c'} (2)",
    ]


def test_feedback_escapes_what_students_write(tmp_path):
    rows = [
        marking.Row("../<b>", "f", 1, "posterior", 0, "wrong", "<script>alert(1)</script>", 0.0),
        marking.Row("..?<b>", "f", 1, "posterior", 1, "solved", "right", 0.0),
    ]
    pages = sheet.write_feedback(tmp_path / "pages", rows)
    assert len(set(pages)) == 2 and all(p.parent == tmp_path / "pages" for p in pages)
    said = pages[0].read_text("utf-8")
    assert "<script>" not in said and "<h1>../&lt;b&gt;</h1>" in said
    assert "Lesson 1: 0 of 1 exercises solved." in said
    assert "<td>✘</td><td>posterior</td><td>wrong</td><td>&lt;script&gt;alert(1)" in said


# --- the commands -------------------------------------------------------------------------------


def test_lessons_are_copied_and_never_over_a_students_work(tmp_path, capsys):
    folder = tmp_path / "work"
    assert cli.main(["lessons", str(folder)]) == 0
    copies = sorted(folder.glob("*.ipynb"))
    assert [p.name for p in copies] == [f"{p.stem}.ipynb" for p in build.sources()]
    assert copies[0].read_text("utf-8") == build.exercise_text(build.sources()[0])
    copies[0].write_text("my work")
    capsys.readouterr()
    assert cli.main(["lessons", str(folder)]) == 0
    assert copies[0].read_text() == "my work" and "left as it is" in capsys.readouterr().out


def test_a_copy_that_fails_leaves_no_part_of_a_notebook(tmp_path, monkeypatch):
    folder, real = tmp_path / "work", lessons.variant

    def variant(text, seed):
        raise OSError("no disk")

    monkeypatch.setattr(lessons, "variant", variant)
    assert cli.main(["lessons", str(folder)]) == 1
    assert list(folder.iterdir()) == []
    monkeypatch.setattr(lessons, "variant", real)
    assert cli.main(["lessons", str(folder)]) == 0
    assert len(list(folder.iterdir())) == len(build.sources())


def test_a_variant_draws_other_prompts(tmp_path):
    assert cli.main(["lessons", str(tmp_path / "a"), "--seed", "7"]) == 0
    for path in (tmp_path / "a").glob("*.ipynb"):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        assert sum("SEED = 7 " in "".join(cell["source"]) for cell in cells) == 1


@pytest.mark.parametrize(
    "argv, says",
    {
        "grade x.py": "--out",
        "grade x.py --out missing/grades.csv": "folder that exists",
        "grade x.py --out x.py": "one of the submissions",
        "grade x.py --out g.csv --lesson 99": "--lesson 99",
        "grade x.py --out g.csv --seconds 0": "from 1 to",
        "grade --out g.csv": "FILE",
        "grade x.py --out g.csv --seed 0000000000009999999999": "whole number",
        "lessons a --seed x": "--seed x",
        "lessons": "DIR",
    }.items(),
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, argv, says):
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv.split()) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and says in err
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_of_a_folder_is_told_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fb").write_text("mine")
    for argv in ("grade fb --out g.csv --feedback fb", "lessons fb", "lessons fb/below"):
        assert cli.main(argv.split()) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["fb"]


def test_marking_says_it_is_no_sandbox(capsys):
    with pytest.raises(SystemExit):
        cli.main(["grade", "--help"])
    assert "Not a sandbox" in capsys.readouterr().out
    assert "sandbox" in sys.modules["toymoe.classroom.grading.marking"].__doc__


def test_states_of_the_explorer_are_marked_and_lesson_0_is_a_number_like_others(tmp_path):
    (source,) = build.HERE.glob("00_*.py")
    solution, exercise = build.cells_of(source)
    wrong = [
        Cell("code", c.source.replace('"copy"', '"trade"')) for c in solution if c.kind == "code"
    ]
    texts = {"right": solution, "unsolved": exercise, "wrong": wrong}
    paths = [tmp_path / f"{name}.ipynb" for name in texts]
    for path, cells in zip(paths, texts.values(), strict=True):
        path.write_text(write_ipynb(cells), "utf-8")
    names = list(lesson_checks(0))
    for lesson in (None, 0):
        rows = marking.mark(paths, lesson)
        assert {row.lesson for row in rows} == {0} and len(rows) == 3 * len(names)
        marks = {(row.student, row.check): row for row in rows}
        assert all(marks["right", name].mark for name in names)
        assert all(marks["unsolved", name].status == "not yet" for name in names)
        assert [name for name in names if not marks["wrong", name].mark] == ["refusing"]
        assert "answer19" in marks["wrong", "refusing"].message
