"""Checks judge: the solution passes, what is not done is not yet, every wrong answer is named."""

import sys

import numpy as np
import pytest

from lessons import build
from toymoe.classroom import checks, lesson
from toymoe.classroom.checks import judge
from toymoe.classroom.checks.judging import NOT_YET, SOLVED, WRONG

pytestmark = pytest.mark.core

ALL = [(n, name) for n in checks.LESSONS for name in checks.lesson_checks(n)]


def of(number, name):
    return checks.lesson_checks(number)[name]


def unsolved(*_):
    raise NotImplementedError("your turn")


def test_every_lesson_has_its_checks_and_none_is_asked_for_twice():
    assert list(checks.LESSONS) == [n for n in lesson.LESSONS if n in checks.LESSONS]
    names = [name for _, name in ALL]
    assert len(set(names)) == len(names)
    for number in checks.LESSONS:
        (path,) = build.HERE.glob(f"{number:02}_*.py")
        for name in checks.lesson_checks(number):
            assert f'{name} = check("{name}", {name})' in path.read_text("utf-8")


@pytest.mark.parametrize("number, name", ALL)
def test_the_reference_is_right_and_every_mistake_is_told_apart(number, name):
    check = of(number, name)
    assert judge(check, check.reference) == judge(check, check.reference)
    assert judge(check, check.reference).status == SOLVED
    assert len(check.mistakes) >= 4
    assert len({mistake.says for mistake in check.mistakes}) == len(check.mistakes)
    for mistake in check.mistakes:
        for seed in (0, 1, 2):
            assert judge(check, mistake.answer, seed) == (WRONG, mistake.says)


@pytest.mark.parametrize("number, name", ALL)
def test_what_is_not_done_is_not_yet(number, name):
    check = of(number, name)
    for answer in (unsolved, None, ..., lambda *_: ..., check.given or unsolved):
        assert judge(check, answer).status == NOT_YET


@pytest.mark.parametrize("number, name", ALL)
def test_whatever_an_answer_does_it_is_wrong_with_a_reason(number, name):
    check, seen = of(number, name), set()

    def ends(*_):
        sys.exit(0)

    def forever(*args):
        return forever(*args)

    def touches(*args):
        result = check.reference(*args)
        for x in args:
            if isinstance(x, np.ndarray) and x.size:
                x[...] = ~x if x.dtype == bool else x + 1
            elif isinstance(x, list) and x:
                x.pop()
        return result

    class Odd:
        def __array__(self, *_, **__):
            raise RuntimeError("no")

        def __eq__(self, _):
            raise RuntimeError("no")

    answers = {
        "a number": 3,
        "None": lambda *_: None,
        "text": lambda *_: "right",
        "a dict": lambda *_: {},
        "an object": lambda *_: Odd(),
        "nan": lambda *a: _nan(check.reference(*a)),
        "another shape": lambda *a: _wider(check.reference(*a)),
        "an exception": lambda *_: 1 / 0,
        "a broken exception": lambda *_: (_ for _ in ()).throw(_Broken()),
        "an exit": ends,
        "recursion": forever,
        "no arguments": lambda: 0,
        "complex": lambda *a: _complex(check.reference(*a)),
    }
    if any(isinstance(x, np.ndarray | list) for x in check.cases(np.random.default_rng(0))[0]):
        answers["input changed"] = touches
    for what, answer in answers.items():
        verdict = judge(check, answer)
        assert verdict.status == WRONG, what
        assert verdict.message and "Traceback" not in verdict.message
        seen.add(verdict.message)
    assert len(seen) >= len(answers) - 3


class _Broken(Exception):
    def __str__(self):
        raise RuntimeError("no")


def _map(value, change):
    return tuple(map(change, value)) if isinstance(value, tuple) else change(value)


def _nan(value):
    return _map(value, lambda x: np.asarray(x, float) * np.nan)


def _wider(value):
    return _map(value, lambda x: np.asarray(x)[..., None])


def _complex(value):
    return _map(value, lambda x: np.asarray(x) * 1j)


@pytest.mark.parametrize("number, name", ALL)
def test_a_slightly_wrong_answer_is_wrong_on_inputs_of_other_seeds_too(number, name):
    check = of(number, name)

    def off(*args):
        def change(x):
            x = np.array(x)
            if x.dtype == bool:
                return np.append(~x.ravel()[:1], x.ravel()[1:]).reshape(x.shape)
            return x + (1 if x.dtype.kind in "iu" else 0.01)

        return _map(check.reference(*args), change)

    for seed in (0, 1, 2):
        assert judge(check, check.reference, seed).status == SOLVED
        if check.faults is None:  # else there are many right answers
            assert judge(check, off, seed).status == WRONG


def test_the_oracle_of_rank_correlation_holds_where_values_are_equal():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    for n in (7, 54):
        tied, other = np.maximum(rng.normal(size=n), 0).round(1), rng.normal(size=n)
        expected = spearmanr(tied, other).statistic
        assert of(5, "rank_correlation").reference(tied, other) == pytest.approx(expected)
        assert -1 <= of(5, "rank_correlation").reference(tied, -tied) <= 1


def test_the_oracle_of_half_of_refusal_is_what_a_run_measures():
    from toymoe.attribution import removal

    rng = np.random.default_rng(0)
    counts = np.array([0, 1, 2, 4, 8])
    for _ in range(20):
        refusal_M = np.append(0.9, rng.random(4))
        half = of(5, "half_gone").reference(refusal_M, counts)
        known = removal.m50(refusal_M, counts)
        assert half == known if known is not None else np.isnan(half)


def test_known_relations_between_a_wrong_and_the_right_number_are_said():
    check = of(1, "posterior")
    right = check.reference
    assert "axes are swapped" in judge(check, lambda c: right(c).T).message
    assert "times the right answer" in judge(check, lambda c: 3 * right(c)).message
    assert "0 everywhere" in judge(check, lambda c: 0 * right(c)).message
    assert (
        "1 minus"
        in judge(of(1, "best_guess"), lambda c: 1 - of(1, "best_guess").reference(c)).message
    )
    assert "np.array" in judge(check, lambda c: right(c).tolist()).message
    bits = judge(check, lambda c: right(c) / np.log(2)).message
    assert "natural logarithm" in bits


def test_an_error_is_quoted_with_the_line_of_the_answer_it_came_from():
    check = of(1, "posterior")

    def divides_by_none(counts_XG):
        return counts_XG / None

    def misspells(counts_XG):
        return counts_XG.sum(1, keep_dims=True)

    def goes_deeper(counts_XG):
        return np.percentile(counts_XG, 300)

    said = judge(check, divides_by_none).message
    assert "TypeError" in said and "at `return counts_XG / None`" in said
    assert "at `return counts_XG.sum(1, keep_dims=True)`" in judge(check, misspells).message
    assert "at `return np.percentile(counts_XG, 300)`" in judge(check, goes_deeper).message
    assert "cannot be called with 1 arguments" in judge(check, lambda a, b: a).message


def test_two_values_may_come_as_a_list_or_an_array_but_not_as_three():
    check = of(8, "interval")
    right = check.reference
    for change in (list, np.array):
        assert judge(check, lambda x, i, change=change: change(right(x, i))).status == SOLVED
    assert "3 values; asked for: two numbers" in judge(check, lambda x, i: [1, 2, 3]).message
    assert "asked for: two numbers" in judge(check, lambda x, i: 1.0).message


def test_a_wrong_number_among_values_of_different_shapes_is_said():
    def ends(x):
        return np.array([x[0], x[-1]]), x[1:-1]

    check = checks.Check(ends, lambda rng: [(rng.normal(size=n),) for n in (4, 7)], "two arrays")

    def wrong_where_the_shapes_differ(x):
        first, rest = ends(x)
        return first[::-1] if len(first) != len(rest) else first, rest

    said = judge(check, wrong_where_the_shapes_differ).message
    assert said.startswith("value 1:") and "cannot be compared" not in said


FOOLED = {
    "shape [4]; asked for: an array [N, E]": lambda N, E: np.zeros(E),
    "All tokens should go to expert 0": lambda N, E: np.eye(E)[np.arange(N) % E] * 3,
    "all should go to expert 0": lambda N, E: np.eye(E)[np.arange(N) // 3 % E] * 3,
    "the loss sees it": lambda N, E: 5.0 * (np.arange(E) == 0) - np.ones((N, 1)) * 2,
    "nan": lambda N, E: np.full((N, E), np.nan),
}


@pytest.mark.parametrize("says", FOOLED)
def test_where_many_answers_are_right_the_fault_is_said_in_words(says):
    verdict = judge(of(2, "fool"), FOOLED[says])
    assert verdict.status == WRONG
    assert says in verdict.message
    assert judge(of(2, "fool"), lambda N, E: 1e-4 * (np.arange(E) == 0) * np.ones((N, 1))) == (
        SOLVED,
        "right on 6 inputs.",
    )


def test_check_reports_and_gives_back_a_function_that_works(capsys):
    check = of(1, "best_guess")
    mine = lambda c: c.max(1).sum() / c.sum()  # noqa: E731
    assert checks.check("best_guess", mine) is mine
    assert checks.check("best_guess", None) is check.reference
    assert checks.check("best_guess", lambda c: 0) is check.reference
    assert checks.check("best_gues", mine) is mine
    assert checks.check(None, 3) == 3
    said = capsys.readouterr().out.splitlines()
    assert [line[0] for line in said] == list("✔…✘✘✘")
    assert "not yet" in said[1] and "'best_guess'" in said[3]


def test_ctrl_c_stops_a_check():
    def stopped(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(of(1, "posterior"), stopped)


def test_predictions_are_noted_and_compared(capsys):
    checks.predict("a", 0.25)
    checks.compare("a", 0.5)
    checks.predict("a", ...)
    checks.compare("a", 0.5)
    checks.predict("a", 7)
    checks.predict("a", "many")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "✔ a: noted, 0.25."
    assert said[1] == "a: you predicted 0.25, measured 0.5"
    assert "not yet" in said[2] and "no prediction" in said[3]
    assert said[4].startswith("✘") and said[5].startswith("✘")
