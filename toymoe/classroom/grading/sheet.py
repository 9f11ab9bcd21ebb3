"""What marking leaves behind: a table for the teacher, totals, and a page for each student."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ...checkpoint import make_folder, write_atomic
from ...pages import html
from .. import checks
from .rows import Row

BOM = "\ufeff".encode()  # or Excel takes the text for another encoding
TOTALS = ("student", "lessons", "solved", "exercises")
NOT_A_SANDBOX = (
    "Limits on time, memory and output protect against accidents. This is not a sandbox: look at "
    "submissions you have reason to distrust before you mark them."
)


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """One line per submission and check."""
    write_atomic(path, BOM + _lines([Row._fields, *rows]))


def append_csv(path: Path, rows: Iterable[Row]) -> None:
    """More lines of a table that `write_csv` began."""
    with path.open("ab") as file:
        file.write(_lines(rows))


def write_totals(path: Path, rows: list[Row]) -> None:
    """One line per student."""
    lines = [
        (
            student,
            " ".join(map(str, sorted({row.lesson for row in theirs}))),
            sum(row.mark for row in theirs),
            len(theirs),
        )
        for student, theirs in by_student(rows).items()
    ]
    write_atomic(path, BOM + _lines([TOTALS, *lines]))


def _lines(rows: Iterable[tuple]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_harmless(x) for x in row] for row in rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


_FORMULA = re.compile(r"""((?:^|[;\t\r\n])[\s"']*)(?=[=+\-@\uFF1D\uFF0B\uFF0D\uFF20])""")


def _harmless(value):
    """Text that no spreadsheet takes for a formula, whichever sign it takes for a separator."""
    return _FORMULA.sub(r"\1'", value) if isinstance(value, str) else value


def page_names(students: Iterable[str]) -> dict[str, str]:
    """The name of each student's page."""
    names: dict[str, str] = {}
    for student in dict.fromkeys(students):
        stem = name = re.sub(r"[^\w.-]+", "_", student).strip("._")[:80] or "student"
        count = 1
        while name.lower() in {other.lower() for other in names.values()}:
            count += 1
            name = f"{stem}-{count}"
        names[student] = name
    return {student: f"{name}.html" for student, name in names.items()}


def write_page(path: Path, student: str, rows: list[Row]) -> None:
    """A student's feedback."""
    make_folder(path.parent)
    write_atomic(path, page(student, rows).encode("utf-8", "backslashreplace"))


def by_student(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each student, in order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.student, []).append(row)
    return found


def page(student: str, rows: list[Row]) -> str:
    """A student's feedback as HTML."""
    parts = [f"<h1>{html.escape(student)}</h1>"]
    files = dict.fromkeys((row.file, row.lesson) for row in rows)
    for file, lesson in files:
        these = [row for row in rows if (row.file, row.lesson) == (file, lesson)]
        points, numbers = sum(row.mark for row in these), list(checks.lesson_checks(lesson))
        parts.append(f"<p>Lesson {lesson}: {points} of {len(these)} exercises solved.</p>")
        cells = [
            (
                "✔" if row.mark else "✘",
                f"{lesson}.{numbers.index(row.check) + 1} {row.check}",
                row.status,
                row.message,
            )
            for row in these
        ]
        parts.append(html.table(("", "exercise", "result", ""), cells))
    return html.page("Feedback", parts)


def summary(rows: list[Row]) -> list[tuple[str, str, str]]:
    """For each check: its name, how many solved it, and the mistake that most of the others made.

    What was not handed in, or is as it was given, is no mistake.
    """
    found = []
    for name in dict.fromkeys(row.check for row in rows):
        these = [row for row in rows if row.check == name]
        said = Counter(row.message for row in these if row.status in ("wrong", "stopped"))
        most = [f"{count} ×: {message}" for message, count in said.most_common(1)]
        found.append((name, f"{sum(row.mark for row in these)} of {len(these)}", *(most or [""])))
    return found
