"""Answers to lesson 5."""

import jax.numpy as jnp
import numpy as np
from scipy.stats import kendalltau, rankdata, spearmanr


def until(refusal, count, gone):
    for r, c in zip(refusal, count, strict=True):
        if gone(r, refusal):
            return c
    return np.nan


def half(r, refusal):
    return r <= 0.5 * refusal[0]


def nearest(effect, usage, m, skipped=0):
    made = np.zeros(len(effect))
    for e in range(len(effect)):
        others = [i for i in range(len(effect)) if i != e]
        others.sort(key=lambda i: abs(usage[i] - usage[e]))
        made[e] = np.mean([effect[i] for i in others[skipped : skipped + m]])
    return made


def pearson(a, b):
    a, b = a - a.mean(), b - b.mean()
    return a @ b / np.sqrt((a @ a) * (b @ b))


def ranked(method):
    return lambda a, b: pearson(rankdata(a, method) * 1.0, rankdata(b, method) * 1.0)


def short(a, b):
    n = len(a)
    return 1 - 6 * ((rankdata(a) - rankdata(b)) ** 2).sum() / (n * (n**2 - 1))


def turned(**changes):
    def answer(factors):
        made = factors.copy()
        for i, x in changes.items():
            made[int(i[1:])] = x
        return made

    return answer


RIGHT = {
    "few": [
        lambda: ("#panel=refusal&set_back=2.5", "#panel=refusal&set_back=1.3"),
        lambda: ["#set_back=0.4,2.5", "#set_back=1.16,2.9"],
        lambda: (
            "https://host/x.html#panel=refusal&set_back=2.5,1.14&pair=3",
            "https://host/x.html#panel=ask&set_back=0.14,0.16",
        ),
        lambda: tuple(f"#set_back={experts}" for experts in ("2.5", "0.0")),
    ],
    "half_gone": [
        lambda r, c: until(r, c, half),
        lambda r, c: min(c[2 * r <= r[0]], default=np.nan),
        lambda r, c: float(c[np.argmax(r / r[0] <= 0.5)]) if (r / r[0] <= 0.5).any() else np.nan,
        lambda r, c: np.append(c[r[0] - r >= r[0] / 2].astype(float), np.nan)[0],
    ],
    "usage_matched": [
        nearest,
        lambda x, u, m: np.array(
            [
                np.delete(x, e)[np.argsort(np.abs(np.delete(u, e) - u[e]))[:m]].mean()
                for e in range(len(x))
            ]
        ),
        lambda x, u, m: (
            x[np.argsort(np.abs(u[:, None] - u) + np.diag([99.0] * len(u)), 1)[:, :m]].sum(1) / m
        ),
        lambda x, u, m: nearest(x[::-1], u[::-1], m)[::-1],  # of equally near ones the last
        lambda x, u, m: jnp.array(nearest(x, u, m)),
    ],
    "rank_correlation": [
        ranked("average"),
        lambda a, b: spearmanr(a, b).statistic,
        lambda a, b: spearmanr(a, b)[0],
        lambda a, b: np.corrcoef(rankdata(a), rankdata(b))[1, 0],
        lambda a, b: float(jnp.corrcoef(jnp.array(rankdata(a)), jnp.array(rankdata(b)))[0, 1]),
    ],
    "turn": [
        turned(_3=1.0),
        turned(_0=0),
        lambda f: f * np.array([1, 1, 9, 1, 1]),
        lambda f: f - np.array([0.5, 0, 0, 0, 0]),
        lambda f: jnp.array(f).at[4].set(10),
    ],
}

WRONG = {
    "few": {
        "one state": lambda: "#set_back=2.5",
        "three states": lambda: ("#set_back=2.5", "#set_back=1.3", "#"),
        "the other way round": lambda: ("#set_back=1.3", "#set_back=2.5"),
        "the second nothing": lambda: ("#set_back=2.5", ""),
        "the second unchanged": lambda: ("#set_back=2.5", "#panel=refusal"),
        "an expert that does not matter": lambda: ("#set_back=0.4", "#set_back=1.3"),
        "a control that matters": lambda: ("#set_back=2.5,1.14", "#set_back=2.5,0.0"),
        "silenced": lambda: ("#silenced=2.5", "#silenced=1.3"),
        "not as many": lambda: ("#set_back=2.5,0.4", "#set_back=1.3"),
        "many": lambda: ("#set_back=2.5,0.4,1.14", "#set_back=0.1,0.2,0.3"),
        "before alignment": lambda: ("#model=pretrained&set_back=2.5", "#set_back=1.3"),
        "no such expert": lambda: ("#set_back=2.5", "#set_back=3.1"),
        "numbers": lambda: (2.5, 1.3),
    },
    "half_gone": {
        "less than half": lambda r, c: until(r, c, lambda x, r: x < r[0] / 2),
        "half of the most": lambda r, c: until(r, c, lambda x, r: x <= r.max() / 2),
        "the place": lambda r, c: until(r, np.arange(len(r)), half),
        "powers of two": lambda r, c: until(r, [0, *2 ** np.arange(len(r) - 1)], half),
        "the last count forgotten": lambda r, c: until(r[:-1], c[:-1], lambda x, _: half(x, r)),
        "never is the last count": lambda r, c: np.nan_to_num(until(r, c, half), nan=c[-1]),
        "never is inf": lambda r, c: np.nan_to_num(until(r, c, half), nan=np.inf),
        "never above again": lambda r, c: next(
            (c[i] for i in range(len(r)) if (r[i:] <= r[0] / 2).all()), np.nan
        ),
        "half of what is left": lambda r, c: until(r, c, lambda x, r: x <= (r[0] + r[-1]) / 2),
    },
    "usage_matched": {
        "m is 3": lambda x, u, m: nearest(x, u, 3),
        "m is 1": lambda x, u, m: nearest(x, u, 1),
        "itself, if used as much as another": lambda x, u, m: x[
            np.argsort(np.abs(u[:, None] - u), 1, kind="stable")[:, 1 : m + 1]
        ].mean(1),
        "one too far": lambda x, u, m: nearest(x, u, m + 1),
        "the last expert forgotten": lambda x, u, m: np.append(nearest(x, u, m)[:-1], 0),
        "of less usage": lambda x, u, m: np.array(
            [x[np.argsort(np.where(u < v, v - u, 9 + u))[:m]].mean() for v in u]
        ),
        "the median": lambda x, u, m: np.array(
            [
                np.median(np.delete(x, e)[np.argsort(np.abs(np.delete(u, e) - u[e]))[:m]])
                for e in range(len(x))
            ]
        ),
        "neighbours by number": lambda x, u, m: nearest(x, np.arange(len(x)), m),
    },
    "rank_correlation": {
        "the short formula": short,
        "ordinal ranks": ranked("ordinal"),
        "least ranks": ranked("min"),
        "largest ranks": ranked("max"),
        "dense ranks": ranked("dense"),
        "tau b": lambda a, b: kendalltau(a, b).statistic,
        "the first left out": lambda a, b: np.nan_to_num(ranked("average")(a[1:], b[1:])),
        "only ties": lambda a, b: ranked("average")(a, b) if len({*a}) < len(a) else short(a, -b),
        "ranks by value, rounded": lambda a, b: ranked("average")(a.round(), b.round()),
    },
    "turn": {
        "two turned": turned(_0=0.5, _1=0.5),
        "too far": turned(_3=11),
        "below 0": turned(_2=-0.1),
        "the usual ones": lambda f: np.array([1, 1, 0.3, 1, 1]),
        "all frozen but nothing": lambda f: np.zeros(5),
        "four": lambda f: f[:4],
        "nan": turned(_1=np.nan),
        "shifted": lambda f: np.roll(f, 1),
    },
}
