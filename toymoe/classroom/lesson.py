"""What every lesson begins with, the table of lessons, and where their notebooks lie."""

import json
import math
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from ..config import ConfigError
from ..start import start_jax

HERE = Path(__file__).parent


class Lesson(NamedTuple):
    """A row of the table of lessons."""

    title: str
    minutes: int  # of a student's time
    needs: str  # what one should know before


LESSONS = {
    1: Lesson("A small world with topics and hazards", 50, "Python and numpy"),
    2: Lesson("Build a mixture-of-experts layer", 55, "lesson 1; a product of matrices"),
    3: Lesson("Watch routing specialise", 55, "lessons 1 and 2"),
    4: Lesson("Teach it to refuse", 55, "lessons 1 and 3"),
    5: Lesson("Where does refusal live?", 55, "lessons 2 and 4"),
    6: Lesson("Edit a few experts, keep the route", 60, "lessons 2 and 4"),
    7: Lesson("Defend it", 55, "lessons 2 and 6"),
    8: Lesson("Is it real?", 55, "lessons 3 to 5"),
}


def seconds() -> dict[int, float]:
    """How long a first run of every cell took, by lesson, where the notebooks were built.

    Raises:
      ConfigError: the file that says so is damaged.
    """
    path = HERE / "seconds.json"
    try:
        known = json.loads(path.read_bytes()) if path.is_file() else {}
        return {int(number): float(value) for number, value in known.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged: install toymoe again.") from error


def expected(slower: float) -> list[tuple[int, str, int, int | None]]:
    """Number, title, minutes of a student's time and seconds of computing of every lesson.

    Args:
      slower: how many times longer compiling takes here than where the seconds were measured.
    """
    took = seconds()
    return [
        (n, one.title, one.minutes, rounded(took[n] * slower) if n in took else None)
        for n, one in LESSONS.items()
    ]


def notebooks() -> list[Path]:
    """The exercise notebooks, in order: in an installed package, or in the repository."""
    for folder in (HERE / "exercises", HERE.parents[1] / "lessons" / "exercises"):
        if found := sorted(folder.glob("*.ipynb")):
            return found
    return []


def begin(number: int) -> None:
    """Make a notebook ready: JAX on the processor, compiled programs kept, figures shown.

    Says which versions run, and how long the lesson takes.
    """
    start_jax()
    if "IPython" in sys.modules:
        _show_figures()
    lesson, took = LESSONS[number], seconds().get(number)
    computing = "" if took is None else f", of which about {rounded(took)} s of computing"
    print(f"Lesson {number} · {lesson.title} · about {lesson.minutes} minutes{computing}")
    found = ", ".join(f"{name} {metadata.version(name)}" for name in ("toymoe", "jax", "numpy"))
    print(f"Python {platform.python_version()}, {found}.")


def rounded(seconds: float) -> int:
    """To the next multiple of five."""
    return 5 * max(1, math.ceil(seconds / 5))


def _show_figures() -> None:
    """Let Jupyter draw a figure that stands last in a cell, in every front end alike."""
    from IPython import get_ipython

    from ..pages import style

    shell = get_ipython()
    if shell is not None:
        shell.display_formatter.formatters["image/png"].for_type(style.Figure, style.png)
