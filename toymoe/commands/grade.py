"""``toymoe grade``: submissions marked, with a page for each student."""

from itertools import count
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
    grade.add_argument("--seconds", default="10", metavar="S", help="for each check; default 10")


def _grade(args) -> int:
    from ..classroom import checks
    from ..classroom.grading import marking, sheet
    from ..pages import terminal

    number = (
        None if args.lesson is None else whole_number("lesson", args.lesson, 0, max(checks.LESSONS))
    )
    seed = whole_number("seed", args.seed, 0, 2**31 - 1)
    limits = marking.Limits(seconds=whole_number("seconds", args.seconds, 1, 3600))
    out = Path(args.out)
    if out.is_dir() or not out.parent.is_dir():
        raise ConfigError(f"--out {out} is not possible: name a file in a folder that exists.")
    paths = [Path(name) for name in args.files]
    if out.resolve() in [path.resolve() for path in paths]:
        raise ConfigError(f"--out {out} is one of the submissions: name another file.")
    folder = Path(args.feedback) if args.feedback else out.with_name(f"{out.stem}_feedback")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--feedback {folder} is not possible: it is a file.")
    console, done = terminal.console(), count(1)
    what = f"marking {len(paths)} submissions"
    with console.status(what) as status:
        rows = marking.mark(
            paths, number, seed, limits, lambda _: status.update(f"{what}, {next(done)} done")
        )
    sheet.write_csv(out, rows)
    sheet.write_feedback(folder, rows)
    points = [
        (student, f"{sum(row.mark for row in theirs)} of {len(theirs)}", _worst(theirs))
        for student, theirs in sheet.by_student(rows).items()
    ]
    console.print(terminal.table(("student", "solved", ""), points))
    console.print(terminal.table(("check", "solved", "most often"), sheet.summary(rows)))
    console.print(f"{out}, and a page for each student in {folder}.", soft_wrap=True)
    console.print(sheet.NOT_A_SANDBOX, soft_wrap=True)
    return 0


def _worst(rows) -> str:
    """What a teacher should look at."""
    return next((r.message for r in rows if r.status in ("unreadable", "stopped", "missing")), "")
