"""What is said about a wrong answer that is no known mistake: a relation, and the smallest case."""

import math
from typing import Any, NamedTuple

import numpy as np

from .comparing import TOLERANCE, agrees, parts

LONGEST = 200  # characters of the arguments of a case, or of its result


class Trial(NamedTuple):
    """One case, what the oracle and the answer make of it, and what is wrong with that."""

    case: tuple
    expected: Any
    got: Any
    complaint: str  # empty if nothing is wrong
    of_numbers: bool = False  # whether the form is right and only numbers are wrong


def explain(name: str, trials: list[Trial]) -> str:
    """The complaint of the smallest wrong case; of a wrong form rather than of wrong numbers."""
    wrong = [trial for trial in trials if trial.complaint]
    nothing = [trial for trial in wrong if trial.got is None]
    formal = [trial for trial in wrong if not trial.of_numbers]
    chosen = min(nothing or formal or wrong, key=lambda trial: len(_arguments(trial.case)))
    call = _call(name, chosen.case)
    if chosen.of_numbers:
        end = "" if chosen.complaint.endswith("?") else "."
        return f"{chosen.complaint}{_relation(trials)}{end} {_example(call, chosen)}"
    always = len(formal) == len(trials)
    return chosen.complaint if always else f"{chosen.complaint} (This is {call}.)"


# --- relations ----------------------------------------------------------------------------------


def _relation(trials) -> str:
    """A simple relation of right and wrong that holds on all of several inputs, if there is one."""
    if not all(trial.of_numbers or not trial.complaint for trial in trials):
        return ""
    pairs = [(trial.expected, parts(trial.expected, trial.got)) for trial in trials]
    if isinstance(pairs[0][0], tuple):  # of several values, the first that is ever wrong
        at = next(
            i
            for i in range(len(pairs[0][0]))
            if not all(agrees(want[i], have[i]).all() for want, have in pairs)
        )
        pairs = [(want[at], have[at]) for want, have in pairs]
    truth = np.asarray(pairs[0][0]).dtype == bool
    want, have = (
        np.concatenate([np.ravel(pair[side]).astype(float) for pair in pairs]) for side in (0, 1)
    )
    if sum(np.any(np.asarray(right, float) != 0) for right, _ in pairs) < 2:
        return ""
    if np.ptp(want) < TOLERANCE or not np.isfinite(want).all() or not np.isfinite(have).all():
        return ""
    if _close(have, 0):
        return ": it gives " + ("False everywhere" if truth else "0 everywhere")
    if _close(have, 1 - want):
        return ": True and False are exchanged" if truth else ": it gives 1 minus the right answer"
    if truth:
        return ": it gives True everywhere" if _close(have, 1) else ""
    here = np.abs(want) > 1e-6
    ratio = have[here] / want[here]
    if _close(ratio, ratio[0]) and _close(have[~here], 0):
        known = {1 / math.log(2): " (bits instead of nats: use the natural logarithm)"}
        hint = next((text for value, text in known.items() if _close(ratio[0], value)), "")
        return f": it is {ratio[0]:.4g} times the right answer{hint}"
    if _close(have - want, have[0] - want[0]):
        return f": it is the right answer plus {have[0] - want[0]:.4g}"
    return ""


def _close(a, b) -> bool:
    return np.allclose(a, b, TOLERANCE, TOLERANCE / 10)


# --- cases --------------------------------------------------------------------------------------


def _example(call, trial) -> str:
    """What a case gives and should give: all of it, or the first entry that is wrong."""
    want, have = trial.expected, parts(trial.expected, trial.got)
    for digits in (4, 6, 9):
        wrong, right = _text(have, digits), _text(want, digits)
        if wrong != right:
            break
    if max(len(wrong), len(right)) <= LONGEST:
        return f"{call} gives {wrong}, and {right} is right."
    value = ""
    if isinstance(want, tuple):
        i = next(i for i in range(len(want)) if not agrees(want[i], have[i]).all())
        want, have, value = want[i], have[i], f"value {i + 1}, "
    at = np.argwhere(~agrees(want, have))[0].tolist()
    wrong, right = (_text(np.asarray(x)[tuple(at)], 6) for x in (have, want))
    return f"{call} gives {wrong} at {value}{at}, where {right} is right."


def _call(name, case) -> str:
    """A case as one would write it; arrays by their shapes where it would be too long."""
    written = _arguments(case)
    if len(written) > LONGEST:
        written = ", ".join(_shape(x) for x in case)
    return f"{name}({written})"


def _arguments(case) -> str:
    return ", ".join(_text(x, 4) for x in case)


def _text(value, digits: int) -> str:
    if hasattr(value, "shape"):
        array = np.asarray(value)
        value = (array if array.dtype.kind in "biu" else array.astype(float)).tolist()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_text(x, digits) for x in value)}]"
    if isinstance(value, float):
        return str(round(value, digits) if abs(value) >= 0.1 else float(f"{value:.{digits}g}"))
    return str(value)


def _shape(value) -> str:
    array = np.asarray(value) if not isinstance(value, list) else np.empty(len(value))
    return f"an array {list(array.shape)}" if array.ndim else _text(value, 4)
