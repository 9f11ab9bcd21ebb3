"""Judging a student's function against an oracle, and naming what went wrong.

A `Check` holds the oracle, the inputs to compare on, and the common mistakes as functions: an
answer that agrees with a mistake on every input gets that mistake's message. Everything else gets
the first difference, described.
"""

import copy
import math
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

SOLVED, NOT_YET, WRONG = "solved", "not yet", "wrong"
TOLERANCE = 1e-4  # relative, and a tenth of it absolute


class Mistake(NamedTuple):
    """A wrong answer that people give, and what to tell them."""

    answer: Callable
    says: str


@dataclass(frozen=True)
class Check:
    """What an exercise asks for.

    Args:
      reference: the oracle; it is also what the notebook goes on with.
      cases: a function from a numpy random generator to argument tuples, fixed ones first.
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


class _Raised(NamedTuple):
    kind: str
    text: str


class _Faults(NamedTuple):
    found: list[str]


def judge(check: Check, answer: Any, seed: int = 0) -> Verdict:
    """Compare an answer with the oracle. Never raises, whatever the answer does, but for Ctrl-C.

    Args:
      seed: of the random inputs.
    """
    try:
        return _judge(check, answer, seed)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an answer may return an object that breaks comparisons
        return Verdict(WRONG, f"what it returns cannot be compared ({_line(error)}).")


def _judge(check, answer, seed):
    if answer is None or answer is Ellipsis or answer is NotImplemented:
        return Verdict(NOT_YET, "write the function and run the cell again.")
    if not callable(answer):
        return Verdict(
            WRONG, f"{check.name} is {_kind(answer)}, not a function: was the name used again?"
        )
    cases = check.cases(np.random.default_rng(seed))
    outcomes, first = [], None
    for case in cases:
        expected = check.reference(*copy.deepcopy(case))
        got, complaint = _call(answer, case)
        got = _seen(check, case, expected, got)
        if isinstance(got, _Raised) and got.kind == "NotImplementedError":
            return Verdict(NOT_YET, "write the function and run the cell again.")
        complaint = complaint or _difference(expected, got, check)
        outcomes.append(got)
        if complaint and first is None:
            first = (complaint, case, expected, got)
    if first is None:
        return Verdict(SOLVED, f"right on {len(cases)} inputs." if any(cases) else "right.")
    if all(got is Ellipsis or got is NotImplemented for got in outcomes):
        return Verdict(NOT_YET, "write the function and run the cell again.")
    if check.given and _agrees(check, check.given, cases, outcomes):
        return Verdict(NOT_YET, "the function still does what it did when it was given to you.")
    for mistake in check.mistakes:
        if _agrees(check, mistake.answer, cases, outcomes):
            return Verdict(WRONG, mistake.says)
    return Verdict(WRONG, _explain(check, *first))


def _seen(check, case, expected, got):
    """What is compared of a result: itself, or its faults where there are many right ones."""
    nothing = got is None or got is Ellipsis or got is NotImplemented
    if check.faults is None or nothing or isinstance(got, _Raised):
        return got
    form = _form(expected, got, check)
    return _Faults([form] if form else check.faults(case, _parts(expected, got)))


def _call(answer, case):
    """What the answer returns, and a complaint if it cannot be right for that alone."""
    given = copy.deepcopy(case)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):  # the verdict will say more
            warnings.simplefilter("ignore")
            got = answer(*given)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return _Raised(type(error).__name__, str(error)), _raised(error, case)
    for i, (before, after) in enumerate(zip(case, given, strict=True)):
        if not _same(before, after):
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
    frames = traceback.extract_tb(error.__traceback__)[1:]  # without _call
    if not frames and isinstance(error, TypeError):
        return f"it cannot be called with {len(case)} arguments ({error})."
    where = f" at `{frames[0].line}`" if frames and frames[0].line else ""
    return f"it stops with {_line(error)}{where}."


def _line(error) -> str:
    try:
        text = " ".join(str(error).split())
    except BaseException:  # even that can be broken
        text = ""
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


# --- comparing ----------------------------------------------------------------------------------


def _difference(expected, got, check) -> str:
    """What is wrong with one returned value; empty if nothing is."""
    if isinstance(got, _Raised):
        return got.kind
    if isinstance(got, _Faults):
        return got.found[0] if got.found else ""
    return _form(expected, got, check) or _values(expected, got, check)


def _form(expected, got, check) -> str:
    """What is wrong with the kind and shape of a value."""
    asked = f"asked for: {check.returns}"
    if got is None:
        return f"it returns nothing: end it with `return …`, {check.returns}."
    if isinstance(expected, tuple):
        got = _parts(expected, got)
        if not isinstance(got, tuple):
            return f"it returns {_kind(got)}; {asked}."
        if len(got) != len(expected):
            return f"it returns {len(got)} values; {asked}."
        pairs = enumerate(zip(expected, got, strict=True))
        return next((f"value {i + 1}: {d}" for i, (e, g) in pairs if (d := _form(e, g, check))), "")
    if isinstance(expected, str):
        return "" if isinstance(got, str) else f"it returns {_kind(got)}; {asked}."
    want = np.asarray(expected)
    if want.shape and isinstance(got, list | tuple):
        return f"it returns {_kind(got)}: make it an array with np.array(…)."
    if isinstance(got, dict | set | str | bytes) or callable(got):
        return f"it returns {_kind(got)}; {asked}."
    have = np.asarray(got)
    if have.dtype.kind not in "biufV" and not _is_bfloat(have):
        return f"it returns {_kind(got)} of {have.dtype}; {asked}."
    if have.shape != want.shape:
        return _shapes(want, have, check)
    if (want.dtype == bool) != (have.dtype == bool):
        kind = "True or False" if want.dtype == bool else "numbers"
        return f"it returns {have.dtype}: {check.returns} must be {kind}."
    return ""


def _parts(expected, got):
    """Several values as a tuple, also if they came as a list or an array."""
    several = isinstance(expected, tuple) and (
        isinstance(got, list) or (hasattr(got, "shape") and np.ndim(got) > 0)
    )
    return tuple(got) if several else got


def _values(expected, got, check) -> str:
    """What is wrong with a value of the right form."""
    if isinstance(expected, tuple):
        pairs = enumerate(zip(expected, _parts(expected, got), strict=True))
        return next(
            (f"value {i + 1}: {d}" for i, (e, g) in pairs if (d := _values(e, g, check))), ""
        )
    if isinstance(expected, str):
        return "" if got == expected else f"it gives {got!r:.80}, and {expected!r} is right."
    want, have = np.asarray(expected), np.asarray(got)
    if want.dtype == bool:
        wrong = want != have
        return f"{int(wrong.sum())} of {want.size} entries are wrong" if wrong.any() else ""
    want, have = want.astype(float), have.astype(float)
    if np.isnan(have).any() and not np.isnan(want).any():
        return "it gives nan (not a number): is there a 0 / 0, or log(0) times 0?"
    close = np.isclose(have, want, TOLERANCE, TOLERANCE / 10, equal_nan=True)
    return "" if close.all() else f"{int((~close).sum())} of {want.size} numbers are wrong"


def _is_bfloat(array) -> bool:
    return array.dtype.name == "bfloat16"


def _shapes(want, have, check):
    hint = ""
    if have.shape == want.shape[::-1]:
        hint = " Its axes are swapped."
    elif have.size == want.size:
        hint = " The numbers may be right: look at axes of length 1 (keepdims)."
    elif have.shape == () and want.ndim:
        hint = " It was summed over too much: name the axis."
    return f"it returns {_shape(have)}; asked for: {check.returns}, here {_shape(want)}.{hint}"


def _shape(array) -> str:
    return "a single number" if array.shape == () else f"shape {list(array.shape)}"


def _same(a, b) -> bool:
    """Whether an argument is what it was."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if callable(a):
        return True
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, a.dtype.kind == "f")


def _agrees(check, mistake, cases, outcomes) -> bool:
    """Whether a mistaken function gives what the answer gave, in every case."""
    for case, got in zip(cases, outcomes, strict=True):
        expected = check.reference(*copy.deepcopy(case))
        theirs = _seen(check, case, expected, _call(mistake, case)[0])
        if isinstance(theirs, _Raised) or isinstance(got, _Raised):
            if not (isinstance(theirs, _Raised) and isinstance(got, _Raised)):
                return False
            if theirs.kind != got.kind:
                return False
        elif theirs is None or got is None or isinstance(got, _Faults):
            if theirs != got:
                return False
        elif _difference(theirs, got, check):
            return False
    return True


# --- explaining ---------------------------------------------------------------------------------


def _explain(check, complaint, case, expected, got) -> str:
    if isinstance(got, _Raised) or not complaint.endswith(("are wrong",)):
        return complaint
    if isinstance(expected, tuple):  # of several values, which may differ in shape
        return f"{complaint}. Compare with a small case that you work out by hand."
    want, have = np.asarray(expected, float), np.asarray(got, float)
    return f"{complaint}{_pattern(want, have, check)}. {_example(check, case, expected, got)}"


def _pattern(want, have, check) -> str:
    """A simple relation between the two, if there is one."""

    def close(a, b):
        return np.allclose(a, b, TOLERANCE, TOLERANCE / 10)

    varied = want.size > 1 or want.all()
    if not varied or close(want, 0):
        return ""
    if close(have, 0):
        return ": it gives 0 everywhere"
    if want.ndim == 2 and want.shape[0] == want.shape[1] and close(have, want.T):
        return ": its axes are swapped"
    if close(have, 1 - want):
        return ": it gives 1 minus the right answer"
    here = np.abs(want) > 1e-6
    ratio = have[here] / want[here]
    if np.isfinite(ratio).all() and close(ratio, ratio[0]) and close(have[~here], 0):
        known = {1 / math.log(2): " (bits instead of nats: use the natural logarithm)", -1: ""}
        hint = next((text for value, text in known.items() if close(ratio[0], value)), "")
        return f": it is {ratio[0]:.4g} times the right answer{hint}"
    if want.size > 1 and close(have - want, (have - want).ravel()[0]):
        return f": it is the right answer plus {(have - want).ravel()[0]:.4g}"
    return ""


def _example(check, case, expected, got) -> str:
    """A case in numbers, if it is small."""
    want, have = np.asarray(expected), np.asarray(got)
    if want.size > 12:
        return "Compare with a small case that you work out by hand."
    arguments = ", ".join(_short(x) for x in case)
    if len(arguments) > 160:
        return f"One case gives {_short(have)}, and {_short(want)} is right."
    return f"{check.name}({arguments}) gives {_short(have)}, and {_short(want)} is right."


def _short(value) -> str:
    if callable(value):
        return getattr(value, "__name__", "a function")
    if isinstance(value, dict):
        return "{" + ", ".join(value) + "}"
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = array.round(4)
    return str(array.tolist())


def _kind(value) -> str:
    name = type(value).__name__
    return ("an " if name[0].lower() in "aeiou" else "a ") + name
