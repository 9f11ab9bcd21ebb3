"""``toymoe grade``: submissions marked, with a page for each student."""

import os
from pathlib import Path

from ..config import ConfigError
from .common import whole_number


def add(command) -> None:
    grade = command(
        "grade",
        _grade,
        "Mark submissions (.ipynb or .py) by the names of their functions. Not a sandbox.",
        settings=False,
    )
    grade.add_argument("files", nargs="+", metavar="FILE")
    grade.add_argument("--out", required=True, metavar="CSV", help="such as grades.csv")
    grade.add_argument("--feedback", metavar="DIR", help="a page per student; default: beside CSV")
    grade.add_argument(
        "--lesson", default=None, metavar="N", help="default: found by the functions"
    )
    grade.add_argument("--seed", default="0", metavar="N", help="of the inputs; default 0")
    grade.add_argument(
        "--seconds", default="10", metavar="S", help="each check may take; default 10"
    )


def _grade(args) -> int:
    from ..classroom import checks
    from ..classroom.grading import marking, sheet
    from ..pages import terminal

    number = (
        None if args.lesson is None else whole_number("lesson", args.lesson, 0, max(checks.LESSONS))
    )
    seed = whole_number("seed", args.seed, 0, 2**31 - 1)
    limits = marking.Limits(seconds=whole_number("seconds", args.seconds, 1, 3600))
    paths, out = [Path(name) for name in args.files], Path(args.out)
    folder = Path(args.feedback) if args.feedback else out.with_name(f"{out.stem}_feedback")
    totals = out.with_name(f"{out.stem}-totals.csv")
    _refuse(paths, out, totals, folder)
    console, done = terminal.console(), {}
    pages = sheet.page_names(marking.students(paths))
    what = f"marking {len(paths)} submissions"
    with console.status(what) as status:
        for i, rows in marking.mark(paths, number, seed, limits):
            (sheet.append_csv if done else sheet.write_csv)(out, rows)
            done[i] = rows
            status.update(f"{what}, {len(done)} done")
            student = rows[0].student
            theirs = [r for j in sorted(done) for r in done[j] if r.student == student]
            sheet.write_page(folder / pages[student], student, theirs)
    rows = [row for i in sorted(done) for row in done[i]]
    sheet.write_csv(out, rows)  # in the order of the files
    sheet.write_totals(totals, rows)
    points = [
        (student, f"{sum(row.mark for row in theirs)} of {len(theirs)}", _worst(theirs))
        for student, theirs in sheet.by_student(rows).items()
    ]
    console.print(terminal.table(("student", "solved", ""), points))
    console.print(terminal.table(("check", "solved", "most often"), sheet.summary(rows)))
    console.print(
        f"{out}, {totals}, and a page for each student in {folder}.",
        soft_wrap=True,
        highlight=False,
    )
    console.print(sheet.NOT_A_SANDBOX, soft_wrap=True)
    return 0


def _refuse(paths: list[Path], out: Path, totals: Path, folder: Path) -> None:
    """What would write over a submission, or where nothing can be written."""
    if out.is_dir() or not out.parent.is_dir():
        raise ConfigError(f"--out {out} is not possible: name a file in a folder that exists.")
    whole = {os.path.realpath(path) for path in paths}
    for written in (out, totals):
        if os.path.realpath(written) in whole:
            raise ConfigError(f"--out {out} is one of the submissions: name another file.")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--feedback {folder} is not possible: it is a file.")


def _worst(rows) -> str:
    """What a teacher should look at."""
    bad = ("void", "unreadable", "stopped", "missing")
    return next((r.message for status in bad for r in rows if r.status == status), "")
