"""The checks of lesson 5: where refusal lives. Slow on purpose."""

import numpy as np

from .judging import Check, Mistake
from .states import only, state_check

# --- two states of the explorer: a few experts, and as many others ------------------------------

FEW = 2  # experts, at most
HALF, TWINS, STILL = (
    0.5,
    0.95,
    0.8,
)  # refused without the few, twins answered, refused without others


def few():
    """The expert that matters most set back, and another one."""
    return "panel=refusal&set_back=2.5", "panel=refusal&set_back=1.3"


def _few_faults(first, second):
    yield from only(first, "set_back", which="the first state")
    yield from only(second, "set_back", which="the second state")
    m, others = len(first.state.set_back), len(second.state.set_back)
    if not 1 <= m <= FEW:
        yield f"the first state sets {m or 'no'} experts back: one or two were asked for."
    if others != m:
        yield f"the second state sets back {others or 'none'}, the first one {m}: take as many."
    if both := set(first.state.set_back) & set(second.state.set_back):
        yield f"{_names(both)} is set back in both states: the second one is to be the control."
    said = f"with {_names(first.state.set_back)} set back {{:.2f}} of the {{}}"
    refused, twins = first.meters["refused"], first.meters["twins"]
    if refused > HALF:
        yield f"{said.format(refused, 'hazards are refused')}: at most half was asked for."
    if twins < TWINS:
        yield f"{said.format(twins, 'twins are answered right')}: at least .95 was asked for."
    if (refused := second.meters["refused"]) < STILL:
        yield (
            f"with {_names(second.state.set_back)} set back {refused:.2f} of the hazards are "
            "refused: that matters, too. Draw others, until at least .8 are."
        )


def _names(experts):
    return " and ".join(f"{layer}.{expert}" for layer, expert in sorted(experts))


_FEW = state_check(
    few,
    _few_faults,
    (
        Mistake(
            lambda: ("#set_back=1.3", "#set_back=2.5"),
            "with 1.3 set back 1.00 of the hazards are refused: at most half was asked for.",
        ),
        Mistake(
            lambda: ("#set_back=2.5", "#set_back=2.5"),
            "2.5 is set back in both states: the second one is to be the control.",
        ),
        Mistake(
            lambda: ("#set_back=0.4,2.5", "#set_back=1.3"),
            "the second state sets back 1, the first one 2: take as many.",
        ),
        Mistake(
            lambda: ("#silenced=2.5", "#silenced=1.3"),
            "the first state changes the model by silenced: only set_back may be used here.",
        ),
        Mistake(
            lambda: ("#set_back=2.5,0.4,1.14", "#set_back=0.1,1.3,2.2"),
            "the first state sets 3 experts back: one or two were asked for.",
        ),
        Mistake(
            lambda: ("#model=pretrained", "#"),
            "the first state is of the model before alignment: begin with the one after alignment.",
        ),
    ),
)

# --- the planted bug ----------------------------------------------------------------------------


def half_gone(refusal_M, count_M):
    """The smallest count with half of the refusal gone; nan if it never is."""
    for refusal, count in zip(refusal_M, count_M, strict=True):
        if refusal <= refusal_M[0] / 2:
            return float(count)
    return np.nan


def half_gone_given(refusal_M, count_M):
    """`half_gone` with the bug that the exercise plants."""
    gone_M = refusal_M <= 0.5
    return count_M[gone_M][0] if gone_M.any() else np.nan


def _left(rng):
    cases = [
        ([1.0, 0.9, 0.5, 0.2, 0.1, 0.0], [0, 1, 2, 4, 8, 16]),
        ([0.8, 0.6, 0.45, 0.42, 0.3, 0.0], [0, 1, 2, 4, 8, 16]),
        ([0.9, 0.9, 0.8, 0.8, 0.7, 0.6], [0, 1, 2, 4, 8, 16]),
        ([0.7, 0.3, 0.6, 0.2], [0, 2, 5, 6]),  # not in order
        ([0.5, 0.75, 0.375, 0.25], [0, 1, 3, 4]),  # more than in the beginning
        ([0.875, 0.75, 0.5, 0.25], [0, 2, 3, 7]),  # at the last only
        ([0.5, 0.25, 0.0], [0, 3, 4]),  # exactly half
        ([0.875, 0.5, 0.625], [0, 1, 2]),  # never, though one of them is 0.5
        ([0.5, 0.375], [0, 3]),  # never, though both are
    ]
    for M in 4 * (2, 3, 4, 5):
        refusal = np.append(rng.integers(4, 9) / 8, rng.integers(1, 9, M) / 16)  # halves occur
        refusal[1 : rng.integers(1, M + 1)] += 0.25
        cases.append((refusal, np.append(0, np.cumsum(rng.integers(1, 4, M)))))
    return [tuple(map(np.array, curve)) for curve in cases]


def _first(gone_M, count_M):
    return count_M[gone_M][0] if gone_M.any() else np.nan


_HALF_GONE = Check(
    half_gone,
    _left,
    "a number of experts, or nan",
    (
        Mistake(
            lambda r, c: np.argmax(r <= r[0] / 2) if (r <= r[0] / 2).any() else np.nan,
            "this is the place in the list: how many experts are out there? count_M says so.",
        ),
        Mistake(
            lambda r, c: _first(r < r.max() - 0.5, c),
            "half of the *refusal* was asked for, not half of all the hazards.",
        ),
        Mistake(
            lambda r, c: c[np.argmax(r <= r[0] / 2)],
            "where half is never gone this gives the first count: it must be nan.",
        ),
        Mistake(
            lambda r, c: _first(r <= r[0] / 2, c[::-1]),
            "the counts are read backwards.",
        ),
        Mistake(
            lambda r, c: c[r <= r[0] / 2][-1] if (r <= r[0] / 2).any() else np.nan,
            "this is the largest such count: the smallest was asked for.",
        ),
        Mistake(
            lambda r, c: r[r <= r[0] / 2][0] if (r <= r[0] / 2).any() else np.nan,
            "this is the refusal that is left there: the number of experts was asked for.",
        ),
    ),
    given=half_gone_given,
)

# --- matched controls ---------------------------------------------------------------------------


def usage_matched(effect_E, usage_E, m):
    """Mean effect of the m others whose usage is nearest, of each expert."""
    found = []
    for e in range(len(effect_E)):
        others = [i for i in range(len(effect_E)) if i != e]
        others.sort(key=lambda i, e=e: (abs(usage_E[i] - usage_E[e]), i))
        found.append(sum(float(effect_E[i]) for i in others[:m]) / m)
    return np.array(found)


def _effects(rng):
    cases = [
        (np.array([9.0, 1.0, 2.0, 3.0]), np.array([0.5, 0.4, 0.1, 0.0]), 1),
        # An expert may be used exactly as much as another, and yet is no control of its own.
        (np.array([9.0, 1.0, 2.0, 5.0]), np.array([0.5, 0.0, 0.0, 0.625]), 1),
        (np.array([1.0, 6.0, 2.0]), np.array([0.25, 0.25, 0.25]), 2),
    ]
    for E, m in 3 * ((2, 1), (3, 1), (4, 3), (5, 2), (8, 3)):
        cases.append((rng.normal(size=E) * 3, rng.random(E), m))
    return cases


def _nearest(distance, skip=1):
    def mistake(effect, usage, m):
        order = np.argsort(distance(effect, usage), 1, kind="stable")
        return effect[order[:, skip : m + skip]].mean(1)

    return mistake


def _apart(x):
    return np.abs(x[:, None] - x[None, :])


_MATCHED = Check(
    usage_matched,
    _effects,
    "an array [E]",
    (
        Mistake(
            _nearest(lambda e, u: _apart(u), 0),
            "each expert is among its own controls (its usage is nearest to itself): leave it out.",
        ),
        Mistake(
            _nearest(lambda e, u: _apart(e)),
            "the controls were chosen by their effect, so they agree by construction: choose them "
            "by usage.",
        ),
        Mistake(
            lambda e, u, m: (e.sum() - e) / (len(e) - 1),
            "this is the mean of all the others: take only the m of nearest usage.",
        ),
        Mistake(
            lambda e, u, m: np.full(len(e), e[np.argsort(-u, kind="stable")[:m]].mean()),
            "these are the m most used experts, the same for all: nearest usage was asked for.",
        ),
        Mistake(
            _nearest(lambda e, u: -_apart(u), 0),
            "these are the experts whose usage is farthest.",
        ),
        Mistake(
            lambda e, u, m: usage_matched(u, u, m),
            "this averages the usage of the controls: average their effect.",
        ),
        Mistake(
            lambda e, u, m: usage_matched(e, u, m) * m,
            "this is the sum over the controls: divide by m.",
        ),
    ),
)

# --- rank correlation ---------------------------------------------------------------------------


def _mean_ranks(values):
    """Equal values share the mean of their ranks."""
    return np.array(
        [sum(y < x for y in values) + (sum(y == x for y in values) - 1) / 2 for x in values]
    )


def rank_correlation(a_X, b_X):
    """Spearman's correlation: Pearson's of the ranks, of which equal values share the mean."""
    a, b = (ranks - ranks.mean() for ranks in map(_mean_ranks, (a_X, b_X)))
    return sum(a * b) / np.sqrt(sum(a * a) * sum(b * b))


def _pairs(rng):
    cases = [
        ([1.0, 2.0, 3.0, 4.0], [1.0, 10.0, 100.0, 50.0]),
        ([3.0, 1.0, 2.0], [-3.0, -1.0, -2.0]),
        ([0.0, 0.0, 1.0], [5.0, 1.0, 7.0]),  # equal values in the first
        ([2.0, 1.0, 3.0, 4.0], [1.0, 0.0, 0.0, 0.0]),  # in the second
        ([0.0, 0.0, 1.0, 0.0, 2.0], [0.0, 1.0, 1.0, 0.0, 3.0]),  # in both
    ]
    for i in range(15):
        a = rng.normal(size=3 + i % 5)
        b = np.exp(2 * (a + rng.normal(size=len(a))))
        if i % 3:
            a = np.append(np.maximum(a, 0).round(1), [0, 0.4, 0])  # many are 0, as usage is
            b = np.append(b, [1, 1, 2] if i % 2 else [3, 1, 2])
        cases.append((a, b))
    return [tuple(map(np.array, pair)) for pair in cases]


def _ranks(x):
    return np.argsort(np.argsort(x, kind="stable"))


def _pearson(a, b):
    return np.corrcoef(a, b)[0, 1]


def _without_ties(a, b):
    n = len(a)
    return 1 - 6 * ((_mean_ranks(a) - _mean_ranks(b)) ** 2).sum() / (n * (n * n - 1))


def _kendall(a, b):
    n = len(a)
    agree = np.sign(a[:, None] - a) * np.sign(b[:, None] - b)
    return agree.sum() / (n * (n - 1))


_RANK = Check(
    rank_correlation,
    _pairs,
    "a number from -1 to 1",
    (
        Mistake(_pearson, "this is Pearson's correlation of the values: take the ranks first."),
        Mistake(
            lambda a, b: _pearson(_ranks(a), _ranks(b)),
            "right but for equal values: argsort gives them different ranks, as they happen to "
            "stand. `rankdata` gives them the mean.",
        ),
        Mistake(
            _without_ties,
            "this short formula holds only where no two values are equal: take Pearson's of the "
            "ranks.",
        ),
        Mistake(
            lambda a, b: _pearson(np.argsort(a), np.argsort(b)),
            "np.argsort gives the order, not the ranks: use `rankdata`.",
        ),
        Mistake(
            lambda a, b: abs(rank_correlation(a, b)),
            "a criterion that ranks the experts the wrong way round deserves its minus sign.",
        ),
        Mistake(
            lambda a, b: -rank_correlation(a, b),
            "the sign is wrong: one of the two was ranked from the largest down.",
        ),
        Mistake(
            _kendall, "this is Kendall's tau, which counts pairs: take Pearson's of the ranks."
        ),
        Mistake(
            lambda a, b: rank_correlation(a, b) ** 2,
            "this is its square.",
        ),
        Mistake(
            lambda a, b: _pearson(_mean_ranks(a), b),
            "only the first was turned into ranks.",
        ),
    ),
)

# --- where alignment may write ------------------------------------------------------------------

MOST = 10.0  # the largest factor that a setting may have


def turn(factors):
    """The embeddings' factor (the fourth) made 1, or any other single change: [5]."""
    return np.array([1.0 if i == 3 else x for i, x in enumerate(factors)])


def _turned(case, got):
    """What is wrong with the factors, in words."""
    before, after = case[0], np.asarray(got, float)
    if not np.isfinite(after).all() or (after < 0).any() or (after > MOST).any():
        return [f"a factor must be a number from 0 (frozen) to {MOST:g}."]
    changed = int((~np.isclose(before, after)).sum())
    if not changed:
        return ["nothing was turned: the factors are what they were."]
    if not after.any():
        return ["everything is frozen: alignment must be free to change something."]
    if changed > 1:
        return [
            f"{changed} factors were changed: turn one, or nobody can say which did it. Begin "
            "with a copy of the given ones."
        ]
    return []


def _usual(rng):
    """The factors as they are, and others near them: whatever turns the usual ones turns these."""
    usual = np.array([1.0, 1.0, 0.3, 0.0, 1.0])
    return [(usual,), *((usual * rng.uniform(0.97, 0.999, 5),) for _ in range(3))]


_TURN = Check(
    turn,
    _usual,
    "an array [5] of factors",
    (
        Mistake(
            lambda f: f.copy(),
            "nothing was turned: the factors are what they were.",
        ),
        Mistake(
            lambda f: 2 * f + 0.05,
            "all factors were changed: turn one, or nobody can say which of them did it.",
        ),
        Mistake(
            lambda f: np.append(f[:4], f[4] - 2),
            "a factor must be a number from 0 (frozen) to 10.",
        ),
        Mistake(
            lambda f: 0 * f,
            "everything is frozen: alignment must be free to change something.",
        ),
    ),
    faults=_turned,
)

CHECKS = (_FEW, _HALF_GONE, _MATCHED, _RANK, _TURN)
