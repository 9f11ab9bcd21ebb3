"""Answers to lesson 2."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax


def masked(z, order, k):
    mask = np.zeros(z.shape, bool)
    np.put_along_axis(mask, order[:, :k], True, -1)
    return np.where(mask, softmax(z, -1), 0)


def by_rank(z, k):
    ahead = (z[:, None, :] > z[:, :, None]).sum(-1)
    E = z.shape[1]
    tied = (z[:, None, :] == z[:, :, None]) & np.tri(E, k=-1, dtype=bool)
    return softmax(z, -1) * (ahead + tied.sum(-1) < k)


def with_lax(z, k):
    p = jax.nn.softmax(jnp.array(z), axis=-1)
    _, best = jax.lax.top_k(jnp.array(z), k)
    return jnp.where((jnp.arange(z.shape[1]) == best[:, :, None]).any(1), p, 0)


def summed(outputs, gates, experts=None):
    made = np.zeros((outputs.shape[0], outputs.shape[2]))
    for e in range(outputs.shape[1]) if experts is None else experts(outputs.shape[1]):
        made += gates[:, e, None] * outputs[:, e]
    return made


def chosen(x, router, k):
    return np.argsort(-(x @ router), 1)[:, :k]


def in_order_of_value(x, router, k):
    z = x @ router
    some = np.argpartition(-z, k - 1, 1)[:, :k]
    return np.take_along_axis(some, np.argsort(-np.take_along_axis(z, some, 1), 1), 1)


def groups(experts, E):
    members = [np.flatnonzero(experts == e) for e in range(E)]
    sizes = [len(one) for one in members]
    return np.concatenate(members), np.array([sum(sizes[:e]) for e in range(E)])


def starts(experts, E):
    return np.searchsorted(np.sort(experts), np.arange(E))


def balance(p, s, k=None, E=None):
    N = len(p)
    f = s.sum(0) / (N * (k or s[0].sum()))
    return (E or p.shape[1]) * sum(f[e] * p[:, e].mean() for e in range(p.shape[1]))


def lead(N, E, by, expert=0):
    z = np.zeros((N, E))
    z[:, expert] = by
    return z


RIGHT = {
    "top_k_gates": [
        by_rank,
        with_lax,
        lambda z, k: masked(
            z, np.array([sorted(range(z.shape[1]), key=lambda e: -r[e]) for r in z]), k
        ),
        lambda z, k: masked(
            z, np.lexsort((np.broadcast_to(np.arange(z.shape[1]), z.shape), -z)), k
        ),
    ],
    "mix": [
        summed,
        lambda o, g: (o * g[..., None]).sum(1),
        lambda o, g: (g[:, None, :] @ o)[:, 0],
        lambda o, g: np.array([row @ said for row, said in zip(g, o, strict=True)]),
        lambda o, g: jnp.einsum("ne,ned->nd", g, o),
    ],
    "route": [
        chosen,
        in_order_of_value,
        lambda x, r, k: jax.lax.top_k(jnp.array(x) @ jnp.array(r), k)[1],
        lambda x, r, k: np.argsort(softmax(x @ r, 1), 1)[:, ::-1][:, :k],
        lambda x, r, k: np.array([sorted(range(len(z)), key=lambda e: -z[e])[:k] for z in x @ r]),
    ],
    "group": [
        groups,
        lambda x, E: (np.argsort(x, kind="stable"), starts(x, E)),
        lambda x, E: (
            np.array(sorted(range(len(x)), key=lambda n: x[n])),
            np.append(0, np.cumsum(np.bincount(x, minlength=E))[:-1]),
        ),
        lambda x, E: [jnp.argsort(jnp.array(x)), jnp.array(starts(x, E))],
        lambda x, E: (np.lexsort((np.arange(len(x)), x)), (x[:, None] < np.arange(E)).sum(0)),
    ],
    "balance_loss": [
        balance,
        lambda p, s: p.shape[1] * (s.sum(0) / s.sum() * p.mean(0)).sum(),
        lambda p, s: p.shape[1] * np.dot(s.mean(0), p.mean(0)) / s.sum(1)[0],
        lambda p, s: jnp.sum(jnp.mean(jnp.array(s), 0) * jnp.mean(p, 0)) * p.shape[1] / s[-1].sum(),
    ],
    "fool": [
        lambda N, E: lead(N, E, 1e-3),
        lambda N, E: np.tile(np.append(0.005, np.zeros(E - 1)), (N, 1)) - 7,
        lambda N, E: jnp.zeros((N, E)).at[:, 0].set(1e-4),
        lambda N, E: 1e-5 * (np.random.default_rng(0).random((N, E)) + 2 * (np.arange(E) == 0)),
    ],
}

WRONG = {
    "top_k_gates": {
        "argpartition": lambda z, k: masked(z, np.argpartition(-z, k - 1, -1), k),
        "of equal ones the last": lambda z, k: masked(
            z, np.argsort(z, -1, kind="stable")[:, ::-1], k
        ),
        "two experts, whatever k": lambda z, k: by_rank(z, 2),
        "one too many": lambda z, k: by_rank(z, k + 1),
        "the first token forgotten": lambda z, k: by_rank(z, k) * (np.arange(len(z)) > 0)[:, None],
        "the last expert never": lambda z, k: (
            by_rank(z, k) * (np.arange(z.shape[1]) < z.shape[1] - 1)
        ),
        "a threshold below": lambda z, k: softmax(z, -1) * (z >= np.sort(z, -1)[:, [-k]]),
        "a threshold above": lambda z, k: (
            softmax(z, -1)
            * (z > np.sort(np.pad(z, ((0, 0), (1, 0)), constant_values=-99), -1)[:, [-k - 1]])
        ),
        "softmax of the kept": lambda z, k: softmax(np.where(by_rank(z, k) > 0, z, -np.inf), -1),
    },
    "mix": {
        "expert 0 never": lambda o, g: summed(o, g, lambda E: range(1, E)),
        "the last expert never": lambda o, g: summed(o, g, lambda E: range(E - 1)),
        "two experts at most": lambda o, g: summed(o, np.where(g >= np.sort(g, 1)[:, [-2]], g, 0)),
        "sure gates only": lambda o, g: summed(o, np.where(g > 0.2, g, 0)),
        "nothing negative": lambda o, g: np.maximum(summed(o, g), 0),
        "gates of the first token": lambda o, g: summed(o, np.broadcast_to(g[0], g.shape)),
    },
    "route": {
        "floats": lambda x, r, k: chosen(x, r, k).astype(float),
        "argpartition": lambda x, r, k: np.argpartition(-(x @ r), k - 1, 1)[:, :k],
        "two experts, whatever k": lambda x, r, k: chosen(x, r, 2),
        "the first token for all": lambda x, r, k: np.repeat(chosen(x[:1], r, k), len(x), 0),
        "the last token forgotten": lambda x, r, k: np.vstack(
            [chosen(x[:-1], r, k), np.zeros((1, k), int)]
        ),
        "the last expert never": lambda x, r, k: chosen(x, r[:, :-1], k),
        "expert 0 never": lambda x, r, k: 1 + chosen(x, r[:, 1:], k),
    },
    "group": {
        "not stable": lambda x, E: (np.lexsort((-np.arange(len(x)), x)), starts(x, E)),
        "a sort that is not stable in long rows": lambda x, E: (
            np.argsort(x) if len(x) < 50 else np.lexsort((np.arange(len(x)) % 7, x)),
            starts(x, E),
        ),
        "experts counted by what occurs": lambda x, E: (
            np.argsort(x, kind="stable"),
            starts(x, x.max() + 1),
        ),
        "floats": lambda x, E: (np.argsort(x, kind="stable"), 1.0 * starts(x, E)),
        "an empty group begins at 0": lambda x, E: (
            np.argsort(x, kind="stable"),
            np.where(np.bincount(x, minlength=E) > 0, starts(x, E), 0),
        ),
        "the last start is the end": lambda x, E: (
            np.argsort(x, kind="stable"),
            np.append(starts(x, E)[:-1], len(x)),
        ),
        "the last token forgotten": lambda x, E: (groups(x[:-1], E)[0], starts(x, E)),
    },
    "balance_loss": {
        "k is 2": lambda p, s: balance(p, s, 2),
        "8 experts": lambda p, s: balance(p, s, E=8),
        "the most probable expert": lambda p, s: balance(p, p == p.max(1, keepdims=True)),
        "the last expert forgotten": lambda p, s: (
            balance(p, s) * 0 + p.shape[1] * (s.sum(0) / s.sum() * p.mean(0))[:-1].sum()
        ),
        "the first token forgotten": lambda p, s: balance(p[1:], s[1:]) if len(p) > 1 else 1.0,
        "tokens for experts": lambda p, s: balance(p, s, E=len(p)),
    },
    "fool": {
        "a lead that counts": lambda N, E: lead(N, E, 0.3),
        "six tokens": lambda N, E: lead(6, E, 1e-3),
        "four experts": lambda N, E: lead(N, 4, 1e-3),
        "one token elsewhere": lambda N, E: (
            lead(N, E, 1e-3) + 1e-2 * (np.arange(N) + 1 == N)[:, None] * (np.arange(E) == 1)
        ),
        "probabilities": lambda N, E: lead(N, E, 1.0),
        "another expert": lambda N, E: lead(N, E, 1e-3, E - 1),
        "infinite": lambda N, E: lead(N, E, 0) - np.inf,
    },
}
