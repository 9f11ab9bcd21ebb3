"""``toymoe lessons`` and ``toymoe grade``."""

import json
import re
from itertools import count
from pathlib import Path

from ..config import ConfigError


def add(command) -> None:
    copy = command(
        "lessons", _lessons, "Copy the exercise notebooks to where you want to work", settings=False
    )
    copy.add_argument("folder", metavar="DIR")
    copy.add_argument("--seed", default=None, metavar="N", help="an exam variant: other prompts")
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


def _number(name: str, given: str, low: int, high: int) -> int:
    if not given.isdecimal() or len(given) > 12 or not low <= int(given) <= high:
        raise ConfigError(
            f"--{name} {given} is not possible: it must be a whole number from {low} to {high}."
        )
    return int(given)


def _lessons(args) -> int:
    from .. import lesson
    from ..checkpoint import write_atomic

    seed = None if args.seed is None else _number("seed", args.seed, 0, 2**31 - 1)
    folder, books = Path(args.folder), lesson.notebooks()
    if not books:
        raise ConfigError("this installation holds no notebooks: install toymoe again.")
    _no_file(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made ({error.strerror}): name another.") from error
    for book in books:
        target = folder / book.name
        if target.exists():
            print(f"{target} is there already and was left as it is.")
        else:
            write_atomic(target, variant(book.read_text("utf-8"), seed).encode("utf-8"))
            print(target)
    print(f"Open them with `jupyter lab {folder}`, in VS Code, or upload one to Colab.")
    return 0


def _no_file(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: name a folder.")


def variant(text: str, seed: int | None) -> str:
    """A notebook with another seed in its cell `SEED = 0`."""
    if seed is None:
        return text
    book = json.loads(text)
    for cell in book["cells"]:
        cell["source"] = [re.sub(r"^SEED = \d+", f"SEED = {seed}", x) for x in cell["source"]]
    return json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _grade(args) -> int:
    from .. import checks, screen
    from ..grading import marking, sheet

    number = None if args.lesson is None else _number("lesson", args.lesson, 1, max(checks.LESSONS))
    seed = _number("seed", args.seed, 0, 2**31 - 1)
    limits = marking.Limits(seconds=_number("seconds", args.seconds, 1, 3600))
    out = Path(args.out)
    if out.is_dir() or not out.parent.is_dir():
        raise ConfigError(f"--out {out} is not possible: name a file in a folder that exists.")
    paths = [Path(name) for name in args.files]
    if out.resolve() in [path.resolve() for path in paths]:
        raise ConfigError(f"--out {out} is one of the submissions: name another file.")
    folder = Path(args.feedback) if args.feedback else out.with_name(f"{out.stem}_feedback")
    _no_file(folder)
    console, done = screen.Console(markup=False), count(1)
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
    console.print(screen.table(("student", "solved", ""), points))
    console.print(screen.table(("check", "solved", "most often"), sheet.summary(rows)))
    console.print(f"{out}, and a page for each student in {folder}.", soft_wrap=True)
    console.print(sheet.NOT_A_SANDBOX, soft_wrap=True)
    return 0


def _worst(rows) -> str:
    """What a teacher should look at."""
    return next((r.message for r in rows if r.status in ("unreadable", "stopped", "missing")), "")
