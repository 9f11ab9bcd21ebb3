"""What goes between processes comes out as it went in; verdicts are those of one process."""

import json
from enum import IntEnum

import jax.numpy as jnp
import numpy as np
import pytest

from toymoe.classroom import checks
from toymoe.classroom.grading import channel, marking, task, values

EVERY = [(n, name) for n in checks.LESSONS for name in checks.lesson_checks(n)]


def there_and_back(value):
    return values.unpack(json.loads(json.dumps(values.pack(value))))


def alike(a, b):
    """Whether two values are the same, with their types."""
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return type(b) is dict and a.keys() == b.keys() and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, np.ndarray | np.generic):
        same = type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape
        return same and a.tobytes() == b.tobytes()
    return type(a) is type(b) and (a == b or a != a)


@pytest.mark.parametrize(
    "value",
    [
        *(None, ..., NotImplemented, True, 3, -1.5, float("nan"), float("inf"), "ä\udcff", [], ()),
        (1, [2.0, (True, None)]),
        {"a": 1, (1, 2): [3]},
        *(np.float64(2), np.int32(3), np.True_, np.float32("nan")),
        *(np.zeros((0, 3)), np.arange(6).reshape(2, 3), np.eye(3, dtype=bool).T, np.array(5)[None]),
        np.array([1 + 2j]),
        np.array(["ab", "c"]),
    ],
)
def test_what_functions_return_comes_back_the_same(value):
    assert alike(value, there_and_back(value)) and not alike(value, there_and_back([value, 1]))


class Two(IntEnum):
    TWO = 2


def test_what_numpy_takes_for_an_array_comes_back_as_one():
    for value, array in (
        (jnp.arange(3.0), np.arange(3, dtype=np.float32)),
        (jnp.arange(3, dtype=jnp.bfloat16), np.arange(3, dtype=np.float32)),
        (range(3), np.arange(3)),
        (Two.TWO, np.int64(2)),
        (np.asfortranarray(np.arange(6).reshape(2, 3)), np.arange(6).reshape(2, 3)),
    ):
        assert alike(array, there_and_back(value))


@pytest.mark.parametrize(
    "value", [{1}, b"x", len, int, object(), 10**30, iter([]), (c for c in "")]
)
def test_of_what_no_exercise_asks_for_the_name_is_kept(value):
    back = there_and_back(value)
    assert type(back).__name__ == type(value).__name__ and callable(back) == callable(value)


@pytest.mark.parametrize(
    "value",
    [np.zeros(200_000), np.broadcast_to(0.0, (10**6, 10**6)), "x" * 2 * 10**6, [0] * 200_000],
)
def test_too_much_is_refused_before_it_is_written(value):
    with pytest.raises(values.TooLarge):
        values.pack(value)
    assert values.pack(np.zeros(100_000)) and values.pack([0] * 50_000)


@pytest.mark.parametrize(
    "packed",
    [
        {"array": ["|O", [1], "AAAAAAAAAAA="]},
        {"array": ["<f8", [10**9], ""]},
        {"array": ["<f8", [2], "AAAA"]},
        {"array": ["<f8", "x", ""]},
        {"array": 3},
        {"constant": "exit"},
        {"tuple": 3},
        {"odd": 3},
        {},
        {"array": [], "tuple": []},
    ],
)
def test_nothing_else_is_read(packed):
    with pytest.raises((ValueError, TypeError, LookupError)):
        values.unpack(packed)


@pytest.mark.parametrize("lesson, name", EVERY)
def test_verdicts_are_those_of_one_process(lesson, name):
    check = checks.lesson_checks(lesson)[name]
    cases = check.cases(np.random.default_rng(3))
    inputs = [values.pack(case) for case in cases]
    assert alike(cases, [values.unpack(json.loads(json.dumps(one))) for one in inputs])
    marker = marking._Marker(3, marking.Limits(), 1)
    answers = [check.reference, *(mistake.answer for mistake in check.mistakes[:2])]
    for answer in [*answers, lambda *_: None, lambda *_: 1 / 0, lambda *_: {}]:
        outcomes = [task._outcome(answer, case) for case in cases]
        said = json.loads(json.dumps({"outcomes": outcomes}))
        verdict = marker._verdict(check, inputs, channel.Reply("done", said))
        assert verdict == checks.judge(check, answer, 3)
