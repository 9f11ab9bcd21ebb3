"""A line of the sheet, and whose it is."""

import os
from pathlib import Path
from typing import NamedTuple

from .. import lesson


class Row(NamedTuple):
    """A line of the sheet, in text that a terminal only shows."""

    student: str
    file: str
    lesson: int
    check: str
    mark: int  # 1 or 0
    status: str  # solved, not yet, wrong, missing, unreadable, stopped, void
    message: str
    seconds: float


def plain(text: str) -> str:
    """On one line, and what no printer shows (control characters, half of a pair) as an escape."""
    joined = " ".join(str(text).split()) if not str(text).isprintable() else str(text)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in joined)


def students(paths: list[Path]) -> list[str]:
    """Whose each submission is: the end of its path below the folder that all share.

    A lone file keeps its folder's name; one that is called as a lesson's notebook is its folder's.
    Others that would have the same name are numbered.
    """
    whole = [Path(os.path.abspath(path)) for path in paths]
    shared = _shared(set(whole))
    notebooks = {path.stem for path in lesson.notebooks()}
    given: list[str] = []
    owners: dict[str, list[Path]] = {}
    for path in whole:
        stem, below = path.name.split(".")[0] or path.name, path.parent.relative_to(shared)
        if stem in notebooks:
            key, name = path.parent, below if below.name else Path(path.parent.name)
        else:
            key, name = path, below / stem
        same = owners.setdefault(plain(name.as_posix()), [])
        if key not in same:
            same.append(key)
        number = same.index(key) + 1
        given.append(plain(name.as_posix()) + (f" ({number})" if number > 1 else ""))
    return given


def _shared(paths: set[Path]) -> Path:
    if len(paths) == 1:
        return next(iter(paths)).parent.parent
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:  # on several drives, or no paths at all
        return Path()
