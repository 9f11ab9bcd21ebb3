"""What students call in the lessons: ``check`` for functions, ``predict`` for guesses.

Both report and never raise. A check gives back a function that works, the student's own if it is
right and the reference if not, so that the rest of a notebook runs either way.
"""

import difflib
from importlib import import_module
from typing import Any

from .judging import SOLVED, Check, Mistake, Verdict, judge

__all__ = [
    "SOLVED",
    "Check",
    "Mistake",
    "Verdict",
    "check",
    "compare",
    "judge",
    "lesson_checks",
    "predict",
]

LESSONS = (0, 1, 2, 3, 4, 5, 6, 7, 8)

_guesses: dict[str, Any] = {}
_SIGNS = {"solved": "✔", "not yet": "…", "wrong": "✘"}


def lesson_checks(lesson: int) -> dict[str, Check]:
    """The checks of a lesson, by the name of the function, in the order of the exercises."""
    module = import_module(f".lesson{lesson}", __name__)
    return {one.name: one for one in module.CHECKS}


def find(name: str) -> Check | None:
    """The check of a function's name in any lesson."""
    return next((c[name] for n in LESSONS if name in (c := lesson_checks(n))), None)


def check(name: str, answer: Any) -> Any:
    """Report on a student's function; give back a function to go on with.

    Example::

        entropy = check("entropy", entropy)
    """
    found = find(name) if isinstance(name, str) else None
    if found is None:
        known = [one for n in LESSONS for one in lesson_checks(n)]
        near = difflib.get_close_matches(str(name), known, 1, 0.0)[0]
        print(f"✘ there is no check called {name!r}: did you mean {near!r}?")
        return answer
    verdict = judge(found, answer)
    print(f"{_SIGNS[verdict.status]} {name}: {_tail(verdict)}")
    return answer if verdict.status == SOLVED else found.reference


def _tail(verdict: Verdict) -> str:
    if verdict.status == SOLVED:
        return f"solved, {verdict.message}"
    return f"{verdict.status}: {verdict.message} (Until then the reference takes its place.)"


def predict(name: str, guess: Any, low: float = 0.0, high: float = 1.0) -> None:
    """Note a guess, a number from ``low`` to ``high``, before the measurement. See ``compare``."""
    _guesses.pop(name, None)
    if guess is None or guess is Ellipsis:
        print(f"… {name}: not yet: write down a number from {low:g} to {high:g} before you go on.")
        return
    try:
        number = float(guess)
    except (TypeError, ValueError):
        number = float("nan")
    if not low <= number <= high:
        print(f"✘ {name}: write a number from {low:g} to {high:g}; this is {guess!r:.60}.")
        return
    _guesses[name] = number
    print(f"✔ {name}: noted, {number:g}.")


def compare(name: str, measured: float) -> None:
    """Put the measured number beside the guess."""
    guess = _guesses.get(name)
    said = "you made no prediction" if guess is None else f"you predicted {guess:.3g}"
    print(f"{name}: {said}, measured {float(measured):.3g}")
