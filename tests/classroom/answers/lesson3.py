"""Answers to lesson 3."""

import jax.numpy as jnp
import numpy as np
from scipy.special import rel_entr


def counted(selected, labels, G):
    made = np.zeros((G, selected.shape[1]))
    for token, label in zip(selected, labels, strict=True):
        for e in range(len(token)):
            made[label, e] += token[e]
    return made


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
    "label_counts": [
        counted,
        lambda s, g, G: np.array([s[g == label].sum(0) for label in range(G)]),
        lambda s, g, G: np.eye(G)[g].T @ s,
        lambda s, g, G: (g == np.arange(G)[:, None]).astype(int) @ s.astype(int),
        lambda s, g, G: jnp.zeros((G, s.shape[1])).at[g].add(s),
    ],
    "nmi": [
        lambda c: nats(c) / np.log(len(c)),
        lambda c: nats(c.T) / np.log2(len(c)) / np.log(2),
        lambda c: jnp.array(nats(c)) / jnp.log(c.shape[0]),
    ],
    "token_labels": [
        lambda t, T: np.repeat(t, T),
        lambda t, T: np.tile(t[:, None], T).ravel(),
        lambda t, T: np.array([label for label in t for _ in range(T)]),
        lambda t, T: t[np.arange(len(t) * T) // T],
        lambda t, T: jnp.repeat(jnp.array(t), T),
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
    "label_counts": {
        "the last label never": lambda s, g, G: np.vstack([counted(s, g, G)[:-1], 0 * s[:1]]),
        "the first label never": lambda s, g, G: counted(s, g, G) * (np.arange(G) > 0)[:, None],
        "the last token forgotten": lambda s, g, G: counted(s[:-1], g[:-1], G),
        "the first token forgotten": lambda s, g, G: counted(s[1:], g[1:], G),
        "the last expert never": lambda s, g, G: (
            counted(s, g, G) * (np.arange(s.shape[1]) + 1 < s.shape[1])
        ),
        "labels that occur": lambda s, g, G: counted(s, g, g.max() + 1),
        "three labels": lambda s, g, G: counted(s, np.minimum(g, 2), 3),
        "labels of one token each": lambda s, g, G: np.minimum(counted(s, g, G), 1),
    },
    "nmi": {
        "eight topics": lambda c: nats(c) / np.log(8),
        "labels that occur": lambda c: nats(c) / np.log(c.any(1).sum()),
        "square tables": lambda c: nats(c) / np.log(max(c.shape)),
        "log10": lambda c: nats(c) / np.log10(len(c)),
        "the last label forgotten": lambda c: nats(c[:-1]) / np.log(len(c)),
        "at most 1/2": lambda c: min(nats(c) / np.log(len(c)), 0.5),
    },
    "token_labels": {
        "two positions": lambda t, T: np.repeat(t, 2),
        "three positions": lambda t, T: np.repeat(t, 3),
        "floats": lambda t, T: np.outer(t, np.ones(T)).ravel(),
        "sorted": lambda t, T: np.sort(np.tile(t, T)),
        "numbered": lambda t, T: np.arange(len(t) * T) // T,
        "the last forgotten": lambda t, T: np.append(np.repeat(t, T)[:-1], 0),
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
