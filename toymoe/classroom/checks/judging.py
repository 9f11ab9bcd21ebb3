"""Judging a student's function against an oracle, and naming what went wrong.

A `Check` holds the oracle, the inputs to compare on, and the common mistakes as functions: an
answer that agrees with a mistake on every input gets that mistake's message. Everything else gets
the smallest case that differs (`explaining`), found by comparing results (`comparing`).
"""

import copy
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .comparing import form, kind, parts, same, values, whole
from .explaining import Trial, explain

SOLVED, NOT_YET, WRONG = "solved", "not yet", "wrong"
_UNWRITTEN = "write the function and run the cell again."


class Mistake(NamedTuple):
    """A wrong answer that people give, and what to tell them."""

    answer: Callable
    says: str


@dataclass(frozen=True)
class Check:
    """What an exercise asks for.

    Args:
      reference: the oracle; it is also what the notebook goes on with.
      cases: a function from a numpy random generator to argument tuples. What tells a wrong answer
        apart is among them whatever the generator draws.
      returns: in words, such as "an array [G] of shares".
      mistakes: common ones, each different from the oracle on some case.
      given: what stands in the exercise, if that can be run: still giving the same is "not yet".
      faults: for exercises that have many right answers: what is wrong, in words, with a result
        of the right form, given the arguments and the result; nothing if it is right.
    """

    reference: Callable
    cases: Callable[[np.random.Generator], list[tuple]]
    returns: str
    mistakes: tuple[Mistake, ...] = ()
    given: Callable | None = None
    faults: Callable[[tuple, Any], list[str]] | None = None

    @property
    def name(self) -> str:
        """The name of the function asked for."""
        return self.reference.__name__


class Verdict(NamedTuple):
    """The status is SOLVED, NOT_YET or WRONG; the message is one line or a few."""

    status: str
    message: str


class Raised(NamedTuple):
    """That an answer raised an exception, and the name of its kind."""

    kind: str


class _Faults(NamedTuple):
    found: list[str]


def judge(check: Check, answer: Any, seed: int = 0, run: Callable | None = None) -> Verdict:
    """Compare an answer with the oracle. Never raises, whatever the answer does, but for Ctrl-C.

    Args:
      seed: of the random inputs.
      run: in place of `call`, where the answer has run in another process.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):  # the verdict will say more
            warnings.simplefilter("ignore")
            return _judge(check, answer, seed, run or call)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an answer may return an object that breaks comparisons
        return Verdict(WRONG, f"what it returns cannot be compared ({one_line(error)}).")


def _judge(check, answer, seed, run):
    if answer is None or answer is Ellipsis or answer is NotImplemented:
        return Verdict(NOT_YET, _UNWRITTEN)
    if not callable(answer):
        return Verdict(
            WRONG, f"{check.name} is {kind(answer)}, not a function: was the name used again?"
        )
    trials = []
    for case in check.cases(np.random.default_rng(seed)):
        trial = _try(check, answer, case, run)
        if isinstance(trial.got, Raised) and trial.got.kind == "NotImplementedError":
            return Verdict(NOT_YET, _UNWRITTEN)
        trials.append(trial)
    if not any(trial.complaint for trial in trials):
        inputs = any(trial.case for trial in trials)
        return Verdict(SOLVED, f"right on {len(trials)} inputs." if inputs else "right.")
    if all(trial.got is Ellipsis or trial.got is NotImplemented for trial in trials):
        return Verdict(NOT_YET, _UNWRITTEN)
    if check.given and _does_the_same(check, check.given, trials):
        return Verdict(NOT_YET, "the function still does what it did when it was given to you.")
    for mistake in check.mistakes:
        if _does_the_same(check, mistake.answer, trials):
            return Verdict(WRONG, mistake.says)
    return Verdict(WRONG, explain(check.name, trials))


def _try(check, answer, case, run) -> Trial:
    """One case: what the oracle and the answer make of it, and what is wrong with that."""
    expected = check.reference(*copy.deepcopy(case))
    got, complaint = run(answer, case)
    got = _seen(check, case, expected, got)
    if complaint:
        return Trial(case, expected, got, complaint)
    if isinstance(got, _Faults):
        return Trial(case, expected, got, got.found[0] if got.found else "")
    if formal := form(expected, got, check.returns) or whole(expected, got, check.returns):
        return Trial(case, expected, got, formal)
    return Trial(case, expected, got, values(expected, got), True)


def _seen(check, case, expected, got):
    """What is compared of a result: itself, or its faults where there are many right ones."""
    nothing = got is None or got is Ellipsis or got is NotImplemented
    if check.faults is None or nothing or isinstance(got, Raised):
        return got
    formal = form(expected, got, check.returns) or whole(expected, got, check.returns)
    return _Faults([formal] if formal else check.faults(case, parts(expected, got)))


def _does_the_same(check, mistake, trials) -> bool:
    """Whether a mistaken function gives what the answer gave, in every case."""
    for trial in trials:
        theirs = _seen(check, trial.case, trial.expected, call(mistake, trial.case)[0])
        if isinstance(theirs, Raised | _Faults) or isinstance(trial.got, Raised | _Faults):
            if type(theirs) is not type(trial.got) or theirs[0] != trial.got[0]:
                return False
        elif trial.got is None or form(theirs, trial.got, check.returns):
            return False
        elif values(theirs, trial.got):
            return False
    return True


def call(answer: Callable, case: tuple) -> tuple[Any, str]:
    """What the answer returns or `Raised`, and a complaint if it cannot be right for that alone."""
    given = copy.deepcopy(case)
    try:
        got = answer(*given)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Raised(type(error).__name__), _raised(error, case)
    for i, (before, after) in enumerate(zip(case, given, strict=True)):
        if not same(before, after):
            return got, (
                f"it changes its input: argument {i + 1} was different after the call. Compute "
                "something new (x = x / 2) instead of changing in place (x /= 2, x[i] = …)."
            )
    return got, ""


def _raised(error, case):
    if isinstance(error, MemoryError):
        return "it needs more memory than there is."
    if isinstance(error, RecursionError):
        return "it calls itself without end."
    if isinstance(error, SystemExit):
        return "it calls exit(): return a value instead."
    frames = traceback.extract_tb(error.__traceback__)[1:]  # without `call`
    if not frames and isinstance(error, TypeError):
        return f"it cannot be called with {len(case)} arguments ({error})."
    where = f" at `{frames[0].line}`" if frames and frames[0].line else ""
    return f"it stops with {one_line(error)}{where}."


def one_line(error: BaseException) -> str:
    """An exception as a line."""
    try:
        text = " ".join(str(error).split())
    except BaseException:  # even that can be broken
        text = ""
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
