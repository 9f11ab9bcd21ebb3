"""Answers to lesson 8."""

from itertools import permutations

import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import sem


def medians(values, picks):
    return np.array([np.median(values[row]) for row in picks])


def ends(x, low=2.5, high=97.5, **kinds):
    return tuple(np.percentile(x, [low, high], **kinds))


def between(right):
    means = [row.mean() for row in right]
    return np.std(means, ddof=1) / np.sqrt(len(means))


def size(change, ddof=1):
    return change.mean() / np.sqrt(((change - change.mean()) ** 2).sum() / (len(change) - ddof))


def extremes(x):
    return int(np.argmax(x)), int(np.argmin(x))


def hungarian(score):
    return linear_sum_assignment(score, maximize=True)[1]


def exhaustive(score):
    every = permutations(range(len(score)))
    return np.array(max(every, key=lambda one: sum(score[i, j] for i, j in enumerate(one))))


def paired(test, partners):
    return np.mean([test[i, j] for i, j in enumerate(partners)])


def in_order(score):
    free, made = {*range(len(score))}, []
    for row in score:
        made.append(max(free, key=lambda j: row[j]))
        free.remove(made[-1])
    return np.array(made)


RIGHT = {
    "interval": [
        lambda x, i: ends(medians(x, i)),
        lambda x, i: np.quantile(np.median(x[i], 1), (0.025, 0.975)),
        lambda x, i: [float(np.percentile(np.median(x[i], -1), q)) for q in (2.5, 97.5)],
        lambda x, i: jnp.percentile(jnp.median(jnp.array(x)[i], 1), jnp.array([2.5, 97.5])),
    ],
    "uncertainty": [
        between,
        lambda x: sem(x.mean(1)),
        lambda x: (x.mean(1).var(ddof=1) / len(x)) ** 0.5,
        lambda x: x.mean(1).std() / (len(x) - 1) ** 0.5,
        lambda x: jnp.std(jnp.mean(jnp.array(x), 1), ddof=1) / jnp.sqrt(len(x)),
    ],
    "effect": [
        lambda f, c: size(f - c),
        lambda f, c: (f.mean() - c.mean()) / np.std(f - c, ddof=1),
        lambda f, c: np.mean(f - c) / np.sqrt(np.cov(f - c)),
        lambda f, c: jnp.mean(jnp.array(f - c)) / jnp.std(jnp.array(f - c), ddof=1),
    ],
    "cherry_pick": [
        lambda f, c: extremes(f - c),
        lambda f, c: np.argsort(f - c)[[-1, 0]],
        lambda f, c: (np.argmin(c - f), np.argmax(c - f)),
        lambda f, c: [g(range(len(f)), key=lambda s: f[s] - c[s]) for g in (max, min)],
        lambda f, c: (jnp.argmax(jnp.array(f - c)), jnp.argmin(jnp.array(f - c))),
    ],
    "match": [
        hungarian,
        exhaustive,
        lambda s: linear_sum_assignment(-s)[1],
        lambda s: jnp.array(hungarian(s)),
        lambda s: np.argsort(hungarian(s.T)),
    ],
    "left_out": [
        lambda fit, test: paired(test, exhaustive(fit)),
        lambda fit, test: test[range(len(fit)), hungarian(fit)].mean(),
        lambda fit, test: np.trace(test[:, hungarian(fit)]) / len(test),
        lambda fit, test: jnp.mean(jnp.array(test)[jnp.arange(len(fit)), hungarian(fit)]),
    ],
}

WRONG = {
    "interval": {
        "a 90 % interval": lambda x, i: ends(medians(x, i), 5, 95),
        "nearest": lambda x, i: ends(medians(x, i), method="nearest"),
        "the last resample forgotten": lambda x, i: ends(medians(x, i)[:-1] if len(i) > 1 else x),
        "the first resample forgotten": lambda x, i: ends(medians(x, i)[1:] if len(i) > 1 else x),
        "resamples drawn anew": lambda x, i: ends(
            medians(x, np.random.default_rng(0).integers(0, len(x), i.shape))
        ),
        "the lower middle": lambda x, i: ends(np.sort(x[i], 1)[:, (i.shape[1] - 1) // 2]),
        "the upper middle": lambda x, i: ends(np.sort(x[i], 1)[:, i.shape[1] // 2]),
        "the last seed forgotten": lambda x, i: ends(medians(x, i[:, :-1])),
        "3 and 97": lambda x, i: ends(medians(x, i), 3, 97),
    },
    "uncertainty": {
        "of ten seeds": lambda x: x.mean(1).std(ddof=1) / 10**0.5,
        "the last seed forgotten": lambda x: between(x[:-1]) if len(x) > 2 else 0.1,
        "the first prompt forgotten": lambda x: between(x[:, 1:]) if x.shape[1] > 1 else 0.1,
        "numbers, not shares": lambda x: x.sum(1).std(ddof=1) / len(x) ** 0.5,
        "as for shares": lambda x: (x.mean() * (1 - x.mean()) / len(x)) ** 0.5,
        "medians": lambda x: np.median(x, 1).std(ddof=1) / len(x) ** 0.5,
        "the range": lambda x: np.ptp(x.mean(1)) / 2,
    },
    "effect": {
        "the last seed forgotten": lambda f, c: size((f - c)[:-1]) if len(f) > 2 else 0.0,
        "the first seed forgotten": lambda f, c: size((f - c)[1:]) if len(f) > 2 else 0.0,
        "control minus finding": lambda f, c: size(c - f),
        "ddof 0": lambda f, c: size(f - c, 0),
        "the median": lambda f, c: np.median(f - c) / (f - c).std(ddof=1),
        "never negative": lambda f, c: max(size(f - c), 0.0),
        "the finding's own spread": lambda f, c: (f - c).mean() / f.std(ddof=1),
        "of the first ten": lambda f, c: size(f[:3] - c[:3]),
    },
    "cherry_pick": {
        "the last seed never": lambda f, c: extremes((f - c)[:-1]),
        "the first seed never": lambda f, c: tuple(1 + i for i in extremes((f - c)[1:])),
        "the size of the gap": lambda f, c: extremes(abs(f - c)),
        "ratios": lambda f, c: extremes(f / c),
        "the finding alone": lambda f, c: extremes(f),
        "the control alone": lambda f, c: extremes(-c),
        "floats": lambda f, c: tuple(map(float, extremes(f - c))),
        "relative gaps": lambda f, c: extremes((f - c) / abs(c)),
        "the first and the last": lambda f, c: (0, len(f) - 1),
    },
    "match": {
        "first come, first served": in_order,
        "last come, first served": lambda s: in_order(s[::-1])[::-1].copy(),
        "the columns choose": lambda s: np.argsort(in_order(s.T)),
        "the smallest total": lambda s: hungarian(-s),
        "floats": lambda s: hungarian(s) * 1.0,
        "sizes": lambda s: hungarian(abs(s)),
        "rows of the columns": lambda s: hungarian(s.T),
        "positive ones alone": lambda s: hungarian(np.maximum(s, 0)),
        "no negative total": lambda s: hungarian(s) if s.sum() > 0 else np.arange(len(s)),
        "the largest product": lambda s: hungarian(np.log(s + 1.001)),
    },
    "left_out": {
        "the last pair forgotten": lambda fit, test: (
            test[range(len(fit) - 1), hungarian(fit)[:-1]].sum() / len(fit)
        ),
        "the first pair forgotten": lambda fit, test: paired(test[1:], hungarian(fit)[1:]),
        "the best rows": lambda fit, test: paired(test, fit.argmax(1)),
        "greedy": lambda fit, test: paired(test, in_order(fit)),
        "of the sum": lambda fit, test: paired(test, hungarian(fit + test)),
        "the fit's scores": lambda fit, test: paired(fit, hungarian(fit)),
        "matched by the test": lambda fit, test: paired(test, hungarian(test)),
        "sizes": lambda fit, test: paired(abs(test), hungarian(fit)),
        "not matched": lambda fit, test: np.trace(test) / len(test),
    },
}
