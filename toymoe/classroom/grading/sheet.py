"""What marking leaves behind: a table for the teacher, a page for each student."""

import csv
import io
import re
from collections import Counter
from pathlib import Path

from ...checkpoint import make_folder, write_atomic
from ...pages import html
from .marking import Row

NOT_A_SANDBOX = (
    "Limits on time, memory and output protect against accidents. This is not a sandbox: look at "
    "submissions you have reason to distrust before you mark them."
)


def write_csv(path: Path, rows: list[Row]) -> None:
    """One line per submission and check."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows([_plain(value) for value in row] for row in rows)
    write_atomic(path, text.getvalue().encode())


def _plain(value):
    """Text that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value


def write_feedback(folder: Path, rows: list[Row]) -> list[Path]:
    """A page for each student; the files written."""
    make_folder(folder)
    written, taken = [], set()
    for student, theirs in by_student(rows).items():
        stem = name = re.sub(r"[^\w.-]+", "_", student).strip("._")[:80] or "student"
        count = 1
        while name.lower() in taken:
            count += 1
            name = f"{stem}-{count}"
        taken.add(name.lower())
        path = folder / f"{name}.html"
        write_atomic(path, page(student, theirs).encode("utf-8", "replace"))
        written.append(path)
    return written


def by_student(rows: list[Row]) -> dict[str, list[Row]]:
    """The rows of each student, in order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.student, []).append(row)
    return found


def page(student: str, rows: list[Row]) -> str:
    """A student's feedback as HTML."""
    points = sum(row.mark for row in rows)
    cells = [("✔" if row.mark else "✘", row.check, row.status, row.message) for row in rows]
    solved = f"<p>Lesson {rows[0].lesson}: {points} of {len(rows)} exercises solved.</p>"
    parts = [f"<h1>{html.escape(student)}</h1>", solved]
    return html.page("Feedback", [*parts, html.table(("", "exercise", "result", ""), cells)])


def summary(rows: list[Row]) -> list[tuple[str, str, str]]:
    """For each check: its name, how many solved it, and what most of the others heard."""
    found = []
    for name in dict.fromkeys(row.check for row in rows):
        these = [row for row in rows if row.check == name]
        said = Counter(row.message for row in these if not row.mark).most_common(1)
        most = f"{said[0][1]} ×: {said[0][0]}" if said else ""
        found.append((name, f"{sum(row.mark for row in these)} of {len(these)}", most))
    return found
