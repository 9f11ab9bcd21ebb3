"""What every lesson begins with, the table of lessons, and where their notebooks lie."""

import json
import math
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from ..config import ConfigError
from ..start import start_jax
from . import notebook

HERE = Path(__file__).parent


class Lesson(NamedTuple):
    """A row of the table of lessons."""

    title: str
    needs: str  # what one should know before


LESSONS = {
    0: Lesson("From words to logits in twenty minutes", "Python and numpy"),
    1: Lesson("A small world with topics and hazards", "lesson 0"),
    2: Lesson("Build a mixture-of-experts layer", "lessons 0 and 1; a product of matrices"),
    3: Lesson("Watch routing specialise", "lessons 1 and 2"),
    4: Lesson("Teach it to refuse", "lessons 1 and 3"),
    5: Lesson("Where does refusal live?", "lessons 2 and 4"),
    6: Lesson("Edit a few experts, keep the route", "lessons 2 and 4"),
    7: Lesson("Defend it", "lessons 2 and 6"),
    8: Lesson("Is it real?", "lessons 3 to 5"),
}

WORDS_A_MINUTE = 150  # slowly: it is technical prose
RULE = (
    f"Time: the prose at {WORDS_A_MINUTE} words a minute (without the hints), the minutes in the "
    "titles of the exercises, and the first run of every cell, rounded up to five minutes."
)
_FOLDED = re.compile(r"<details>.*?</details>", re.DOTALL)
_EXERCISE = re.compile(r"^## Exercise \d+\.\d+ · .* · (\d+) minutes\)\*$", re.MULTILINE)


class Effort(NamedTuple):
    """What a lesson asks of a student."""

    words: int  # of prose, without hints
    exercises: int
    exercise_minutes: int  # by their titles
    minutes: int  # in all, by the `RULE`


def effort(number: int) -> Effort:
    """What a lesson asks of a student, counted in its exercise notebook.

    Raises:
      ConfigError: there is no such notebook.
    """
    for path in notebooks():
        if path.name.startswith(f"{number:02}_"):
            cells = notebook.read_ipynb(path.read_text("utf-8"))
            prose = "\n".join(cell.source for cell in cells if cell.kind == "markdown")
            return effort_of(prose, seconds().get(number, 0.0))
    raise ConfigError(f"there is no notebook of lesson {number} here: install toymoe again.")


def effort_of(prose: str, computing: float) -> Effort:
    """What the prose of a lesson asks of a student, and so many seconds of computing."""
    words = sum(any(map(str.isalnum, x)) for x in _FOLDED.sub("", prose).split())
    exercises = [int(minutes) for minutes in _EXERCISE.findall(prose)]
    total = words / WORDS_A_MINUTE + sum(exercises) + computing / 60
    return Effort(words, len(exercises), sum(exercises), rounded(total))


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
        (n, one.title, effort(n).minutes, rounded(took[n] * slower) if n in took else None)
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
    print(label(number))
    found = ", ".join(f"{name} {metadata.version(name)}" for name in ("toymoe", "jax", "numpy"))
    print(f"Python {platform.python_version()}, {found}.")


def label(number: int) -> str:
    """A lesson's first line: its title, and how long it takes."""
    took = seconds().get(number)
    computing = "" if took is None else f", of which about {rounded(took)} s of computing"
    title, minutes = LESSONS[number].title, effort(number).minutes
    return f"Lesson {number} · {title} · about {minutes} minutes{computing}"


def rounded(time: float) -> int:
    """Up to a multiple of five, which five is the least of."""
    return 5 * max(1, math.ceil(time / 5))


def _show_figures() -> None:
    """Let Jupyter draw a figure that stands last in a cell, in every front end alike."""
    from IPython import get_ipython

    from ..pages import style

    shell = get_ipython()
    if shell is not None:
        shell.display_formatter.formatters["image/png"].for_type(style.Figure, style.png)
