"""What is read of a file, and what of it one function needs; with and without IPython."""

import json
import time

import pytest

from toymoe.classroom.grading import program, submission, task
from toymoe.classroom.notebook import Cell, write_ipynb

F = "def f(x):\n    return 2 * x\n"
TRANSFORMERS = [None, submission.TransformerManager] if submission.TransformerManager else [None]


def read(folder, text, name="a.py"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return submission.read(path)


def parts(folder, text, name="a.py"):
    return program.Parts(read(folder, text, name))


def programs(folder, text, name="f", known=()):
    return [one.text for one in parts(folder, text).programs(name, set(known))]


def doubled(folder, text):
    """What f(21) is by the first program that makes a function of it."""
    for one in programs(folder, text):
        names = {"get_ipython": task.Shell, "display": task.Shell().display}
        exec(one, names)
        if callable(names.get("f")):
            return names["f"](21)
    return None


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.ipynb", "a.IPYNB", "a.ipynb.txt", "a.json", "a"])
def test_a_notebook_is_known_by_what_is_in_it(tmp_path, name):
    text = write_ipynb([Cell("markdown", "def g(): pass"), Cell("code", F)])
    found = read(tmp_path, text, name)
    assert len(found.statements) == 1 and "def g" in found.prose


def test_a_notebook_of_an_older_format_is_one(tmp_path):
    cells = [{"cell_type": "code", "input": [F]}, {"cell_type": "code", "source": None}]
    assert len(read(tmp_path, json.dumps({"worksheets": [{"cells": cells}]})).statements) == 1


@pytest.mark.parametrize(
    "data",
    [
        F.encode(),
        F.encode("utf-8-sig"),
        F.encode("utf-16"),
        ("# -*- coding: latin-1 -*-\n# für\n" + F).encode("latin-1"),
        F.replace("\n", "\r\n").encode(),
    ],
)
def test_python_in_any_encoding_that_it_names(tmp_path, data):
    assert len(read(tmp_path, data).statements) == 1


@pytest.mark.parametrize(
    "name, data, says",
    [
        ("a.ipynb", b"{not json", "is not a notebook"),
        ("a.ipynb", F.encode(), "is not a notebook"),
        ("a.ipynb", b'{"cells": 5}', "is not a notebook"),
        ("a.ipynb", b'{"cells": []}', "holds no Python code"),
        ("a.py", b"", "holds no Python code"),
        ("a.py", b"def f(:\n", "the file is not valid Python, line 1"),
        ("a.py", b"\xff\x00", "is not a text file"),
        ("a.py", b"x = 'a\x00b'", "null bytes"),
        ("a.py", b"#" * (submission.LARGEST + 1), "larger than 20 MB"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, name, data, says):
    with pytest.raises(submission.SubmissionError, match=says):
        read(tmp_path, data, name)


# --- Jupyter's own syntax -----------------------------------------------------------------------


@pytest.mark.parametrize("transformer", TRANSFORMERS)
@pytest.mark.parametrize(
    "cell",
    [
        "%matplotlib inline\n" + F,
        "np.where?\n" + F,
        F + "np.where?",
        F + "organism.load??",
        "?print\n" + F,
        "x = !ls *.py\n" + F,
        "r = %timeit -o sum([1])\n" + F,
        "!pip install \\\n    numpy \\\n    scipy\n" + F,
        "%timeit -n 10 \\\n  sum([1])\n" + F,
        "    def f(x):\n        return 2 * x\n",
        "  x = 1\n  %time x\n  def f(x):\n      return 2 * x",
        "%%time\n" + F,
        "%%time\n%%capture out\n" + F,
        "if True:\n    %time x = 1\n    !ls\n    y = 1\n" + F,
        F.replace("2 * x", "2 * x if x != 3 else (x % 5)") + "!ls",
    ],
)
def test_jupyters_own_syntax_costs_no_mark(tmp_path, monkeypatch, transformer, cell):
    monkeypatch.setattr(submission, "TransformerManager", transformer)
    found = read(tmp_path, write_ipynb([Cell("code", cell)]))
    assert found.broken == []
    assert doubled(tmp_path, write_ipynb([Cell("code", cell)])) == 42


@pytest.mark.parametrize("transformer", TRANSFORMERS)
def test_what_jupyter_gave_is_none(tmp_path, monkeypatch, transformer):
    monkeypatch.setattr(submission, "TransformerManager", transformer)
    text = "x = !ls\ny = %timeit -o x\ndef f(n):\n    display(x)\n    return [x, y, n]\n"
    assert doubled(tmp_path, text) == [None, None, 21]


@pytest.mark.parametrize("transformer", TRANSFORMERS)
def test_another_language_is_nothing_and_broken_python_is_told(tmp_path, monkeypatch, transformer):
    monkeypatch.setattr(submission, "TransformerManager", transformer)
    cells = [F, "%%bash\nfor x in *; do ls; done", "%%time\nfor for", "for for"]
    found = read(tmp_path, write_ipynb([Cell("code", cell) for cell in cells]))
    assert [why.split(":")[0] for why, _ in found.broken] == [
        f"code cell {n} is not valid Python, line 1" for n in (3, 4)
    ]


@pytest.mark.parametrize("transformer", TRANSFORMERS)
def test_many_blank_lines_take_no_time(tmp_path, monkeypatch, transformer):
    monkeypatch.setattr(submission, "TransformerManager", transformer)
    begin = time.monotonic()
    cells = [F, "def g(:" + "\n" * 300_000 + "!ls", " " * 100_000 + "\n" * 100_000 + "%ls\n1 +"]
    found = read(tmp_path, write_ipynb([Cell("code", cell) for cell in cells]))
    assert len(found.statements) == 1 and len(found.broken) == 2
    assert time.monotonic() - begin < 5


# --- what one function needs --------------------------------------------------------------------


def test_a_function_takes_along_what_it_needs_and_nothing_else(tmp_path):
    text = (
        "import numpy as np\nfrom math import *\nscale = 2\nscale += 1\n1 / 0\n"
        "def helper(x):\n    return x * scale\n"
        "def f(x):\n    return helper(x)\nf = check('f', f)\nf = 3\n"
        "def g(x):\n    local = scale = 1\n    return [local for _ in x]\n"
        "def h(x):\n    return f(x) + h(x - 1)\n"
        "k = lambda x: np.sum(x)\n"
    )
    found = parts(tmp_path, text)
    assert found.functions(program.SURE) == {"helper", "f", "g", "h", "k"}
    (one,) = found.programs("f", set())
    assert one.text.splitlines()[0] == "from math import *" and "numpy" not in one.text
    assert "scale += 1" in one.text and "def helper" in one.text and "check" not in one.text
    assert "1 / 0" not in one.text and "f = 3" not in one.text and one.uses == []
    assert "scale = 2" not in found.programs("g", set())[0].text
    (one,) = found.programs("h", {"f", "g", "h"})
    assert "def f" not in one.text and one.uses == ["f"]
    assert "import numpy" in found.programs("k", set())[0].text
    assert found.programs("scale", set()) == []


def test_what_fills_a_table_goes_along(tmp_path):
    text = (
        "table = {}\nfor i in range(3):\n    table[i] = i * i\n"
        "class Box: pass\nbox = Box()\nbox.inner = [0]\nbox.inner[0] += 5\n"
        "other = {}\nother[0] = 1\n"
        "def f(x):\n    return table[x % 3] + box.inner[0]\n"
    )
    assert doubled(tmp_path, text) == 5
    assert "other" not in programs(tmp_path, text)[0]


def test_the_variable_of_a_comprehension_is_nobody_elses(tmp_path):
    text = "x = 1\nslow = [x for x in range(3)]\ndef f(n):\n    return x * n\n"
    assert "slow" not in programs(tmp_path, text)[0]


@pytest.mark.parametrize(
    "text",
    [
        F,
        F + "f = check('f', f)",
        F + "f = 3",
        F + "f = f(3)",
        F + "f = sum([f(3)])",
        F + "y = f(3)",
        "def mine(x):\n    return 2 * x\nf = mine",
        "import functools\ndef mine(k, x):\n    return k * x\nf = functools.partial(mine, 2)",
        "def twice(g):\n    return lambda x: 2 * g(x)\nf = twice(lambda x: x)",
        "def twice(g):\n    return lambda x: 2 * g(x)\ndef f(x):\n    return x\nf = twice(f)",
        "if True:\n    def f(x):\n        return 2 * x\nelse:\n    def f(x):\n        return 3",
        "try:\n    f = lambda x: 2 * x\nexcept ValueError:\n    pass",
        F + "if False:\n    def f(x):\n        return 3",
        "class A:\n    def __call__(self, x):\n        return 2 * x\nf = A()",
        "from typing import Any\nf: Any = lambda x: 2 * x",
        "g = f = lambda x: 2 * x",
        "f, g = (lambda x: 2 * x), 3",
        "table = {'f': lambda x: 2 * x}\nf = table['f']",
        "def f(x):\n    return 3\n" + F,
        "x = 1\nfrom __future__ import annotations\ndef f(x: Unknown):\n    return 2 * x",
        "k = 2\nasync def g(): await f(1)\ndef f(x):\n    return k * x",
    ],
)
def test_a_function_is_found_however_it_is_written(tmp_path, text):
    assert doubled(tmp_path, text) == 42


def test_no_more_than_three_definitions_are_tried_and_the_sure_one_is_among_them(tmp_path):
    found = programs(tmp_path, F + "".join(f"f = values[{i}]\n" for i in range(9)))
    assert len(found) == 3 and "values[8]" in found[0] and found[-1] == F.strip()


@pytest.mark.parametrize(
    "cells, says",
    [
        (["def f(x):\n    return ("], "code cell 2 is not valid Python, line 2"),
        (["from helper import f"], "imported from helper"),
        (["class A:\n    def f(self):\n        pass"], "defined inside A"),
        (["f = 3"], "f is a value"),
        (["def F(x):\n    pass"], "is it F, under another name?"),
        (["for for"], "(code cell 2 is not valid Python"),
        ([], "the file defines no function at all"),
    ],
)
def test_a_missing_function_has_a_likely_reason(tmp_path, cells, says):
    cells = [Cell("code", cell) for cell in ["x = 1", *cells]]
    assert says in parts(tmp_path, write_ipynb(cells)).reason("f")


def test_a_function_in_a_text_cell_is_told(tmp_path):
    text = write_ipynb([Cell("code", "def g(): pass"), Cell("markdown", F)])
    assert "text, not code" in parts(tmp_path, text).reason("f")
    assert parts(tmp_path, text).reason("h") == ""
