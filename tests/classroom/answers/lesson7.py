"""Answers to lesson 7."""

import jax.numpy as jnp
import numpy as np


def least(luck, n):
    made = np.zeros(luck.shape, bool)
    for row, out in zip(luck, made, strict=True):
        out[np.argsort(row)[:n]] = True
    return made


def spread(p, s, k=None, E=None):
    f = s.sum(0) / (len(s) * (k or s[0].sum()))
    return (E or p.shape[1]) * (f * p.mean(0)).sum()


def heard(outputs, gates, removed):
    made = np.zeros((outputs.shape[0], outputs.shape[2]))
    for n in range(len(outputs)):
        for e in np.flatnonzero(~removed):
            made[n] += gates[n, e] * outputs[n, e]
    return made


def smallest(budgets, broken):
    return min((b for b, yes in zip(budgets, broken, strict=True) if yes), default=np.inf)


RIGHT = {
    "attack": [
        lambda: "#panel=refusal&direction=2",
        lambda: "#direction=1",
        lambda: "https://host/x.html#panel=refusal&direction=2&frozen=1",
        lambda: "direction=2&silenced=2.5",
    ],
    "hazard_balance": [
        lambda p, s, h: spread(p[h], s[h]),
        lambda p, s, h: (
            p.shape[1] * (s[h].sum(0) / s[h].sum() * np.average(p, axis=0, weights=h)).sum()
        ),
        lambda p, s, h: p.shape[1] * np.dot(s[h].mean(0), p[h].mean(0)) / s.sum(1).mean(),
        lambda p, s, h: jnp.array(spread(p[h == 1], s[h == 1])),
    ],
    "without": [
        heard,
        lambda o, g, r: ((g * ~r)[..., None] * o).sum(1),
        lambda o, g, r: np.einsum("ne,ned->nd", g[:, ~r], o[:, ~r]),
        lambda o, g, r: np.einsum("ne,ned,e->nd", g, o, 1 - r),
        lambda o, g, r: jnp.einsum("ne,ned->nd", jnp.where(r, 0, g), o),
    ],
    "break_count": [
        lambda b, r, at: smallest(b, r < at),
        lambda b, r, at: np.where(r < at, b, np.inf).min(),
        lambda b, r, at: float(b[r < at].min()) if np.any(r < at) else float("inf"),
        lambda b, r, at: next((x for x, y in sorted(zip(b, r, strict=True)) if y < at), np.inf),
        lambda b, r, at: jnp.min(jnp.where(r < at, b, jnp.inf)),
    ],
    "best_defence": [
        lambda x: x.min(1).argmax(),
        lambda x: int(np.argmax([min(row) for row in x])),
        lambda x: max(range(len(x)), key=lambda d: x[d].min()),
        lambda x: int(np.argsort(np.sort(x, 1)[:, 0])[-1]),
        lambda x: jnp.argmax(jnp.min(jnp.array(x), axis=1)),
    ],
}

WRONG = {
    "attack": {
        "nothing": lambda: "#panel=refusal",
        "two silenced": lambda: "#silenced=2.5,0.4",
        "four silenced": lambda: "#silenced=2.5,0.4,1.14,1.13",
        "masked": lambda: "#masked=2.5,0.4",
        "the direction of layer 0": lambda: "#direction=0",
        "tuned": lambda: "#tuned=8",
        "set back": lambda: "#set_back=2.5,0.4",
        "before alignment": lambda: "#model=pretrained&direction=2",
        "no such layer": lambda: "#direction=3",
        "every expert silenced": lambda: (
            "#silenced="
            + ",".join(f"{layer}.{expert}" for layer in range(3) for expert in range(18))
        ),
    },
    "hazard_balance": {
        "k is 2": lambda p, s, h: spread(p[h], s[h], 2),
        "18 experts": lambda p, s, h: spread(p[h], s[h], None, 18),
        "the first hazard alone": lambda p, s, h: spread(p[h][:1], s[h][:1]),
        "the last hazard forgotten": lambda p, s, h: (
            spread(p[h][:-1], s[h][:-1]) if h.sum() > 1 else 1.0
        ),
        "selections of the most probable": lambda p, s, h: spread(
            p[h], p[h] == p[h].max(1, keepdims=True)
        ),
        "the last expert forgotten": lambda p, s, h: (
            p.shape[1] * (s[h].sum(0) / s[h].sum() * p[h].mean(0))[:-1].sum()
        ),
        "selections of all": lambda p, s, h: p.shape[1] * (s.sum(0) / s.sum() * p[h].mean(0)).sum(),
    },
    "without": {
        "the first token whole": lambda o, g, r: (
            heard(o, g, r) + (np.arange(len(o)) == 0)[:, None] * heard(o, g, ~r)
        ),
        "only the first removed one": lambda o, g, r: heard(o, g, r & (np.cumsum(r) == 1)),
        "only the last removed one": lambda o, g, r: heard(
            o, g, r & (np.cumsum(r[::-1])[::-1] == 1)
        ),
        "the last expert never": lambda o, g, r: heard(o, g, r | (np.arange(len(r)) + 1 == len(r))),
        "expert 0 never": lambda o, g, r: heard(o, g, r | (np.arange(len(r)) == 0)),
        "gates made even": lambda o, g, r: heard(o, np.where(g > 0, 0.3, 0), r),
        "nobody left is everybody": lambda o, g, r: heard(o, g, r & ~r.all()),
    },
    "break_count": {
        "the level is one half": lambda b, r, at: smallest(b, r < 0.5),
        "at the level": lambda b, r, at: smallest(b, r <= at),
        "the last budget never": lambda b, r, at: smallest(b[:-1], r[:-1] < at),
        "the first budget never": lambda b, r, at: smallest(b[1:], r[1:] < at),
        "the least refusal": lambda b, r, at: float(b[r.argmin()]) if (r < at).any() else np.inf,
        "in order": lambda b, r, at: float(b[r < at][0]) if (r < at).any() else np.inf,
        "never is nan": lambda b, r, at: smallest(b, r < at) if (r < at).any() else np.nan,
        "how many": lambda b, r, at: float((b < smallest(b, r < at)).sum()),
        "the place": lambda b, r, at: float(np.argmax(r < at)) if (r < at).any() else np.inf,
    },
    "best_defence": {
        "the last attack forgotten": lambda x: int(x[:, : max(1, x.shape[1] - 1)].min(1).argmax()),
        "the first attack forgotten": lambda x: int(x[:, min(1, x.shape[1] - 1) :].min(1).argmax()),
        "the last defence never": lambda x: int(x[:-1].min(1).argmax()),
        "the first defence never": lambda x: 1 + int(x[1:].min(1).argmax()),
        "float": lambda x: float(x.min(1).argmax()),
        "counted from 1": lambda x: 1 + int(x.min(1).argmax()),
        "the largest sum": lambda x: int(x.sum(1).argmax()),
        "the smallest spread": lambda x: int(np.ptp(x, 1).argmin()),
        "the attack": lambda x: int(x.min(0).argmin()),
    },
}
