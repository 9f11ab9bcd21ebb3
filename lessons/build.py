"""Make the notebooks of every lesson from its one source: ``python -m lessons.build [NN …]``.

A source is a py:percent file ``NN_name.py``, and runs as a script. In its code cells

    # --- solution
    return x + 1
    # --- exercise
    # raise NotImplementedError("your turn")
    # --- end

marks what belongs to the solution, and in comments what stands there in the exercise. Out come
``exercises/NN_name.ipynb``, without solutions or outputs, and ``solutions/NN_name.ipynb``,
executed, with its figures.
"""

import argparse
import ast
import base64
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from toymoe.classroom import lesson
from toymoe.classroom.notebook import Cell, NotebookError, read_percent, write_ipynb

HERE = Path(__file__).parent
EXPLORER = "The explorer: run this cell to use it."  # what an executed notebook says in its place
STILL = HERE.parent / "docs" / "images" / "explorer.png"  # and shows, where there is one
_MARK = re.compile(r"\s*# --- (\w+)\s*$")
_ORDER = {"solution": None, "exercise": "solution", "end": "exercise"}


def sources() -> list[Path]:
    """The lessons' sources, in order."""
    return sorted(HERE.glob("[0-9][0-9]_*.py"))


def split(source: str) -> tuple[str, str]:
    """The text of a code cell in the solution, and in the exercise.

    Raises:
      NotebookError: markers out of order, an unknown one, or a stand-in that is not a comment.
    """
    solution, exercise, state = [], [], None
    for line in source.splitlines():
        if mark := _MARK.match(line):
            if mark[1] not in _ORDER or _ORDER[mark[1]] != state:
                raise NotebookError(f"marker {line.strip()!r} is out of place after {state!r}.")
            state = None if mark[1] == "end" else mark[1]
            continue
        if state != "exercise":
            solution.append(line)
        if state == "exercise":
            stand_in = re.fullmatch(r"(\s*)#(?: (.*))?", line)
            if not stand_in:
                raise NotebookError(f"stand-in {line.strip()!r} is not a comment.")
            exercise.append(f"{stand_in[1]}{stand_in[2] or ''}".rstrip())
        elif state is None:
            exercise.append(line)
    if state:
        raise NotebookError(f"marker '# --- {state}' has no '# --- end'.")
    return "\n".join(solution), "\n".join(exercise)


def cells_of(path: Path) -> tuple[list[Cell], list[Cell]]:
    """The cells of a lesson's solution and of its exercise."""
    both = [
        (cell, cell) if cell.kind == "markdown" else [Cell("code", t) for t in split(cell.source)]
        for cell in read_percent(path.read_text("utf-8"))
    ]
    return [solution for solution, _ in both], [exercise for _, exercise in both]


def exercise_text(path: Path) -> str:
    """The exercise notebook of a lesson, as text."""
    return write_ipynb(cells_of(path)[1])


# --- running ------------------------------------------------------------------------------------


def run(cells: list[Cell]) -> list[list[dict]]:
    """Execute the code cells one after the other, as a notebook does; their outputs.

    The value of a cell's last expression is shown: a matplotlib figure as a picture, the explorer
    as a line and a still picture, anything else but None as text.
    """
    names: dict = {"__name__": "__main__"}
    outputs = []
    for i, cell in enumerate(cells):
        outputs.append([])
        if cell.kind != "code":
            continue
        tree, last = ast.parse(cell.source), None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, f"<cell {i}>", "exec"), names)
            value = None if last is None else eval(compile(last, f"<cell {i}>", "eval"), names)
        if text := printed.getvalue():
            stream = {"output_type": "stream", "name": "stdout"}
            outputs[-1].append(stream | {"text": text.splitlines(keepends=True)})
        if value is not None:
            outputs[-1].append(_shown(value, sum(c.kind == "code" for c in cells[: i + 1])))
    return outputs


def _shown(value, count: int) -> dict:
    from toymoe.explorer.page import Shown
    from toymoe.pages import style

    data = {"text/plain": repr(value).splitlines(keepends=True)}
    if hasattr(value, "savefig"):
        data["text/plain"] = ["<Figure>"]
        data["image/png"] = _picture(style.png(value, 80))
    elif isinstance(value, Shown):  # two megabytes of page in every notebook would be too much
        data["text/plain"] = [EXPLORER]
        if STILL.is_file():
            data["image/png"] = _picture(STILL.read_bytes())
    return {
        "output_type": "execute_result",
        "execution_count": count,
        "data": data,
        "metadata": {},
    }


def _picture(png: bytes) -> str:
    return base64.b64encode(png).decode() + "\n"


def solve(path: Path) -> None:
    """Execute a lesson's solution in this process and write its notebook."""
    cells, _ = cells_of(path)
    _write(HERE / "solutions" / f"{path.stem}.ipynb", write_ipynb(cells, run(cells)))


def main(argv: list[str] | None = None) -> int:
    """Build all lessons, or those of the given numbers, and note the seconds they took."""
    parser = argparse.ArgumentParser(prog="python -m lessons.build", description=__doc__)
    parser.add_argument("lessons", nargs="*", metavar="NN", help="such as 01; all by default")
    parser.add_argument("--exercises", action="store_true", help="do not execute the solutions")
    parser.add_argument("--solve", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.solve:
        solve(args.solve)
        return 0
    for path in sources():
        if args.lessons and path.stem[:2] not in args.lessons:
            continue
        _write(HERE / "exercises" / f"{path.stem}.ipynb", exercise_text(path))
        print(path.stem, end="", flush=True)
        if not args.exercises:
            print(f"  {_timed(path):.0f} s", end="", flush=True)
        print()
    for name, rows in (("README.md", table()), ("INSTRUCTOR.md", times())):
        page = HERE / name
        _write(page, with_table(page.read_text("utf-8"), "lessons", rows))
    return 0


def table() -> list[str]:
    """The table of lessons in README.md, and how its times are meant."""
    took = lesson.seconds()
    rows = [
        "| | lesson | you need | words | exercises | your time | running every cell |",
        "|---|---|---|---|---|---|---|",
    ]
    for path, (number, one) in zip(sources(), lesson.LESSONS.items(), strict=True):
        asked = lesson.effort(number)
        rows.append(
            f"| {number} | [{one.title}](solutions/{path.stem}.ipynb) | {one.needs} "
            f"| {asked.words:,} | {asked.exercises} | {asked.minutes} min "
            f"| {lesson.rounded(took[number]) if number in took else '?'} s |"
        )
    return [*rows, "", lesson.RULE]


def times() -> list[str]:
    """The table of times in INSTRUCTOR.md."""
    rows = ["| lesson | words | exercises, and their minutes | in all |", "|---|---|---|---|"]
    for number in lesson.LESSONS:
        asked = lesson.effort(number)
        rows.append(
            f"| {number} | {asked.words:,} | {asked.exercises}, {asked.exercise_minutes} min "
            f"| {asked.minutes} min |"
        )
    return [*rows, "", lesson.RULE]


def with_table(text: str, name: str, rows: list[str]) -> str:
    """A page with another table between ``<!-- name -->`` and ``<!-- end -->``.

    Raises:
      NotebookError: the page has no such place.
    """
    found = re.search(rf"(<!-- {name} -->\n).*?(<!-- end -->)", text, re.DOTALL)
    if not found:
        raise NotebookError(f"there is no <!-- {name} --> … <!-- end --> on the page.")
    return text[: found.end(1)] + "".join(f"{row}\n" for row in rows) + text[found.start(2) :]


def _timed(path: Path) -> float:
    """Execute a solution as a student's first run-all does: a new process, nothing compiled."""
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "lessons.build", "--solve", str(path)],
        cwd=HERE.parent,
        env=os.environ | {"TOYMOE_CACHE": "off"},
        check=True,
    )
    seconds = time.perf_counter() - begin
    noted = HERE.parent / "toymoe" / "classroom" / "seconds.json"
    known = json.loads(noted.read_text()) if noted.is_file() else {}
    known[str(int(path.stem[:2]))] = round(seconds, 1)
    _write(noted, json.dumps(known, indent=1, sort_keys=True) + "\n")
    # Its first cell still says how long it took before.
    solved, number = HERE / "solutions" / f"{path.stem}.ipynb", int(path.stem[:2])
    said = re.compile(rf"Lesson {number} · .* s of computing")
    _write(solved, said.sub(lambda _: lesson.label(number), solved.read_text("utf-8")))
    return seconds


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8", newline="\n")


if __name__ == "__main__":
    sys.exit(main())
