"""What is wrong with a returned value: with its form, or with its numbers."""

from typing import Any

import numpy as np

TOLERANCE = 1e-4  # relative, and a tenth of it absolute


def form(expected: Any, got: Any, returns: str) -> str:
    """What is wrong with the kind and shape of a value; empty if nothing is.

    Args:
      returns: in words, what was asked for.
    """
    asked = f"asked for: {returns}"
    if got is None:
        return f"it returns nothing: end it with `return …`, {returns}."
    if isinstance(expected, tuple):
        got = parts(expected, got)
        if not isinstance(got, tuple):
            return f"it returns {kind(got)}; {asked}."
        if len(got) != len(expected):
            return f"it returns {len(got)} values; {asked}."
        return _of_values(form, expected, got, returns)
    if isinstance(expected, str):
        return "" if isinstance(got, str) else f"it returns {kind(got)}; {asked}."
    want = np.asarray(expected)
    if want.shape and isinstance(got, list | tuple):
        return f"it returns {kind(got)}: make it an array with np.array(…)."
    if isinstance(got, dict | set | str | bytes) or callable(got):
        return f"it returns {kind(got)}; {asked}."
    have = np.asarray(got)
    if have.dtype.kind not in "biuf" and have.dtype.name != "bfloat16":
        return f"it returns {kind(got)} of {have.dtype}; {asked}."
    if have.shape != want.shape:
        return f"it returns {_shape(have)}; {asked}, here {_shape(want)}.{_hint(want, have)}"
    if (want.dtype == bool) != (have.dtype == bool):
        what = "True or False" if want.dtype == bool else "numbers"
        return f"it returns {have.dtype}: {returns} must be {what}."
    return ""


def whole(expected: Any, got: Any, returns: str) -> str:
    """What is wrong with a value of the right form where whole numbers are asked for."""
    if isinstance(expected, tuple):
        return _of_values(whole, expected, parts(expected, got), returns)
    want, have = np.asarray(expected), np.asarray(got)
    if want.dtype.kind not in "iu" or have.dtype.kind in "iu":
        return ""
    how = "begin with np.zeros(…, int), or end with .astype(int)" if want.shape else "use int(…)"
    return (
        f"it returns {have.dtype}, which cannot be used as an index; asked for: {returns}. Make "
        f"{'them' if want.shape else 'it'} whole: {how}."
    )


def values(expected: Any, got: Any, returns: str = "") -> str:
    """What is wrong with the numbers of a value of the right form."""
    if isinstance(expected, tuple):
        return _of_values(values, expected, parts(expected, got), returns)
    wrong = ~agrees(expected, got)
    if not wrong.any():
        return ""
    want, have = np.asarray(expected), np.asarray(got)
    if want.dtype != bool and np.isnan(have.astype(float)).any() and not np.isnan(want).any():
        return "it gives nan (not a number): is there a 0 / 0, or log(0) times 0?"
    if want.size == 1:
        return "it is wrong"
    what = "entries" if want.dtype == bool else "numbers"
    return f"{int(wrong.sum())} of {want.size} {what} are wrong"


def agrees(expected: Any, got: Any) -> np.ndarray:
    """Entry by entry, whether two values of the same form agree within rounding."""
    want, have = np.asarray(expected), np.asarray(got)
    if want.dtype == bool:
        return want == have
    want, have = want.astype(float), have.astype(float)
    return np.isclose(have, want, TOLERANCE, TOLERANCE / 10, equal_nan=True)


def parts(expected: Any, got: Any) -> Any:
    """Several values as a tuple, also if they came as a list or an array."""
    several = isinstance(expected, tuple) and (
        isinstance(got, list) or (hasattr(got, "shape") and np.ndim(got) > 0)
    )
    return tuple(got) if several else got


def same(a: Any, b: Any) -> bool:
    """Whether an argument is what it was."""
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, a.dtype.kind == "f")


def kind(value: Any) -> str:
    """The name of a value's type, with its article."""
    name = type(value).__name__
    return ("an " if name[0].lower() in "aeiou" else "a ") + name


def _of_values(compare, expected, got, returns) -> str:
    """What is wrong with the first of several values that is wrong."""
    for i, (e, g) in enumerate(zip(expected, got, strict=True)):
        if said := compare(e, g, returns):
            return f"value {i + 1}: {said}"
    return ""


def _shape(array) -> str:
    return "a single number" if array.shape == () else f"shape {list(array.shape)}"


def _hint(want, have) -> str:
    if have.shape == want.shape[::-1]:
        return " Its axes are swapped."
    if have.size == want.size:
        return " The numbers may be right: look at axes of length 1 (keepdims)."
    if have.shape == () and want.ndim:
        return " It was summed over too much: name the axis."
    return ""
