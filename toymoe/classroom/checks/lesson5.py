"""The checks of lesson 5: where refusal lives. Numpy only; slow on purpose."""

import numpy as np

from .judging import Check, Mistake

# --- margin -------------------------------------------------------------------------------------


def refusal_margin(logits_BV, answer_B, refuse):
    """logit(REFUSE) - logit(right answer): [B]."""
    return np.array(
        [float(row[refuse]) - float(row[a]) for row, a in zip(logits_BV, answer_B, strict=True)]
    )


def _logits(rng):
    cases = [(np.array([[0.0, 2.0, 1.0], [3.0, -1.0, 0.0]]), np.array([1, 2]), 0)]
    for B, V in ((5, 7), (6, 6), (3, 9)):
        cases.append((rng.normal(size=(B, V)) * 3, rng.integers(3, V, B), 2))
    return cases


def _softmax(z):
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def _pick(x, a):
    return x[np.arange(len(x)), a]


_MARGIN = Check(
    refusal_margin,
    _logits,
    "an array [B]",
    (
        Mistake(
            lambda z, a, r: _pick(z, a) - z[:, r],
            "the sign is the other way round: positive means that it would rather refuse.",
        ),
        Mistake(
            lambda z, a, r: _softmax(z)[:, r] - _pick(_softmax(z), a),
            "this is a difference of probabilities, which saturates at 1: use the logits.",
        ),
        Mistake(
            lambda z, a, r: z[:, r] - np.sort(z, -1)[:, -1],
            "this compares with the largest logit, whatever token it is: compare with the right "
            "answer's.",
        ),
        Mistake(
            lambda z, a, r: z[:, r] - z[:, a].mean(1),
            "logits_BV[:, answer_B] takes every prompt's answer for every prompt: pair them, "
            "logits_BV[np.arange(B), answer_B].",
        ),
        Mistake(
            lambda z, a, r: z[:, r] - z[:, a],
            "logits_BV[:, answer_B] takes every prompt's answer for every prompt, [B, B]: pair "
            "them, logits_BV[np.arange(B), answer_B].",
        ),
        Mistake(
            lambda z, a, r: z[:, r].copy(), "the right answer's logit is missing: subtract it."
        ),
        Mistake(
            lambda z, a, r: (z[:, r] - _pick(z, a)).mean(),
            "this is the mean over the prompts: give one number for each.",
        ),
    ),
)

# --- the planted bug ----------------------------------------------------------------------------


def mean_outputs(outputs_NED, selected_NE):
    """Each expert's mean output over the tokens that selected it, 0 if none did: [E, D]."""
    N, E, D = np.shape(outputs_NED)
    means = np.zeros((E, D))
    for e in range(E):
        mine = [outputs_NED[n, e] for n in range(N) if selected_NE[n, e]]
        if mine:
            means[e] = sum(mine) / len(mine)
    return means


def mean_outputs_given(outputs_NED, selected_NE):
    """`mean_outputs` with the bug that the exercise plants."""
    said_NED = outputs_NED * selected_NE[..., None]
    return said_NED.mean(0)


def _outputs(rng):
    cases = []
    for N, E, D, k in ((6, 3, 2, 1), (10, 4, 3, 2), (5, 5, 5, 2)):
        selected = rng.random((N, E)).argsort(1) < k
        selected[:, 0] = False
        cases.append((rng.normal(size=(N, E, D)) + 1, selected))
    return cases


_MEAN_OUTPUTS = Check(
    mean_outputs,
    _outputs,
    "an array [E, D]",
    (
        Mistake(
            lambda o, s: o.mean(0),
            "this is over all tokens, also those that never asked this expert.",
        ),
        Mistake(
            lambda o, s: (o * s[..., None]).sum(0) / s.sum(0)[:, None],
            "right, but for an expert that no token selected, 0 / 0 = nan: leave it at 0.",
        ),
        Mistake(
            lambda o, s: (o * s[..., None]).sum(0),
            "this is the sum: divide by the number of tokens that selected the expert.",
        ),
        Mistake(
            lambda o, s: (o * s[..., None]).sum(0) / s.sum(),
            "this divides by all selections together: each expert has its own number of tokens.",
        ),
        Mistake(
            lambda o, s: np.broadcast_to(o[s].mean(0), o.shape[1:]).copy(),
            "this is one mean for all experts: each needs its own.",
        ),
    ),
    given=mean_outputs_given,
)

# --- matched controls ---------------------------------------------------------------------------


def usage_matched(effect_E, usage_E, m):
    """Mean effect of the m others whose usage is nearest, of each expert; ties: lower first."""
    found = []
    for e in range(len(effect_E)):
        others = [i for i in range(len(effect_E)) if i != e]
        others.sort(key=lambda i, e=e: (abs(usage_E[i] - usage_E[e]), i))
        found.append(sum(float(effect_E[i]) for i in others[:m]) / m)
    return np.array(found)


def _effects(rng):
    cases = [(np.array([9.0, 1.0, 2.0, 3.0]), np.array([0.5, 0.4, 0.1, 0.0]), 1)]
    for E, m in ((6, 2), (8, 3), (5, 4)):
        cases.append((rng.normal(size=E) * 3, rng.permutation(E) / E + rng.random(E) / 50, m))
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


def rank_correlation(a_X, b_X):
    """Spearman's correlation: Pearson's of the ranks. Without ties."""
    ranks = [[sum(y < x for y in values) for x in values] for values in (a_X, b_X)]
    n = len(ranks[0])
    gap = sum((p - q) ** 2 for p, q in zip(*ranks, strict=True))
    return 1 - 6 * gap / (n * (n * n - 1))


def _pairs(rng):
    cases = [
        (np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 10.0, 100.0, 50.0])),
        (np.array([3.0, 1.0, 2.0]), np.array([-3.0, -1.0, -2.0])),
    ]
    for n in (6, 10, 25):
        a = rng.normal(size=n)
        cases.append((a, np.exp(2 * (a + rng.normal(size=n)))))
    return cases


def _ranks(x):
    return np.argsort(np.argsort(x))


def _pearson(a, b):
    return np.corrcoef(a, b)[0, 1]


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
            lambda a, b: _pearson(np.argsort(a), np.argsort(b)),
            "np.argsort gives the order, not the ranks: apply it twice.",
        ),
        Mistake(
            lambda a, b: abs(_pearson(_ranks(a), _ranks(b))),
            "a criterion that ranks the experts the wrong way round deserves its minus sign.",
        ),
        Mistake(
            lambda a, b: -_pearson(_ranks(a), _ranks(b)),
            "the sign is wrong: one of the two was ranked from the largest down.",
        ),
        Mistake(
            _kendall, "this is Kendall's tau, which counts pairs: take Pearson's of the ranks."
        ),
        Mistake(
            lambda a, b: _pearson(_ranks(a), _ranks(b)) ** 2,
            "this is its square.",
        ),
        Mistake(
            lambda a, b: _pearson(_ranks(a), b),
            "only the first was turned into ranks.",
        ),
    ),
)

CHECKS = (_MARGIN, _MEAN_OUTPUTS, _MATCHED, _RANK)
