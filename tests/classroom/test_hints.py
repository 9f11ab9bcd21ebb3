"""What a hint or a message calls by name is there for whoever reads it."""

import ast
import builtins
import importlib
import re

import numpy as np
import pytest

from lessons import build
from toymoe.classroom import checks

pytestmark = pytest.mark.core

HINT = re.compile(r"<details><summary>Hint</summary>(.*?)</details>", re.DOTALL)


def exercises(number):
    """Name of a check, its hint, and the cell it is written in, in the order of the lesson."""
    (path,) = build.HERE.glob(f"{number:02}_*.py")
    _, cells = build.cells_of(path)
    hints = [hint for cell in cells for hint in HINT.findall(cell.source)]
    names = list(checks.lesson_checks(number))
    begins = [f'{name} = check("{name}", {name})' for name in names]
    written = [next(c.source for c in cells if c.kind == "code" and b in c.source) for b in begins]
    return list(zip(names, hints, written, strict=True))


def imported(number):
    """The names that a notebook imports."""
    (path,) = build.HERE.glob(f"{number:02}_*.py")
    _, cells = build.cells_of(path)
    trees = [ast.parse(cell.source) for cell in cells if cell.kind == "code"]
    found = [n for t in trees for n in ast.walk(t) if isinstance(n, ast.Import | ast.ImportFrom)]
    return {one.asname or one.name for node in found for one in node.names}


def parsed(code):
    """A piece of code between backticks; None if it is none, such as an operator."""
    for text in (code, f"{code}: pass", f"x{code}" if code[:1] in ".[" else f"0 {code}"):
        try:
            return ast.parse(text.replace("…", "..."))
        except SyntaxError:
            continue
    return None


def unknown(hint, source, known):
    """Names in a hint's code that are neither known, nor in the cell, nor made by the hint."""
    pieces = re.findall(r"`([^`]+)`", hint)
    trees = [tree for piece in pieces if (tree := parsed(piece))]
    known = set(known) | set(dir(builtins)) | {"x"}
    known |= {node.arg for node in ast.walk(ast.parse(source)) if isinstance(node, ast.arg)}
    for node in [n for tree in (*trees, ast.parse(source)) for n in ast.walk(tree)]:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            known.add(node.id)
    for piece in pieces:  # from `scipy.special`
        if re.fullmatch(r"scipy\.\w+", piece):
            known |= {"scipy", *dir(importlib.import_module(piece))}
    used = {n.id for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Name)}
    return {name for name in used - known if not hasattr(np, name)}


@pytest.mark.parametrize("number", checks.LESSONS)
def test_a_hint_names_only_what_the_function_has(number):
    found = exercises(number)
    known = imported(number) | set(checks.lesson_checks(number))
    assert len(found) == len(checks.lesson_checks(number))
    assert any("`" in hint for _, hint, _ in found)
    for name, hint, source in found:
        assert not unknown(hint, source, known), name


def test_a_name_that_is_nowhere_is_found():
    source = 'def f(luck_BE, share):\n    step = 1\n\n\nf = check("f", f)'
    assert unknown("`round(share * E)`", source, ()) == {"E"}
    assert unknown("`(b + step) % B`", source, ()) == {"b", "B"}
    assert unknown("`best = luck_BE.max(1)`, `argsort`, `best[:, None]`", source, ()) == set()
    assert unknown("`% len(topic_B)`", source, ()) == {"topic_B"}
    assert unknown("`for e in range(3)`: `luck_BE[e]`, `&`", source, ()) == set()
    assert unknown("`rel_entr(share, share)` from `scipy.special`", source, ()) == set()
    assert unknown("`rel_entr(share, share)`", source, ()) == {"rel_entr"}


@pytest.mark.parametrize("number", checks.LESSONS)
def test_a_message_names_only_arrays_that_the_function_has(number):
    for name, _, source in exercises(number):
        there = set(re.findall(r"\w+", source))
        for mistake in checks.lesson_checks(number)[name].mistakes:
            arrays = set(re.findall(r"\b[a-z]+_[A-Z]+\b", mistake.says))
            assert arrays <= there, (name, mistake.says)
            assert not re.search(r"np\.arange\([A-Z]\)", mistake.says), mistake.says
