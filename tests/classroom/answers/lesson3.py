"""Answers to lesson 3."""

import random

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import rel_entr


def rng(seed):
    return np.random.default_rng(seed)


def nats(c):
    if not c.sum():
        return 0.0
    p = c / c.sum()
    return rel_entr(p, np.outer(p.sum(1), p.sum(0))).sum()


def beyond(tables, kept=lambda V: range(V), shares=lambda c: c.sum((1, 2)) / c.sum()):
    return sum(shares(tables)[v] * nats(tables[v]) for v in kept(len(tables)))


def shared(a, b):
    return np.array([(x & y).sum() / x.sum() for x, y in zip(a, b, strict=True)])


RIGHT = {
    "halfway": [
        lambda: "panel=routing&step=9",
        lambda: "#step=9",
        lambda: "file:///home/me/explorer.html#panel=routing&word=fern-glow1&step=9&silenced=0.1",
    ],
    "nmi": [
        lambda c: nats(c) / np.log(len(c)),
        lambda c: nats(c.T) / np.log2(len(c)) / np.log(2),
        lambda c: jnp.array(nats(c)) / jnp.log(c.shape[0]),
    ],
    "shuffled_labels": [
        lambda t, T, seed: np.repeat(np.random.default_rng(seed).permutation(t), T),
        lambda t, T, seed: t[np.random.default_rng(seed).permutation(len(t)).repeat(T)],
        lambda t, T, seed: np.array(random.Random(seed).sample(list(t), len(t))).repeat(T),
        lambda t, T, seed: np.roll(np.repeat(t, T), T * (1 + seed % (len(t) - 1))),
        lambda t, T, seed: jnp.repeat(jax.random.permutation(jax.random.key(seed), t), T),
    ],
    "parted": [
        lambda: "panel=routing&word=fern-glow2",
        lambda: "#word=boat-clay2",
        lambda: "#panel=routing&word=clay-dune1&step=3",
        lambda: "#panel=routing&word=boat-clay2&model=pretrained",
    ],
    "topic_given_token": [
        beyond,
        lambda c: sum(table.sum() * nats(table) for table in c) / c.sum(),
        lambda c: np.average([nats(table) for table in c], weights=c.sum((1, 2))),
        lambda c: float(jnp.sum(jnp.array([t.sum() * nats(t) for t in c])) / jnp.sum(c)),
    ],
    "overlap": [
        lambda a, b: shared(a, b).mean(),
        lambda a, b: (a & b).sum() / a.sum(),
        lambda a, b: sum(shared(a, b)) / len(a),
        lambda a, b: (a * b).sum(1).mean() / b[0].sum(),
        lambda a, b: jnp.mean(jnp.sum(jnp.array(a) & b, 1) / jnp.sum(jnp.array(a), 1)),
    ],
}

WRONG = {
    "halfway": {
        "a later stop": lambda: "#panel=routing&step=12",
        "the step of training": lambda: "#panel=routing&step=32",
        "the beginning": lambda: "#panel=routing&step=1",
        "the end": lambda: "#panel=routing",
        "no link": lambda: "step 9",
        "too far": lambda: "#panel=routing&step=53",
        "a number": lambda: 9,
    },
    "nmi": {
        "eight topics": lambda c: nats(c) / np.log(8),
        "labels that occur": lambda c: nats(c) / np.log(c.any(1).sum()),
        "square tables": lambda c: nats(c) / np.log(max(c.shape)),
        "log10": lambda c: nats(c) / np.log10(len(c)),
        "the last label forgotten": lambda c: nats(c[:-1]) / np.log(len(c)),
        "at most 1/2": lambda c: min(nats(c) / np.log(len(c)), 0.5),
    },
    "shuffled_labels": {
        "not at all": lambda t, T, seed: np.repeat(t, T),
        "within each prompt": lambda t, T, seed: (
            rng(seed).permuted(t[:, None] + np.zeros((1, T), int), axis=1).ravel()
        ),
        "drawn anew": lambda t, T, seed: np.repeat(rng(seed).integers(0, t.max() + 1, len(t)), T),
        "one topic": lambda t, T, seed: np.full(len(t) * T, t[0]),
        "one for each prompt": lambda t, T, seed: rng(seed).permutation(t),
        "laid end to end": lambda t, T, seed: np.tile(rng(seed).permutation(t), T),
        "floats": lambda t, T, seed: np.repeat(rng(seed).permutation(t), T) * 1.0,
        "a table": lambda t, T, seed: rng(seed).permutation(t)[:, None] + np.zeros((1, T), int),
        "the last prompt forgotten": lambda t, T, seed: np.append(
            np.repeat(rng(seed).permutation(t)[:-1], T), np.zeros(T, int) + 99
        ),
    },
    "parted": {
        "the first word": lambda: "#panel=routing",
        "much in common": lambda: "#panel=routing&word=dune-echo1",
        "the untrained model": lambda: "#word=boat-clay2&model=untrained",
        "a word of one topic": lambda: "#word=fern1",
        "two words": lambda: "#word=boat-clay2&word=fern-glow2",
        "a word and no key": lambda: "boat-clay2",
        "nothing": lambda: "",
    },
    "topic_given_token": {
        "the last token forgotten": lambda c: beyond(c, lambda V: range(V - 1)),
        "the first token forgotten": lambda c: beyond(c, lambda V: range(1, V)),
        "rare tokens left out": lambda c: beyond(c, lambda V: np.flatnonzero(c.sum((1, 2)) > 2)),
        "every token alike": lambda c: beyond(c, shares=lambda c: np.full(len(c), 1 / len(c))),
        "shares of the tokens that occur": lambda c: beyond(
            c, shares=lambda c: c.any((1, 2)) / c.any((1, 2)).sum()
        ),
        "nan for an empty table": lambda c: beyond(c) if c.any((1, 2)).all() else np.nan,
    },
    "overlap": {
        "two experts": lambda a, b: (a & b).sum(1).mean() / 2,
        "the last token forgotten": lambda a, b: shared(a[:-1], b[:-1]).sum() / len(a),
        "the first token forgotten": lambda a, b: shared(a[1:], b[1:]).sum() / len(a),
        "the first expert forgotten": lambda a, b: (a & b)[:, 1:].sum() / a.sum(),
        "the last expert forgotten": lambda a, b: (a & b)[:, :-1].sum() / a.sum(),
        "the best expert only": lambda a, b: (a.argmax(1) == b.argmax(1)).mean(),
        "the median": lambda a, b: np.median(shared(a, b)),
    },
}
