"""The lessons: what is generated is what the sources say, and all of it runs."""

import ast
import hashlib
import inspect
import json
import re
import time
from contextlib import contextmanager

import jax
import numpy as np
import pytest

from lessons import build, instructor
from toymoe.attacks import tuning
from toymoe.attribution import evidence, route_patching, without
from toymoe.classroom import lesson, notebook
from toymoe.classroom.checks import LESSONS, lesson_checks
from toymoe.config import ConfigError
from toymoe.defences import alignment
from toymoe.model import inference
from toymoe.training import phases

SOURCES = build.sources()
MINUTES = {"easy": (3, 7), "medium": (4, 10), "hard": (10, 15)}  # as lessons/README.md says
BUDGET_S = {3: 90}  # of every cell of a solution; the others have 60


def number_of(path):
    return int(path.stem[:2])


def test_there_are_as_many_lessons_as_the_table_says():
    assert [number_of(path) for path in SOURCES] == list(lesson.LESSONS) and SOURCES
    for kind in ("exercises", "solutions"):
        names = sorted(path.stem for path in (build.HERE / kind).glob("*.ipynb"))
        assert names == [path.stem for path in SOURCES]
    assert [path.stem for path in lesson.notebooks()] == [path.stem for path in SOURCES]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_notebooks_are_what_the_source_makes(path):
    solution, exercise = build.cells_of(path)
    made = {
        "exercises": json.loads(build.exercise_text(path)),
        "solutions": json.loads(notebook.write_ipynb(solution)),
    }
    for kind, expected in made.items():
        text = (build.HERE / kind / f"{path.stem}.ipynb").read_text("utf-8")
        stored, figures = json.loads(text), 0
        for cell, other in zip(stored["cells"], expected["cells"], strict=True):
            outputs = cell.pop("outputs", [])
            figures += sum("image/png" in output.get("data", {}) for output in outputs)
            other.pop("outputs", None)
            if kind == "solutions":
                assert cell.pop("execution_count", 0) is not None
                other.pop("execution_count", None)
            else:
                assert not outputs
        assert stored == expected, "run `python -m lessons.build`"
        assert (figures > 0) == (kind == "solutions")
        ids = [cell["id"] for cell in stored["cells"]]
        assert len(set(ids)) == len(ids)
    assert not any(re.search(r"# --- \w+", cell.source) for cell in (*solution, *exercise))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_lesson_has_all_its_parts(path):
    text = path.read_text("utf-8")
    number = number_of(path)
    prose = " ".join(cell.source for cell in build.cells_of(path)[0] if cell.kind == "markdown")
    for part in (
        "**Claim.**",
        "you will be able to",
        "## Predict before you run",
        "egative control",
        "aseline",
        "## Try it yourself",
        "## What this does not show",
        "**To discuss.**",
    ):
        assert part in prose, part
    asked = re.findall(
        rf"## Exercise {number}\.(\d) · .+ \*\(.+ · (easy|medium|hard) · (\d+) minutes\)\*", prose
    )
    assert [int(n) for n, _, _ in asked] == list(range(1, len(asked) + 1)) and 3 <= len(asked) <= 6
    for _, kind, minutes in asked:
        least, most = MINUTES[kind]
        assert least <= int(minutes) <= most
    assert len(lesson_checks(number)) == prose.count("<details><summary>Hint") == len(asked)
    assert "predict(" in text and re.search(r"^ *assert ", text, re.MULTILINE)
    assert f"\nbegin({number})\n" in text and "SEED = 0" in text


COSTLY = (
    (phases, "run_phase"),
    (alignment, "align"),
    (tuning, "tune"),
    (evidence, "gather"),
    (without, "_sweep"),  # what `removal` asks again and again
    (route_patching, "_on_route"),
    (inference, "_read"),
)


@pytest.fixture
def done_once(monkeypatch):
    """An exercise gets what its solution trained, tuned and measured of the same evidence, where it
    asks for exactly the same."""
    for module, name in COSTLY:
        monkeypatch.setattr(module, name, remembered(getattr(module, name)))


def remembered(function):
    """The function, called once for the same arguments; what it yields is kept as a list."""
    kept = {}

    def call(*args, **named):
        leaves, structure = jax.tree.flatten((args, named))
        asked = structure, *map(_value, leaves)
        if asked not in kept:
            with optimised():
                made = function(*args, **named)
                kept[asked] = list(made) if inspect.isgenerator(made) else made
        return kept[asked]

    return call


@contextmanager
def optimised():
    """For what runs for longer than it compiles; the many other programs of a lesson do not."""
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", True)


def _value(leaf):
    """Something to compare a leaf of the arguments by."""
    if not hasattr(leaf, "dtype"):
        return leaf
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    leaf = np.asarray(leaf)
    return leaf.shape, leaf.dtype.str, hashlib.sha256(leaf.tobytes()).digest()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_solution_and_unsolved_exercise_run(path, done_once):
    solution, exercise = build.cells_of(path)
    number = number_of(path)
    budget_s = BUDGET_S.get(number, 60)
    assert lesson.seconds()[number] <= budget_s  # wall time on two cores, when it was built
    begin = time.process_time()  # of both cores, on a machine that may do other things too
    outputs = build.run(solution)
    assert time.process_time() - begin < 1.5 * budget_s
    said = _printed(outputs)
    asked = sum(_asks(cell.source) for cell in exercise if cell.kind == "code")
    assert asked >= len(lesson_checks(number))
    assert "not yet" not in said and "✘" not in said and said.count("✔") == asked
    said = _printed(build.run(exercise))
    assert said.count("not yet") == asked and "✘" not in said and "✔" not in said


def _asks(source):
    """Calls of check and predict in a cell."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return sum(getattr(call.func, "id", "") in ("check", "predict") for call in calls)


def _printed(outputs):
    return "".join(
        "".join(output["text"]) for cell in outputs for output in cell if "text" in output
    )


def test_the_checks_of_every_lesson_are_listed():
    assert list(LESSONS) == list(lesson.LESSONS)


def test_measured_seconds_are_known_for_every_lesson():
    assert lesson.seconds().keys() == lesson.LESSONS.keys()
    assert lesson.rounded(3.2) == 5 and lesson.rounded(11) == 15


def test_what_a_lesson_asks_is_counted_by_one_rule():
    prose = (
        """# Lesson 9 · Two words

## Exercise 9.1 · One *(fill in · easy · 4 minutes)*

one two $-$ three
<details><summary>Hint</summary>

"""
        + "hint " * 1000
        + """
</details>

## Exercise 9.2 · Two *(break it · hard · 12 minutes)*
"""
    )
    words = 4 + 8 + 3 + 8  # with a letter or a digit; hints are left out
    assert lesson.effort_of(prose, 0) == (words, 2, 16, 20)
    assert lesson.effort_of(prose + "word " * (600 - words), 0).minutes == 20
    assert lesson.effort_of(prose + "word " * (601 - words), 0).minutes == 25
    assert lesson.effort_of(prose + "word " * (600 - words), 1).minutes == 25


def test_every_lesson_is_labelled_with_what_its_notebook_asks(monkeypatch, capsys):
    for path in SOURCES:
        number = number_of(path)
        prose = "\n".join(c.source for c in build.cells_of(path)[1] if c.kind == "markdown")
        found = lesson.effort_of(prose, lesson.seconds()[number])
        assert lesson.effort(number) == found and found.exercises == len(lesson_checks(number))
        assert f"· about {found.minutes} minutes, of which about" in lesson.label(number)
    assert "twenty" in lesson.LESSONS[0].title and lesson.effort(0).minutes <= 20
    monkeypatch.setattr(lesson, "notebooks", list)
    with pytest.raises(ConfigError, match="no notebook of lesson 3 here: install toymoe again"):
        lesson.effort(3)


@pytest.mark.parametrize("left", [b"", b"{", b"[1]", b'{"one": 2}', b'{"1": []}', b"\xff"])
def test_damaged_seconds_are_one_sentence_and_missing_ones_are_none(tmp_path, monkeypatch, left):
    monkeypatch.setattr(lesson, "HERE", tmp_path)
    assert lesson.seconds() == {}
    (tmp_path / "seconds.json").write_bytes(left)
    with pytest.raises(ConfigError, match=r"seconds\.json is damaged: install toymoe again\.$"):
        lesson.seconds()


# --- the build ----------------------------------------------------------------------------------


def test_a_cell_is_split_at_its_markers():
    source = "\n".join(
        [
            "x = 1",
            "    # --- solution",
            "    y = 2",
            "    # --- exercise",
            "    # y = ...",
            "    #",
            "    #     deeper",
            "    # --- end",
            "z = 3",
        ]
    )
    solution, exercise = build.split(source)
    assert solution == "x = 1\n    y = 2\nz = 3"
    assert exercise == "x = 1\n    y = ...\n\n        deeper\nz = 3"


@pytest.mark.parametrize(
    "source, says",
    {
        "# --- exercise\n# --- end": "out of place",
        "# --- solution\n# --- end": "out of place",
        "# --- solution\n# --- exercise": "has no",
        "# --- solution\n# --- exercise\nx = 1\n# --- end": "not a comment",
        "# --- answer": "out of place",
    }.items(),
)
def test_misplaced_markers_are_refused(source, says):
    with pytest.raises(notebook.NotebookError, match=says):
        build.split(source)


def test_percent_cells_are_read():
    text = "# for editors\n\n# %% [markdown]\n# # Title\n#\n#     code\n\n# %%\nx = 1\n\n\n# %%\n"
    assert notebook.read_percent(text) == [
        ("markdown", "# Title\n\n    code"),
        ("code", "x = 1"),
        ("code", ""),
    ]
    with pytest.raises(notebook.NotebookError, match="line 2"):
        notebook.read_percent("# %% [markdown]\nno comment")
    with pytest.raises(notebook.NotebookError, match="'raw'"):
        notebook.read_percent("# %% [raw]\n# x")


def test_a_notebook_is_read_as_it_was_written_and_nothing_in_it_changes():
    cells = [notebook.Cell("markdown", "# Ä"), *[notebook.Cell("code", "x = 1\ny = 2")] * 2]
    text = notebook.write_ipynb(cells)
    assert notebook.read_ipynb(text) == cells and notebook.write_ipynb(cells) == text
    ids = [cell["id"] for cell in json.loads(text)["cells"]]
    assert len(set(ids)) == 3 and all(re.fullmatch(r"[a-zA-Z0-9-_]{1,64}", one) for one in ids)
    # A cell keeps its id when others come before it.
    assert json.loads(notebook.write_ipynb(cells[1:2]))["cells"][0]["id"] == ids[1]


def test_a_run_shows_what_a_notebook_shows():
    code = ["print('a')\n1 + 1", "x = 3", "None", "from matplotlib.figure import Figure\nFigure()"]
    outputs = build.run([notebook.Cell("code", source) for source in code])
    assert outputs[0][0]["text"] == ["a\n"] and outputs[0][1]["data"]["text/plain"] == ["2"]
    assert outputs[1] == outputs[2] == [] and "image/png" in outputs[3][0]["data"]
    with pytest.raises(ZeroDivisionError):
        build.run([notebook.Cell("code", "1 / 0")])


def test_an_executed_notebook_has_a_line_and_a_picture_in_the_place_of_the_explorer(
    tmp_path, monkeypatch
):
    code = "from toymoe.explorer.page import Shown\nShown('<p>' + 'x' * 10**6, 900)"
    monkeypatch.setattr(build, "STILL", tmp_path / "explorer.png")

    def shown():
        ((output,),) = build.run([notebook.Cell("code", code)])
        return output["data"]

    assert shown() == {"text/plain": [build.EXPLORER]}
    build.STILL.write_bytes(b"a picture")
    assert shown() == {"text/plain": [build.EXPLORER], "image/png": "YSBwaWN0dXJl\n"}
    told = {}
    for path in SOURCES:
        text = (build.HERE / "solutions" / f"{path.stem}.ipynb").read_text("utf-8")
        told[path.stem] = text.count(build.EXPLORER)
        assert len(text) < 500_000 and "<iframe" not in text
        assert told[path.stem] == path.read_text("utf-8").count("\nexplorer.show(")
    assert told["00_start"]


# --- index and guide ----------------------------------------------------------------------------


def test_the_index_lists_every_lesson_as_the_table_does():
    text = (build.HERE / "README.md").read_text("utf-8")
    assert build.with_table(text, "lessons", build.table()) == text, "run `python -m lessons.build`"
    guide = instructor.PAGE.read_text("utf-8")
    assert build.with_table(guide, "lessons", build.times()) == guide
    assert lesson.RULE in text and lesson.RULE in guide
    assert all(f"solutions/{path.stem}.ipynb" in text for path in SOURCES)
    with pytest.raises(notebook.NotebookError, match="no <!-- other"):
        build.with_table(text, "other", [])


def test_the_guide_has_a_section_and_todays_messages_for_every_lesson():
    text = instructor.PAGE.read_text("utf-8")
    assert instructor.fill(text, None) == text, "run `python -m lessons.instructor`"
    assert all(f"### Lesson {number} · " in text for number in lesson.LESSONS)


def test_ranges_are_taken_from_a_sweep():
    column = "behaviour.aligned.refusal"
    rows = [{"seed": str(i), column: x} for i, x in enumerate(("0.5", "", "0.75", "1.0"))]
    assert instructor.ranges(rows, {"refused": column, "absent": "none"})[2:] == [
        "| refused | 0.500 | 0.750 | 1.000 |"
    ]
    filled = instructor.fill(instructor.PAGE.read_text("utf-8"), rows)
    assert (
        "4 runs, of the seeds 0, 1, 2, 3" in filled
        and "| hazards refused | 0.500 | 0.750 | 1.000 |" in filled
    )


def test_minutes_are_expected_in_proportion_to_the_machine():
    once, twice = lesson.expected(1.0), lesson.expected(2.0)
    assert [row[0] for row in once] == list(lesson.LESSONS)
    assert all(b[3] >= 2 * a[3] - 5 and a[2] == b[2] for a, b in zip(once, twice, strict=True))
