"""Answers to lesson 6."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax


def scored(change, sd, largest=lambda sd: sd.max()):
    return change.mean(-1) / (sd + 0.001 * largest(sd))


def score(hazards, twins, **kinds):
    change = hazards - twins
    return scored(change, change.std(-1), **kinds)


def deltas(w, a, b, chosen):
    return np.array([w[e] + a[e] @ b[e] if chosen[e] else w[e] for e in range(len(w))])


def jaccard(before, after):
    return np.array(
        [
            len({*np.flatnonzero(x)} & {*np.flatnonzero(y)}) / (x | y).sum()
            for x, y in zip(before, after, strict=True)
        ]
    )


def selected(experts, E):
    return np.arange(E) == np.array(experts)[:, None]


def steered(z, off, least=lambda z: z.min(-1, keepdims=True) - 0.01):
    z = log_softmax(z, -1)
    return np.where(off, least(z), z)


def stand_ins(
    usage, chosen, order=lambda experts, usage: experts, better=lambda d, least: d < least
):
    taken = chosen.copy()
    for i in order(np.flatnonzero(chosen), usage):
        best, least = -1, np.inf
        for j in range(len(usage)):
            if not taken[j] and better(abs(usage[j] - usage[i]), least):
                best, least = j, abs(usage[j] - usage[i])
        taken[best] = True
    return taken & ~chosen


def sorted_stand_ins(usage, chosen):
    free, made = [j for j in range(len(usage)) if not chosen[j]], np.zeros(len(usage), bool)
    for i in np.flatnonzero(chosen):
        free.sort(key=lambda j: (abs(usage[j] - usage[i]), j))
        made[free.pop(0)] = True
    return made


def around(z, off):
    kept = np.where(off, np.inf, z).min(-1, keepdims=True)
    return np.where(np.isfinite(kept), kept, 0) - 0.01


RIGHT = {
    "contrast_score": [
        score,
        lambda h, t: (
            np.einsum("leb->le", h - t)
            / h.shape[2]
            / (
                np.sqrt(((h - t) ** 2).mean(2) - (h - t).mean(2) ** 2).clip(0)
                + np.std(h - t, 2).max() / 1000
            )
        ),
        lambda h, t: (
            (h.mean(-1) - t.mean(-1)) / (np.std(t - h, -1) + np.std(t - h, -1).max() * 1e-3)
        ),
        lambda h, t: jnp.array(score(h, t)),
    ],
    "answering": [
        lambda: "#panel=refusal&tuned=8",
        lambda: "#tuned=1",
        lambda: "https://host/x.html#panel=ask&tuned=8&frozen=1",
        lambda: "tuned=1&silenced=0.4",
    ],
    "route_kept": [
        lambda a, b: jaccard(a, b).mean(),
        lambda a, b: np.mean((a & b).sum(1) / (a | b).sum(1)),
        lambda a, b: np.mean((a * b).sum(1) / np.maximum(a, b).sum(1)),
        lambda a, b: ((a & b).sum(1) / (2 * a[0].sum() - (a & b).sum(1))).mean(),
        lambda a, b: jnp.mean(jnp.sum(jnp.array(a) & b, 1) / jnp.sum(jnp.array(a) | b, 1)),
    ],
    "unseen_change": [
        lambda E: (
            np.eye(E, dtype=bool),
            np.eye(E, k=1, dtype=bool) | np.eye(E, k=1 - E, dtype=bool),
        ),
        lambda E: (selected(range(E), E), selected([*range(1, E), 0], E)),
        lambda E: (np.roll(np.eye(E) > 0, -1, 1), np.eye(E) > 0),
        lambda E: [selected(range(E)[::-1], E), selected([0, *range(1, E)[::-1]], E)],
        lambda E: (jnp.eye(E, dtype=bool), jnp.roll(jnp.eye(E, dtype=bool), 1, axis=1)),
    ],
    "steer_off": [
        steered,
        lambda z, off: np.where(
            off, steered(z, 0 * off).min(1)[:, None] - 0.01, steered(z, 0 * off)
        ),
        lambda z, off: (
            steered(z, False)
            + off * (steered(z, False).min(-1, keepdims=True) - 0.01 - steered(z, False))
        ),
        lambda z, off: jnp.where(
            jnp.array(off),
            jax.nn.log_softmax(z, axis=-1).min(-1, keepdims=True) - 0.01,
            jax.nn.log_softmax(z, axis=-1),
        ),
    ],
    "usage_twin": [
        stand_ins,
        sorted_stand_ins,
        lambda u, c: jnp.array(stand_ins(u, c)),
        lambda u, c: sorted_stand_ins(-u, c),
    ],
}

WRONG = {
    "contrast_score": {
        "the largest of each layer": lambda h, t: score(
            h, t, largest=lambda sd: sd.max(-1, keepdims=True)
        ),
        "of each expert": lambda h, t: score(h, t, largest=lambda sd: sd + 1e-9),
        "the mean deviation": lambda h, t: score(h, t, largest=lambda sd: sd.mean()),
        "the first layer's largest": lambda h, t: score(h, t, largest=lambda sd: sd[0].max()),
        "the last pair forgotten": lambda h, t: score(h[..., :-1], t[..., :-1]),
        "no deviation is 0": lambda h, t: np.where((h - t).std(-1) > 1e-9, score(h, t), 0),
        "a hundredth": lambda h, t: score(h, t, largest=lambda sd: 10 * sd.max()),
        "the first expert never": lambda h, t: (
            score(h, t) * (np.arange(h.shape[1]) > 0) * 1.0 + (h - t)[:, :1].mean(-1) * 0
        ),
    },
    "answering": {
        "nothing": lambda: "#",
        "an expert silenced": lambda: "#silenced=2.5",
        "masked": lambda: "#masked=2.5,0.4",
        "a direction": lambda: "#direction=2",
        "another direction": lambda: "#panel=refusal&direction=1",
        "set back": lambda: "#set_back=2.5,0.4",
        "all tuned, one set back": lambda: "#tuned=8&set_back=2.5",
        "before alignment": lambda: "#model=pretrained",
        "other numbers of experts": lambda: "#tuned=2",
        "too much": lambda: "#tuned=8&direction=0",
    },
    "route_kept": {
        "two experts": lambda a, b: ((a & b).sum(1) / (4 - (a & b).sum(1))).mean(),
        "the last token forgotten": lambda a, b: jaccard(a[:-1], b[:-1]).sum() / len(a),
        "the first token forgotten": lambda a, b: jaccard(a[1:], b[1:]).sum() / len(a),
        "the last expert forgotten": lambda a, b: np.nan_to_num(
            (a & b)[:, :-1].sum(1) / (a | b)[:, :-1].sum(1)
        ).mean(),
        "by all selections": lambda a, b: ((a & b).sum(1) / (a.sum(1) + b.sum(1))).mean(),
        "the median": lambda a, b: np.median(jaccard(a, b)),
        "the best expert": lambda a, b: (a.argmax(1) == b.argmax(1)).mean(),
    },
    "unseen_change": {
        "pairs exchanged": lambda E: (
            np.eye(E, dtype=bool),
            selected([e + 1 - 2 * (e % 2) if e + 1 - 2 * (e % 2) < E else e for e in range(E)], E),
        ),
        "turned round": lambda E: (np.eye(E, dtype=bool), np.eye(E, dtype=bool)[::-1]),
        "eight": lambda E: (np.eye(8, dtype=bool), np.roll(np.eye(8, dtype=bool), 1, 0)),
        "one kept": lambda E: (
            np.eye(E, dtype=bool),
            selected([*np.roll(range(E - 1), 1), E - 1], E),
        ),
        "numbers": lambda E: (np.eye(E), np.roll(np.eye(E), 1, 0)),
        "one token too many": lambda E: (np.eye(E + 1, E, dtype=bool),) * 2,
    },
    "steer_off": {
        "the batch's minimum": lambda z, off: steered(z, off, lambda z: z.min() - 0.01),
        "the first token's minimum": lambda z, off: steered(z, off, lambda z: z[0].min() - 0.01),
        "the minimum of those that stay": lambda z, off: np.where(
            off, around(log_softmax(z, -1), off), log_softmax(z, -1)
        ),
        "0.1 below": lambda z, off: steered(z, off, lambda z: z.min(-1, keepdims=True) - 0.1),
        "the last expert stays": lambda z, off: steered(
            z, off & (np.arange(len(off)) + 1 < len(off))
        ),
        "the first expert stays": lambda z, off: steered(z, off & (np.arange(len(off)) > 0)),
        "raw logits": lambda z, off: np.where(
            off, log_softmax(z, -1).min(-1, keepdims=True) - 0.01, z
        ),
        "the median": lambda z, off: steered(z, off, lambda z: np.median(z, -1, keepdims=True)),
    },
    "usage_twin": {
        "of equally near ones the last": lambda u, c: stand_ins(
            u, c, better=lambda d, least: d <= least
        ),
        "from the last chosen one": lambda u, c: stand_ins(u, c, lambda experts, _: experts[::-1]),
        "by their usage": lambda u, c: stand_ins(
            u, c, lambda experts, u: experts[np.argsort(u[experts])]
        ),
        "the most used first": lambda u, c: stand_ins(
            u, c, lambda experts, u: experts[np.argsort(-u[experts], kind="stable")]
        ),
        "the first chosen one forgotten": lambda u, c: stand_ins(
            u, c, lambda experts, _: experts[1:]
        ),
        "the last chosen one forgotten": lambda u, c: stand_ins(
            u, c, lambda experts, _: experts[:-1]
        ),
        "expert 0 never": lambda u, c: stand_ins(np.append(9.0 if not c[0] else u[0], u[1:]), c),
        "numbers": lambda u, c: np.flatnonzero(stand_ins(u, c)),
        "chosen ones too": lambda u, c: stand_ins(u, c) | c,
    },
}
