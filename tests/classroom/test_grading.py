"""Ninety odd, broken and hostile submissions beside ten honest ones; the commands that mark."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lessons import build
from toymoe import cli
from toymoe.classroom.checks import lesson_checks
from toymoe.classroom.grading import channel, marking, worker
from toymoe.classroom.notebook import Cell, write_ipynb
from toymoe.commands import lessons

LESSON = 1
NAMES = list(lesson_checks(LESSON))
ALL = len(NAMES)
(SOURCE,) = build.HERE.glob(f"{LESSON:02}_*.py")
SOLUTION, EXERCISE = build.cells_of(SOURCE)
CODE = [cell.source for cell in SOLUTION if cell.kind == "code"]
SOLVED = write_ipynb(SOLUTION)
SCRIPT = "\n".join(CODE)
RIGHT = "counts_XG.max(1).sum() / counts_XG.sum()"
SLEEP = f"86399.{os.getpid()}"  # seconds of a program that an answer leaves running, to know it by

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux's files and processes")


def with_guess(cell):
    """The solution with another cell for `best_guess`, as a notebook."""
    return plus(cell, [s for s in CODE if "def best_guess" not in s])


def plus(extra, code=CODE, first=False):
    cells = [Cell("code", source) for source in code]
    return write_ipynb([Cell("code", extra), *cells] if first else [*cells, Cell("code", extra)])


def body(text):
    """A cell that defines `best_guess`."""
    return "def best_guess(counts_XG):\n    " + text.replace("\n", "\n    ") + "\n"


# What a function does: the text of it, the status it comes to, and part of what is said.
BODIES = {
    # It takes more than there is.
    "loop": ("while True: pass", "stopped", "longer than 8 s: is there an endless loop"),
    "sleep": ("import time; time.sleep(60)", "stopped", "longer than 8 s"),
    "flood": ("while True: print('x' * 10**6, flush=True)", "stopped", "longer than 8 s"),
    "deaf": (
        "import signal as s, time\nfor n in (1, 2, 15): s.signal(n, s.SIG_IGN)\n"
        "while True: time.sleep(1)",
        "stopped",
        "longer than 8 s",
    ),
    "waits": ("import os\nos.mkfifo('f')\nopen('f').read()", "stopped", "longer than 8 s"),
    "memory": ("x = bytearray(10**11); return 0.5", "wrong", "more memory than there is"),
    "disk": (
        "f = open('b', 'wb', 0); f.seek(10**8); f.write(b'x'); return 0.5",
        "wrong",
        "too large",
    ),
    "recursion": ("return best_guess(counts_XG)", "wrong", "calls itself without end"),
    # It ends the process.
    "exit": ("import os; os._exit(0)", "stopped", "ended the whole process"),
    "crash": ("import ctypes; return ctypes.string_at(0)", "stopped", "ended the whole process"),
    "sysexit": ("import sys; sys.exit(3)", "wrong", "it calls exit()"),
    "closes": (f"import os; os.closerange(0, 99); return {RIGHT}", "stopped", "ended the whole"),
    "deafens": ("import sys\nsys.addaudithook(lambda *a: 1 / 0)", "stopped", "ended the whole"),
    "interrupts": ("raise KeyboardInterrupt", "wrong", "KeyboardInterrupt"),
    "kills": ("import os; os.kill(os.getppid(), 9)", "wrong", "not allowed"),
    "kills_all": ("import os; os.killpg(0, 9)", "wrong", "not allowed"),
    # It leaves something behind.
    "fork": ("import os\nwhile True: os.fork()", "wrong", "not allowed"),
    "starts": (
        f"import subprocess as s\ns.Popen(['sleep', '{SLEEP}'], start_new_session=True)",
        "wrong",
        "not allowed",
    ),
    "multiprocess": (
        "import multiprocessing as m\nm.Process(target=print).start()",
        "wrong",
        "not allowed",
    ),
    "daemon": (
        "import ctypes\nc = ctypes.CDLL(None)\nif c.fork() == 0:\n    c.setsid()\n"
        f"    if c.fork() == 0: c.execlp(b'sleep', b'sleep', b'{SLEEP}', None)\n"
        "    c._exit(0)\nreturn 0.5",
        "wrong",
        "is right",
    ),
    "nested": (
        "import os\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')\nreturn 0.5",
        "wrong",
        "more than 300 changes of files",
    ),
    "closed_folder": (
        "import os\nos.makedirs('a/b', exist_ok=True); os.chmod('a', 0); return 0.5",
        "wrong",
        "",
    ),
    "odd_file": ("open('\\udcff\\n', 'w').write('x'); return 0.5", "wrong", "is right"),
    "temporary": ("import tempfile; tempfile.mkstemp(); return 0.5", "wrong", "is right"),
    "elsewhere": ("open('{folder}/left', 'w'); return 0.5", "wrong", "the working folder only"),
    "deletes": ("import os; os.remove('{folder}/honest_0.ipynb')", "wrong", "working folder only"),
    "thread": (
        f"import threading as t\nt.Thread(target=t.Event().wait).start(); return {RIGHT}",
        "solved",
        "right on",
    ),
    "at_exit": (f"import atexit; atexit.register(input); return {RIGHT}", "solved", "right on"),
    # It says something odd.
    "surrogate": ("raise ValueError('\\udcff')", "wrong", r"ValueError: \udcff"),
    "escape": ("raise ValueError('\\x1b[2J\\x1b]0;owned\\x07')", "wrong", r"\x1b[2J"),
    "mute": (
        "class E(Exception):\n    def __str__(self): raise self\nraise E",
        "wrong",
        "it stops with E at `raise E`",
    ),
    "formula": ("raise ValueError('\\n=1+1;=2')", "wrong", "ValueError"),
    "html": ("raise ValueError('<script>')", "wrong", "<script>"),
    "asks": ("return float(input())", "wrong", "EOFError"),
    # It returns something odd.
    "nothing": (RIGHT, "wrong", "returns nothing"),
    "text": ("return 'half'", "wrong", "a str"),
    "whole": ("return 10**6000", "wrong", "int"),
    "many": ("import numpy\nreturn numpy.broadcast_to(1.0, (10**5, 10**5))", "wrong", "more than"),
    "itself": ("x = []; x.append(x); return x", "wrong", "RecursionError"),
    "generator": ("while True: yield 1", "wrong", "generator"),
    "function": ("return best_guess", "wrong", "function"),
    "set": ("return {1}", "wrong", "a set"),
    "complex": (f"return 1j + {RIGHT}", "wrong", "complex"),
    "equal_to_all": (
        "class E(float):\n    def __eq__(self, other): return True\nreturn E(2.0)",
        "wrong",
        "right",
    ),
    "breaks": (
        "class E:\n    def __array__(self, *a, **k): raise SystemExit\nreturn E()",
        "wrong",
        "SystemExit",
    ),
    "changes": (f"counts_XG /= 2.0; return {RIGHT}", "wrong", "changes its input"),
    # It wants marks.
    "judges": (
        "from toymoe.classroom.checks import judging as j\n"
        "j.judge = j._judge = lambda *a: j.Verdict('solved', 'right'); return 2.0",
        "wrong",
        "right",
    ),
    "all_close": ("import numpy\nnumpy.isclose = lambda a, *_: a == a; return 2.0", "wrong", ""),
    "says_so": (
        "import os\nfor fd in range(3, 99):\n    try: os.write(fd, b'{\"outcomes\": []}\\n')\n"
        f"    except OSError: pass\nreturn {RIGHT}",
        "void",
        "something else came back",
    ),
    "dumps": (
        "import json\njson.dumps = lambda *a, **k: '{\"outcomes\": []}'",
        "void",
        "something else came back",
    ),
    "frames": (
        "import sys\nframe = sys._getframe()\nwhile frame:\n"
        "    for x in frame.f_locals.values():\n"
        "        if hasattr(x, 'reference'): return x.reference(counts_XG)\n"
        "    frame = frame.f_back\nreturn 2.0",
        "wrong",
        "right",
    ),
    "imports": (
        "from toymoe.classroom.checks.lesson1 import best_guess as b; return b(counts_XG)",
        "wrong",
        "cannot import name 'best_guess'",
    ),
    "looks_up": (
        "from toymoe.classroom import checks\n"
        "return checks.find('best_guess').reference(counts_XG)",
        "wrong",
        "no attribute 'CHECKS'",
    ),
}

# Another cell that is no concern of the functions, or another way of writing one: all right.
CELLS = {
    "cell_loops": plus("while True:\n    pass", first=True),
    "cell_exits": plus("import os\nos._exit(1)", first=True),
    "cell_is_no_python": plus("for for for", first=True),
    "magic": plus("%matplotlib inline\n!pip list\nx = !ls\nr = %timeit -o x", first=True),
    "help": plus("np.where?", first=True),
    "continued": plus("!pip install \\\n  numpy\nscale = 1", first=True),
    "other_language": plus("%%bash\nfor f in *; do echo $f; done", first=True),
    "blank_lines": plus("def f(:" + "\n" * 300_000 + "!ls", first=True),
    "used_again": plus("best_guess = 0.79\ncheck = None"),
    "result": plus("best_guess = best_guess(np.ones((2, 3)))"),
    "alias": with_guess(
        body(f"return {RIGHT}").replace("best_guess", "mine") + "best_guess = mine"
    ),
    "partial": with_guess(
        f"import functools\ndef f(k, counts_XG):\n    return k * {RIGHT}\n"
        "best_guess = functools.partial(f, 1)"
    ),
    "under_if": with_guess("if True:\n    best_guess = lambda counts_XG: " + RIGHT),
    "indented": with_guess("    best_guess = lambda counts_XG: " + RIGHT),
    "timed": with_guess("%%time\nx = !ls\n" + body(f"display(x)\nreturn {RIGHT}")),
}

BAD = "unreadable"
# Files: their bytes, the points, and the status of best_guess.
FILES = {
    b"not_json.ipynb": (b"{not json", 0, BAD),
    b"json_list.ipynb": (b"[1, 2]", 0, BAD),
    b"deep.ipynb": (b"[" * 100_000, 0, BAD),
    b"deep.py": (b"x = " + b"(" * 100_000, 0, BAD),
    b"sum.py": (b"x = 1" + b" + 1" * 200_000, 0, BAD),
    b"empty.ipynb": (b"", 0, BAD),
    b"no_cells.ipynb": (b'{"cells": [null]}', 0, BAD),
    b"syntax.py": (b"def posterior(:\n  pass", 0, BAD),
    b"binary.py": (b"\x00\x01\xff", 0, BAD),
    b"21_mb.py": (b"#" * 21 * 2**20, 0, BAD),
    b"prose.py": (b"# I did not have the time\nx = 1\n", 0, "missing"),
    b"=cmd.py": (body("return 1 / 0").encode(), 0, "wrong"),
    b"j\xfcrgen.ipynb": (SOLVED.encode(), ALL, "solved"),  # not UTF-8
    b"a\x1b[2Jb\n.IPYNB": (SOLVED.encode(), ALL, "solved"),
    b"mail.ipynb.txt": (SOLVED.encode(), ALL, "solved"),
    b"utf-16.py": (SCRIPT.encode("utf-16"), ALL, "solved"),
    b"huge.ipynb": (json.dumps(json.loads(SOLVED) | {"x": ["y"] * 10**6}).encode(), ALL, "solved"),
}

HONEST = {f"honest_{i}.ipynb": (SOLVED, ALL, "solved") for i in range(4)}
HONEST |= {f"script_{i}.py": (SCRIPT, ALL, "solved") for i in range(2)}
HONEST |= {f"unsolved_{i}.ipynb": (write_ipynb(EXERCISE), 0, "not yet") for i in range(2)}
HONEST |= {f"other_{i}.ipynb": (with_guess(body("return 1.0")), ALL - 1, "wrong") for i in range(2)}


def hand_in(folder):
    """A hundred submissions: their bytes' names, points, status of best_guess, what is said."""
    found = {}
    for name, (text, status, says) in BODIES.items():
        text = with_guess(body(text.replace("{folder}", str(folder))))
        (folder / f"{name}.ipynb").write_text(text, "utf-8")
        found[f"{name}.ipynb".encode()] = (ALL - (status != "solved"), status, says)
    for name, text in CELLS.items():
        (folder / f"{name}.ipynb").write_text(text, "utf-8")
        found[f"{name}.ipynb".encode()] = (ALL, "solved", "right on")
    for name, (data, points, status) in FILES.items():
        Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(data)
        found[name] = (points, status, "")
    for name, (text, points, status) in HONEST.items():
        (folder / name).write_text(text, "utf-8")
        found[name.encode()] = (points, status, "")
    (folder / "circle.ipynb").symlink_to("circle.ipynb")
    (folder / "endless.ipynb").symlink_to("/dev/zero")
    (folder / "folder.ipynb").mkdir()
    os.mkfifo(folder / "fifo.ipynb")
    found |= {
        f"{name}.ipynb".encode(): (0, BAD, says)
        for name, says in {
            "circle": "symbolic links",
            "endless": "not an ordinary file",
            "folder": "not an ordinary file",
            "fifo": "not an ordinary file",
            "never_handed_in": "No such file",
        }.items()
    }
    return found


def left_running():
    """The processes that an answer began."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_bytes())
        except OSError:  # gone
            pass
    return [command for command in commands if SLEEP.encode() in command]


@linux
def test_ninety_hostile_submissions_cost_their_own_rows_and_ten_honest_ones_nothing(
    tmp_path, monkeypatch, capsys
):
    folder, temporary = tmp_path / "in", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    expected = hand_in(folder)
    assert len(expected) == 100 and len(HONEST) == 10
    out, begin = tmp_path / "grades.csv", time.monotonic()
    paths = [os.fsdecode(os.path.join(os.fsencode(folder), name)) for name in expected]
    assert cli.main(["grade", *paths, "--out", str(out), "--seconds", "8"]) == 0
    assert time.monotonic() - begin < 180
    assert not left_running() and not list(temporary.iterdir())
    assert sorted(os.fsencode(path.name) for path in folder.iterdir()) == sorted(
        name for name in expected if not name.startswith(b"never")
    )
    raw = out.read_bytes()
    assert raw.startswith("\ufeffstudent,".encode())
    rows = list(csv.DictReader(raw.decode("utf-8-sig").splitlines()))
    assert [row["check"] for row in rows] == NAMES * 100
    wrong = []
    for i, (name, (points, status, says)) in enumerate(expected.items()):
        mine = rows[ALL * i : ALL * (i + 1)]
        got = {row["check"]: (row["status"], row["message"]) for row in mine}
        here = sum(int(row["mark"]) for row in mine), got["best_guess"][0]
        if here != (points, status) or says not in got["best_guess"][1]:
            wrong.append((name, points, status, says, got))
    assert not wrong
    assert len({row["student"] for row in rows}) == 100
    assert all((row["mark"] == "1") == (row["status"] == "solved") for row in rows)
    assert all(float(row["seconds"]) < 10 for row in rows)
    assert not any(cell[:1] in "=+-@" for row in rows for cell in row.values() if cell)
    assert len(list((tmp_path / "grades_feedback").glob("*.html"))) == 100
    said = capsys.readouterr().out
    assert "not a sandbox" in said and "longer than 8 s" in said and "\x1b" not in said
    with (tmp_path / "grades-totals.csv").open(encoding="utf-8-sig", newline="") as file:
        totals = {row["student"]: row["solved"] for row in csv.DictReader(file)}
    assert totals["honest_0"] == str(ALL) and totals["other_0"] == str(ALL - 1)


def csv_rows(path):
    return list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))


@linux
def test_ctrl_c_keeps_what_is_done_and_leaves_nothing_running(tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "a.py").write_text(SCRIPT)
    endless = BODIES["daemon"][0].replace("return 0.5", "while True: pass")
    (tmp_path / "b.ipynb").write_text(with_guess(body(endless)))
    hears = (  # also where this process was started by a shell that ignores Ctrl-C, as behind an &
        "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "from toymoe.cli import main; sys.exit(main())"
    )
    line = [sys.executable, "-c", hears, "grade", "a.py", "b.ipynb", "--out", "g.csv"]
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    for ending in (signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen(
            [*line, "--seconds", "60"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
        )
        wait_for(lambda: (tmp_path / "g.csv").exists() and left_running())
        process.send_signal(ending)
        said = process.communicate(timeout=20)[1].decode()
        assert ("interrupted" in said) == (ending == signal.SIGINT)
        wait_for(lambda: not left_running() and not list((tmp_path / "tmp").iterdir()))
        rows = csv_rows(tmp_path / "g.csv")
        assert [row["student"] for row in rows] == ["a"] * ALL
        assert all(row["status"] == "solved" for row in rows)
        assert (tmp_path / "g_feedback" / "a.html").exists()
        (tmp_path / "g.csv").unlink()


def wait_for(come, seconds=60):
    end = time.monotonic() + seconds
    while not come():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("copies", [worker.COPIES, False])
def test_where_no_copy_can_be_made_a_new_python_does_the_same(tmp_path, copies):
    """In a process of its own: who does tasks ends whatever it started, at the end of each."""
    task = {"name": "best_guess", "lesson": LESSON, "uses": [], "inputs": [{"tuple": [[3]]}]}
    does = [
        sys.executable,
        "-c",
        "import json, sys\n"
        "from toymoe.classroom.grading import worker\n"
        f"worker.COPIES = {copies}\n"
        "lines = list(sys.stdin.buffer)\n"
        "limits = [json.loads(line)['limit'] for line in lines]\n"
        "print(json.dumps([worker.do(*of, lambda: True) for of in zip(lines, limits)]))",
    ]
    cases = {
        "right": ("best_guess = len", 60),
        "loop": ("while True: pass", 3),
        "exit": ("import os; os._exit(0)", 60),
    }
    lines = (
        json.dumps(task | {"program": text, "limit": limit, "nonce": "n", "memory": 2**32})
        for text, limit in cases.values()
    )
    did = subprocess.run(
        does,
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    ends, said, took = zip(*json.loads(did.stdout), strict=True)
    assert dict(zip(cases, ends, strict=True)) == {"right": "done", "loop": "late", "exit": "done"}
    assert [json.loads(came or "null") for came in said] == [
        {"outcomes": [[1, False, ""]], "nonce": "n"},
        None,
        None,
    ]
    assert all(t < limit + 1 for t, (_, limit) in zip(took, cases.values(), strict=True))
    assert not list(tmp_path.iterdir())


def test_no_student_is_blamed_for_a_process_that_does_not_start(tmp_path, monkeypatch, capsys):
    path, out = tmp_path / "a.py", tmp_path / "g.csv"
    path.write_text(SCRIPT)
    script = fake_python(tmp_path, "echo no module here >&2\nexit 1\n")
    monkeypatch.setattr(channel.sys, "executable", str(script))
    assert cli.main(["grade", str(path), "--out", str(out)]) == 2
    assert "does not start (no module here)" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [path, script]


def fake_python(folder, text):
    script = folder / "python"
    script.write_text(f"#!/bin/sh\n{text}")
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(
    "line, end",
    [
        ('{"nonce": "$n", "end": "done", "took": 0, "said": "{\\"nonce\\": \\"$n\\"}"}', "done"),
        ('{"nonce": "$n", "end": "done", "took": 0, "said": "{\\"nonce\\": \\"x\\"}"}', "void"),
        ('{"nonce": "$n", "end": "done", "took": 0, "said": ""}', "died"),
        ('{"nonce": "$n", "end": "late", "took": 0, "said": ""}', "late"),
        ('{"nonce": "x", "end": "done", "took": 0, "said": "{\\"nonce\\": \\"x\\"}"}', "void"),
        ("5", "void"),
        ("null", "void"),
        ("[]", "void"),
        ("[" * 5000, "void"),
    ],
)
def test_what_comes_back_without_the_number_of_its_task_is_void(tmp_path, monkeypatch, line, end):
    text = (
        'echo ready\nwhile read -r task; do n=${task##*\\"nonce\\": \\"}; n=${n%%\\"*}\n'
        f"cat <<EOF\n{line}\nEOF\ndone\n"
    )
    monkeypatch.setattr(channel.sys, "executable", str(fake_python(tmp_path, text)))
    one = channel.Worker()
    try:
        for _ in range(2):  # another process does the next task
            assert one.ask({}, 5).end == end
    finally:
        one.end()


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
        "grade x-totals.csv --out x.csv": "one of the submissions",
        "grade x.py --out g.csv --lesson 99": "--lesson 99",
        "grade x.py --out g.csv --seconds 0": "from 1 to",
        "grade --out g.csv": "FILE",
        "grade x.py -x.ipynb --out g.csv": "'-x.ipynb' is not known",
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
        rows = [row for _, some in marking.mark(paths, lesson) for row in some]
        assert {row.lesson for row in rows} == {0} and len(rows) == 3 * len(names)
        marks = {(row.student, row.check): row for row in rows}
        assert all(marks["right", name].mark for name in names)
        assert all(marks["unsolved", name].status == "not yet" for name in names)
        assert [name for name in names if not marks["wrong", name].mark] == ["refusing"]
        assert "answer19" in marks["wrong", "refusing"].message


def test_a_file_whose_name_begins_with_a_dash_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("-x.ipynb").write_text(SOLVED)
    assert cli.main(["grade", "-x.ipynb", "--out", "g.csv"]) == 0
    rows = csv_rows(tmp_path / "g.csv")
    assert [row["mark"] for row in rows] == ["1"] * ALL
    assert {(row["student"], row["file"]) for row in rows} == {(f"{tmp_path.name}/-x", "'-x.ipynb")}
