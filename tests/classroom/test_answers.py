"""Answers of every kind: right ones pass however they are written, wrong ones are told why."""

from importlib import import_module

import numpy as np
import pytest

from toymoe.classroom import checks
from toymoe.classroom.checks import SOLVED, Check, judge
from toymoe.classroom.checks.judging import WRONG

SEEDS = (0, 7)
CHECKS = {name: check for n in checks.LESSONS for name, check in checks.lesson_checks(n).items()}
TABLES = [import_module(f"classroom.answers.lesson{n}") for n in checks.LESSONS]
RIGHT = {name: answers for table in TABLES for name, answers in table.RIGHT.items()}
WRONG_ONES = {name: answers for table in TABLES for name, answers in table.WRONG.items()}


def first_case(check, seed=0):
    return check.cases(np.random.default_rng(seed))[0]


named = pytest.mark.parametrize("name", CHECKS)
# All but those that are given nothing, and return text: a state of the explorer.
NUMERIC = [name for name, check in CHECKS.items() if first_case(check)]
numeric = pytest.mark.parametrize("name", NUMERIC)


def rejected(name, answer, what, seeds=SEEDS):
    """What is said about an answer that must be wrong on every seed."""
    check, said = CHECKS[name], []
    for seed in seeds:
        status, message = judge(check, answer, seed)
        assert status == WRONG, f"{name}: {what} passes with seed {seed}"
        assert "cannot be compared" not in message and "ambiguous" not in message, what
        known = message in {mistake.says for mistake in check.mistakes}
        formal = "it returns " in message or message.startswith(("it changes its", "it stops with"))
        assert known or formal or check.faults or f"{name}(" in message, f"{what}: {message}"
        said.append(message)
    return said[0]


def test_every_check_has_answers_of_every_kind():
    assert RIGHT.keys() == WRONG_ONES.keys() == CHECKS.keys()
    assert all(len(answers) >= 2 for answers in RIGHT.values())
    assert all(len(answers) >= 4 for answers in WRONG_ONES.values())


@named
def test_a_right_answer_passes_however_it_is_written(name):
    for i, answer in enumerate(RIGHT[name]):
        for seed in SEEDS:
            verdict = judge(CHECKS[name], answer, seed)
            assert verdict.status == SOLVED, (i, seed, verdict.message)


@named
def test_a_wrong_answer_is_rejected_with_a_reason_or_a_case(name):
    for what, answer in WRONG_ONES[name].items():
        rejected(name, answer, what)


# --- the same fault in every check ---------------------------------------------------------------


@named
def test_a_forgotten_return_is_called_that(name):
    check, calls = CHECKS[name], []

    def forgotten(*args):
        check.reference(*args)

    def sometimes(*args):
        calls.append(args)
        if len(calls) % 2:
            return check.reference(*args)

    for answer in (forgotten, sometimes)[: 2 if name in NUMERIC else 1]:
        for seed in SEEDS:
            verdict = judge(check, answer, seed)
            assert verdict.status == WRONG
            assert verdict.message.startswith("it returns nothing: end it with `return …`")


ANY = {("shuffled_labels", 2)}  # the seed: whatever was shuffled by, it was shuffled


@numeric
def test_an_argument_must_be_used(name):
    check = CHECKS[name]
    case = first_case(check)
    for i, given in enumerate(case):
        if (name, i) in ANY:
            continue
        values = [given]
        if isinstance(given, int | np.integer):
            values += [0, 1, 2, 3, 4, 8, 18]
        if isinstance(given, float):
            values += [0.25, 0.5, 0.9]
        for value in values:

            def ignores(*args, i=i, value=value):
                return check.reference(*args[:i], value, *args[i + 1 :])

            if name == "turn":  # any turn will do, but it must be one of what is given
                assert "turn one" in rejected(name, ignores, value)
            else:
                rejected(name, ignores, f"argument {i + 1} taken to be {value}")


# A first count is never returned: with it, nothing is gone.
UNUSED = {("half_gone", 1, 0)}


@numeric
def test_the_first_and_the_last_entry_matter(name):
    check = CHECKS[name]
    for i, given in enumerate(first_case(check)):
        if not isinstance(given, np.ndarray) or check.faults:
            continue
        for entry in (0, -1):
            if (name, i, entry) in UNUSED:
                continue

            def forgets(*args, i=i, entry=entry):
                changed = args[i].copy()
                changed[entry] = 0
                return RIGHT[name][0](*args[:i], changed, *args[i + 1 :])

            rejected(name, forgets, f"entry {entry} of argument {i + 1} forgotten")


def of_each(value, change):
    return tuple(map(change, value)) if isinstance(value, tuple) else change(value)


@numeric
def test_a_result_without_its_first_or_last_entry_is_wrong(name):
    check = CHECKS[name]
    expected = check.reference(*first_case(check))
    every = expected if isinstance(expected, tuple) else (expected,)
    if check.faults or not all(np.ndim(one) for one in every):
        return  # there are many right ones, or nothing to lose
    for entry in (0, -1):
        for fill in (0, 1):

            def loses(*args, entry=entry, fill=fill):
                def lose(array):
                    array = np.array(array)
                    array[entry] = fill
                    return array

                return of_each(check.reference(*args), lose)

            rejected(name, loses, f"entry {entry} of the result is {fill}")


WHOLE = [name for name, check in CHECKS.items() if "whole number" in check.returns]


def test_where_whole_numbers_are_asked_floats_are_refused_and_nowhere_else():
    assert len(WHOLE) > 3
    for name in NUMERIC:
        check = CHECKS[name]

        def floats(*args, check=check):
            return of_each(check.reference(*args), lambda x: np.asarray(x, float))

        if name in WHOLE:
            said = rejected(name, floats, "floats")
            assert "cannot be used as an index" in said and "whole" in said
        else:
            truth = check.returns.endswith("True and False")
            assert judge(check, floats).status == (WRONG if truth else SOLVED)


@numeric
def test_another_shape_or_type_is_said(name):
    check = CHECKS[name]
    right = check.reference
    for what, answer in {
        "an axis too many": lambda *a: of_each(right(*a), lambda x: np.asarray(x)[None]),
        "a sum": lambda *a: of_each(right(*a), lambda x: np.sum(x) if np.ndim(x) else [x, x]),
        "text": lambda *a: str(right(*a)),
        "a set": lambda *a: {1},
        "the function": lambda *a: right,
    }.items():
        said = rejected(name, answer, what)
        assert "it returns " in said or "make it an array" in said
    assert "asked for" in judge(check, lambda *a: "text").message


@numeric
def test_an_input_must_stay_what_it_was(name):
    check = CHECKS[name]
    for i, given in enumerate(first_case(check)):
        if not isinstance(given, np.ndarray):
            continue

        def changes(*args, i=i):
            result = check.reference(*args)
            args[i][...] = args[i][::-1].copy() if len(args[i]) > 1 else 0
            return result

        said = judge(check, changes).message
        assert said.startswith(f"it changes its input: argument {i + 1} was different")


# --- what is said ---------------------------------------------------------------------------------


def total(x_N):
    """An exercise of one line."""
    return float(sum(x_N))


SIZES = Check(
    total,
    lambda rng: [(np.arange(1.0, n),) for n in (9, 3, 5, 40)],
    "a number",
)


def test_the_smallest_case_that_differs_is_shown():
    def right_where_there_are_few(x_N):
        return x_N[:3].sum()

    said = judge(SIZES, right_where_there_are_few).message
    assert said == "it is wrong. total([1.0, 2.0, 3.0, 4.0]) gives 6.0, and 10.0 is right."
    assert "total(an array [39]) gives" in judge(SIZES, lambda x: x[:9].sum()).message


def test_a_case_of_several_values_is_shown_too():
    check = CHECKS["interval"]
    said = judge(check, lambda x, i: (0.5, check.reference(x, i)[1])).message
    assert said.startswith("value 1: it is wrong") and "interval([" in said
    assert "gives [0.5, " in said and said.endswith("] is right.")


def test_in_a_large_result_the_first_wrong_entry_is_shown():
    wide = Check(np.tile, lambda rng: [(np.arange(30.0), 4)], "an array")
    said = judge(wide, lambda x, n: np.append(np.tile(x, n)[:-1], 7.0)).message
    assert said == (
        "1 of 120 numbers are wrong. tile([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, "
        "11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0, 24.0, 25.0, "
        "26.0, 27.0, 28.0, 29.0], 4) gives 7.0 at [119], where 29.0 is right."
    )


def test_numbers_that_differ_late_are_shown_with_as_many_digits():
    said = judge(SIZES, lambda x: sum(x) * 1.0002).message
    assert "gives 3.0006, and 3.0 is right" in said
    near = Check(total, lambda rng: [(np.array([0.00012]),), (np.array([2.0]),)], "a number")
    said = judge(near, lambda x: x[0] + 6e-5).message
    assert "total([0.00012]) gives 0.00018, and 0.00012 is right" in said


def test_a_relation_is_said_only_where_it_holds_on_every_input():
    for answer, says in {
        (lambda x: 3 * sum(x)): "it is 3 times the right answer",
        (lambda x: -sum(x)): "it is -1 times the right answer",
        (lambda x: sum(x) / np.log(2)): "bits instead of nats",
        (lambda x: sum(x) + 2): "it is the right answer plus 2",
        (lambda x: 1 - sum(x)): "it gives 1 minus the right answer",
        (lambda x: 0.0): "it gives 0 everywhere",
    }.items():
        assert says in judge(SIZES, answer).message

        def only_here(x, answer=answer):
            return answer(x) if len(x) == 2 else sum(x) * (len(x) + 5)

        said = judge(SIZES, only_here).message
        assert "times" not in said and "plus" not in said and "minus" not in said
        assert "everywhere" not in said and "total([1.0, 2.0]) gives" in said
    one = Check(total, lambda rng: [(np.array([1.0, 2.0]),)], "a number")
    assert judge(one, lambda x: 3 * sum(x)).message == (
        "it is wrong. total([1.0, 2.0]) gives 9.0, and 3.0 is right."
    )
    same = Check(total, lambda rng: [(np.array([x, 2.0 - x]),) for x in (0.0, 1.0)], "a number")
    assert "times" not in judge(same, lambda x: 6.0).message  # a constant is no multiple


def test_a_relation_of_true_and_false_is_said_in_these_words():
    check = CHECKS["is_hazard"]
    bare = Check(check.reference, check.cases, check.returns)
    assert "True and False are exchanged" in judge(bare, lambda *a: ~check.reference(*a)).message
    no, yes = (lambda *a, x=x: np.full(len(a[0]), x) for x in (False, True))
    assert "it gives False everywhere" in judge(bare, no).message
    assert "it gives True everywhere" in judge(bare, yes).message


def test_what_fails_on_some_inputs_only_is_said_with_one_of_them():
    def fails(x_N):
        return 1 / 0 if len(x_N) > 3 else sum(x_N)

    said = judge(SIZES, fails).message
    assert said.startswith("it stops with ZeroDivisionError: division by zero at `return 1 / 0 if")
    assert said.endswith("(This is total([1.0, 2.0, 3.0, 4.0]).)")

    def always_fails(x_N):
        return 1 / 0

    assert judge(SIZES, always_fails).message.endswith("division by zero at `return 1 / 0`.")


def test_nothing_is_warned_of_beside_the_verdict():  # warnings are errors here
    said = judge(CHECKS["posterior"], lambda c: c / c.sum() / 0).message
    assert said.startswith("2 of 2 numbers are wrong") and "gives [[inf], [inf]]" in said
