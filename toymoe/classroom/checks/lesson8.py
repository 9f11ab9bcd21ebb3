"""The checks of lesson 8: intervals over seeds, effect sizes, cherries, and matching experts.

Numpy only; slow on purpose.
"""

import numpy as np

from .judging import Check, Mistake

# --- the bootstrap ------------------------------------------------------------------------------


def _quantile(values, q):
    """Linear between the order statistics, as numpy does by default."""
    ordered = sorted(float(v) for v in values)
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def interval(values_S, picks_RS):
    """2.5 and 97.5 per cent points of the medians of the resamples."""
    medians = []
    for picks in picks_RS:
        medians.append(_quantile([values_S[i] for i in picks], 0.5))
    return _quantile(medians, 0.025), _quantile(medians, 0.975)


def _resamples(rng):
    cases = [
        (np.array([1.0, 2.0, 4.0]), np.array([[0, 0, 1], [0, 1, 2], [2, 2, 1], [1, 1, 1]])),
        (np.array([1.0, 3.0]), np.array([[0, 1], [1, 1]])),
    ]
    for S, R in 3 * ((2, 1), (3, 2), (4, 5), (5, 60), (6, 4)):
        cases.append((rng.gamma(2, size=S), rng.integers(0, S, (R, S))))
    return cases


def _points(x, low=2.5, high=97.5):
    return tuple(float(p) for p in np.percentile(x, [low, high]))


_INTERVAL = Check(
    interval,
    _resamples,
    "two numbers, low and high",
    (
        Mistake(
            lambda x, i: _points(x[i].mean(1)),
            "these are the means of the resamples: the median was asked for, which one odd seed "
            "cannot drag along.",
        ),
        Mistake(
            lambda x, i: _points(np.median(x[i], 1), 5, 95),
            "this leaves out 5 % at each end, a 90 % interval: 2.5 % at each end make 95 %.",
        ),
        Mistake(
            lambda x, i: _points(x),
            "this is the spread of the seeds themselves: how well is their *median* known?",
        ),
        Mistake(
            lambda x, i: _points(x[i].ravel()),
            "the resamples were thrown together: first the median of each (axis 1).",
        ),
        Mistake(
            lambda x, i: _points(np.median(x[i], 0)),
            "the median runs over the resamples (axis 0): it must run over the seeds of each.",
        ),
        Mistake(
            lambda x, i: (float(np.median(x[i], 1).min()), float(np.median(x[i], 1).max())),
            "these are the smallest and the largest median: they get wider with every resample.",
        ),
        Mistake(
            lambda x, i: _points(np.median(x[i], 1))[::-1],
            "low and high are exchanged.",
        ),
        Mistake(
            lambda x, i: tuple(
                float(np.median(x[i], 1).mean() + s * 1.96 * np.median(x[i], 1).std())
                for s in (-1, 1)
            ),
            "this takes the medians to be bell-shaped; take their percentiles instead.",
        ),
    ),
)

# --- what is a sample ---------------------------------------------------------------------------


def uncertainty(right_SN):
    """Standard error of the mean over seeds, each seed being one measurement."""
    S = len(right_SN)
    means = [float(np.mean(row)) for row in right_SN]
    centre = sum(means) / S
    variance = sum((m - centre) ** 2 for m in means) / (S - 1)
    return (variance / S) ** 0.5


def uncertainty_given(right_SN):
    """`uncertainty` with the bug that the exercise plants."""
    values = np.asarray(right_SN, float).ravel()
    return values.std(ddof=1) / len(values) ** 0.5


def _answers(rng):
    cases = [(np.array([[1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]]),)]
    for S, N in 3 * ((2, 1), (2, 4), (3, 3), (4, 6), (6, 5)):
        cases.append(((rng.random((S, N)) < rng.random((S, 1))).astype(float),))
    return cases


_UNCERTAINTY = Check(
    uncertainty,
    _answers,
    "a number",
    (
        Mistake(
            lambda x: x.mean(1).std(ddof=1),
            "this is how much single seeds differ; how well their mean is known is that divided by "
            "the square root of the number of seeds.",
        ),
        Mistake(
            lambda x: x.mean(1).std() / len(x) ** 0.5,
            "the standard deviation divides by S: with few seeds that is too small, so divide by "
            "S - 1 (ddof=1).",
        ),
        Mistake(
            lambda x: x.mean(1).std(ddof=1) / len(x),
            "divide by the square root of the number of seeds, not by the number.",
        ),
        Mistake(
            lambda x: x.mean(1).std(ddof=1) / x.size**0.5,
            "the means of the seeds are right; but there are S of them, not S times N.",
        ),
        Mistake(
            lambda x: x.mean(0).std(ddof=1) / x.shape[1] ** 0.5,
            "this averages over the seeds (axis 0) and treats prompts as the sample.",
        ),
        Mistake(
            lambda x: (x.std(1, ddof=1) / x.shape[1] ** 0.5).mean(),
            "this is the uncertainty within one seed: how much seeds differ is not in it.",
        ),
        Mistake(
            lambda x: x.mean(1).var(ddof=1) / len(x),
            "this is the variance of the mean: take its square root.",
        ),
    ),
    given=uncertainty_given,
)

# --- effect sizes -------------------------------------------------------------------------------


def effect(finding_S, control_S):
    """Mean of finding minus control, by the standard deviation of that difference (ddof=1)."""
    S = len(finding_S)
    change = [float(f) - float(c) for f, c in zip(finding_S, control_S, strict=True)]
    mean = sum(change) / S
    return mean / (sum((c - mean) ** 2 for c in change) / (S - 1)) ** 0.5


def _pairs(rng):
    cases = [(np.array([0.5, 0.7, 0.9]), np.array([0.1, 0.2, 0.6]))]
    for i in range(20):
        S, gap = 2 + i % 5, (1, -1, 0.3)[i % 3]
        shared = rng.normal(size=S)
        cases.append((shared + rng.normal(gap, 0.3, S), shared + rng.normal(0, 0.5, S)))
    return cases


_EFFECT = Check(
    effect,
    _pairs,
    "a number",
    (
        Mistake(
            lambda f, c: (f - c).mean() / (f - c).std(),
            "the standard deviation divides by S: with few seeds use S - 1 (ddof=1).",
        ),
        Mistake(
            lambda f, c: (f - c).mean() / np.sqrt((f.var(ddof=1) + c.var(ddof=1)) / 2),
            "this is for two groups of different seeds: here finding and control come from the "
            "same seeds, so take the standard deviation of their difference.",
        ),
        Mistake(
            lambda f, c: (f - c).mean() / (f - c).std(ddof=1) * len(f) ** 0.5,
            "this is the t statistic: it grows with the number of seeds, and an effect should not.",
        ),
        Mistake(
            lambda f, c: (f - c).mean(),
            "this is the difference in its own units: divide it by its standard deviation.",
        ),
        Mistake(
            lambda f, c: (f - c).mean() / c.std(ddof=1),
            "this divides by the spread of the control alone.",
        ),
        Mistake(
            lambda f, c: (f - c).mean() / (f - c).var(ddof=1),
            "this divides by the variance: by the standard deviation, so that units cancel.",
        ),
        Mistake(
            lambda f, c: abs((f - c).mean()) / (f - c).std(ddof=1),
            "the sign is lost: a finding below its control must come out negative.",
        ),
    ),
)

# --- cherries -----------------------------------------------------------------------------------


def cherry_pick(finding_S, control_S):
    """The seed that speaks most for finding > control, and the one that speaks most against it."""
    friend = enemy = 0
    for s in range(len(finding_S)):
        gap = finding_S[s] - control_S[s]
        if gap > finding_S[friend] - control_S[friend]:
            friend = s
        if gap < finding_S[enemy] - control_S[enemy]:
            enemy = s
    return friend, enemy


def _gap(at_best, at_worst):
    def mistake(f, c):
        return int(at_best(f, c)), int(at_worst(f, c))

    return mistake


_CHERRY_PICK = Check(
    cherry_pick,
    _pairs,
    "two whole numbers, the positions of two seeds",
    (
        Mistake(
            _gap(lambda f, c: (f - c).argmin(), lambda f, c: (f - c).argmax()),
            "exchanged: first the seed that speaks *for* the claim.",
        ),
        Mistake(
            _gap(lambda f, c: f.argmax(), lambda f, c: f.argmin()),
            "this looks at the finding alone: the claim is about finding minus control.",
        ),
        Mistake(
            _gap(lambda f, c: np.abs(f - c).argmax(), lambda f, c: np.abs(f - c).argmin()),
            "this ignores which of the two is larger: a gap the wrong way round is the enemy's.",
        ),
        Mistake(
            _gap(lambda f, c: (f / c).argmax(), lambda f, c: (f / c).argmin()),
            "this compares ratios: take differences, which do not explode where the control is "
            "near 0.",
        ),
        Mistake(
            lambda f, c: (float((f - c).max()), float((f - c).min())),
            "these are the gaps themselves: which seeds have them was asked.",
        ),
        Mistake(
            _gap(lambda f, c: f.argmax(), lambda f, c: c.argmax()),
            "finding and control are looked at apart: take their difference in each seed.",
        ),
    ),
)

# --- matching -----------------------------------------------------------------------------------


def match(score_EE):
    """The partner of each row, all different, with the largest total score.

    The Hungarian method, one row at a time: rows and columns have prices whose sum is at most the
    cost, and a row that comes late moves others along a path where the two are equal.
    """
    cost_EE = -np.asarray(score_EE, float)
    E = len(cost_EE)
    row_price, column_price = np.zeros(E), np.zeros(E + 1)
    row_of = np.full(E + 1, -1)  # of each column; the last column stands for "none yet"
    for new in range(E):
        row_of[E], at = new, E
        least, before, seen = np.full(E, np.inf), np.full(E, -1), np.zeros(E + 1, bool)
        while row_of[at] >= 0:
            seen[at] = True
            row = row_of[at]
            slack = cost_EE[row] - row_price[row] - column_price[:E]
            better = ~seen[:E] & (slack < least)
            least[better], before[better] = slack[better], at
            nearest = int(np.where(seen[:E], np.inf, least).argmin())
            step = least[nearest]
            row_price[row_of[seen]] += step
            column_price[seen] -= step
            least[~seen[:E]] -= step
            at = nearest
        while at != E:
            row_of[at] = row_of[before[at]]
            at = before[at]
    return np.argsort(row_of[:E])


_GREEDY_FAILS = np.array([[0.9, 0.8, 0.0], [0.8, 0.1, 0.0], [0.3, 0.2, 0.1]])
_LARGEST_SUM = np.array([[0.9, 0.25], [0.3, -0.3]])  # and not the most even one


def _scores(rng):
    sizes = 2, 2, 2, 3, 3, 3, 3, *[4] * 8
    return [
        (x,) for x in (_GREEDY_FAILS, _LARGEST_SUM, *(rng.uniform(-1, 1, (E, E)) for E in sizes))
    ]


def _in_order(score):
    """Row by row, the best that is left."""
    free, perm = np.ones(len(score), bool), []
    for row in score:
        perm.append(int(np.where(free, row, -np.inf).argmax()))
        free[perm[-1]] = False
    return np.array(perm)


def _largest_first(score):
    """The largest score that is left, again and again."""
    left, perm = score.copy(), np.zeros(len(score), int)
    for _ in score:
        i, j = np.unravel_index(left.argmax(), left.shape)
        perm[i] = j
        left[i], left[:, j] = -np.inf, -np.inf
    return perm


_MATCH = Check(
    match,
    _scores,
    "an array [E] of whole numbers, each once",
    (
        Mistake(
            lambda s: s.argmax(1),
            "each row takes its favourite, and some partners are taken twice: each only once.",
        ),
        Mistake(
            lambda s: s.argmax(0),
            "each *column* takes its favourite row: asked is the partner of each row, each once.",
        ),
        Mistake(
            _in_order,
            "first come, first served: the first rows take what the later ones need more. The "
            "largest *total* was asked for.",
        ),
        Mistake(
            _largest_first,
            "greedy: the largest score first. It can spoil two others that were nearly as large; "
            "the largest total was asked for.",
        ),
        Mistake(
            lambda s: match(-s),
            "this is the worst matching: linear_sum_assignment makes the total *small* unless you "
            "say maximize=True.",
        ),
        Mistake(
            lambda s: match(s.T),
            "the other way round: this is the row that belongs to each column.",
        ),
        Mistake(
            lambda s: np.arange(len(s)),
            "every expert is paired with the one of the same number: numbers mean nothing.",
        ),
        Mistake(
            lambda s: match(np.abs(s)),
            "a strongly negative score is a bad match: do not take its size.",
        ),
    ),
)

# --- left out -----------------------------------------------------------------------------------


def left_out(fit_EE, test_EE):
    """Mean of the test scores of the pairs that were matched by the fit scores."""
    perm = match(fit_EE)
    return sum(float(test_EE[i, perm[i]]) for i in range(len(perm))) / len(perm)


def _both(rng):
    cases = []
    for i in range(14):
        E = 2 + i % 3
        fit = rng.uniform(-1, 1, (E, E))
        cases.append((fit, (i % 2) * fit + rng.uniform(-0.5, 0.5, (E, E))))
    return cases


def _along(score, perm):
    return float(score[np.arange(len(perm)), perm].mean())


_LEFT_OUT = Check(
    left_out,
    _both,
    "a number",
    (
        Mistake(
            lambda fit, test: _along(fit, match(fit)),
            "matched and judged by the same topics: of all pairings the luckiest was taken, and "
            "its luck is in the number. Judge by the topics left out.",
        ),
        Mistake(
            lambda fit, test: _along(test, match(test)),
            "the topics left out were used to match, too: match by fit_EE alone.",
        ),
        Mistake(
            lambda fit, test: _along(test, match(fit + test)),
            "both halves were used to match: match by fit_EE alone.",
        ),
        Mistake(
            lambda fit, test: float(np.trace(test) / len(test)),
            "experts are paired by number: match them by fit_EE first.",
        ),
        Mistake(
            lambda fit, test: float(test.mean()),
            "this is the mean over all pairs: only over the matched ones.",
        ),
        Mistake(
            lambda fit, test: _along(test, match(fit)) * len(fit),
            "this is the sum over the pairs: take the mean.",
        ),
        Mistake(
            lambda fit, test: _along(test, match(-fit)),
            "this is the worst matching of fit_EE: maximize=True.",
        ),
        Mistake(
            lambda fit, test: _along(test.T, match(fit)),
            "rows and columns of the test scores are exchanged: a row of fit_EE is one of test_EE.",
        ),
    ),
)

CHECKS = (_INTERVAL, _UNCERTAINTY, _EFFECT, _CHERRY_PICK, _MATCH, _LEFT_OUT)
