"""Answers to lesson 0, right ones and wrong ones."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax, logsumexp, softmax


def added_one_by_one(x, h, e):
    total = np.array(x, float)
    for part in (*h.reshape(-1, len(x)), *e.reshape(-1, len(x))):
        total = total + part
    return total


def one_hot(z, t):
    return np.arange(len(z)) == t


BOAT = "BOS.boat2.alps-boat2.alps-boat1.alps-boat1.boat4.boat2.boat2.boat2.boat-clay2.alps-boat2"


def asking(question, end="ANS"):
    """The prompt that the lesson starts from, with another question."""
    return f"prompt={BOAT}.ASK.{question}.{end}"


RIGHT = {
    "refusing": [
        lambda: asking("copy.drum"),
        lambda: "#" + asking("copy.drum"),
        lambda: "file:///home/me/explorer.html#panel=ask&" + asking("copy.drum"),
        lambda: asking("copy.drum") + "&model=aligned&pair=3",
    ],
    "stream": [
        added_one_by_one,
        lambda x, h, e: x + h.sum((0, 1)) + e.sum((0, 1)),
        lambda x, h, e: x + np.einsum("lhd->d", h) + np.einsum("led->d", e),
        lambda x, h, e: jnp.array(x) + jnp.concatenate([h, e], 1).sum((0, 1)),
    ],
    "loss_of": [
        lambda z, t: -log_softmax(z)[t],
        lambda z, t: logsumexp(z) - z[t],
        lambda z, t: np.log(np.exp(z - z.max()).sum()) + z.max() - z[t],
        lambda z, t: -jax.nn.log_softmax(jnp.array(z))[t],
    ],
    "slope_of": [
        lambda z, t: softmax(z) - one_hot(z, t),
        lambda z, t: np.array([softmax(z)[v] - (v == t) for v in range(len(z))]),
        lambda z, t: jax.grad(lambda x: -jax.nn.log_softmax(x)[t])(jnp.array(z)),
    ],
}

WRONG = {
    "refusing": {
        "as it was given": lambda: asking("mark.drum"),
        "another entity": lambda: asking("copy.wire"),
        "a note": lambda: asking("copy.drum").replace("ASK", "NOTE"),
        "before alignment": lambda: asking("copy.drum") + "&model=pretrained",
        "an expert silenced": lambda: asking("copy.drum") + "&silenced=0.0",
        "no end": lambda: asking("copy.drum", "END"),
        "nothing": lambda: "",
    },
    "stream": {
        "the first layer forgotten": lambda x, h, e: x + h[1:].sum((0, 1)) + e[1:].sum((0, 1)),
        "the first expert alone": lambda x, h, e: x + h.sum((0, 1)) + e[:, 0].sum(0),
        "the last head forgotten": lambda x, h, e: x + h[:, :-1].sum((0, 1)) + e.sum((0, 1)),
        "the heads taken off": lambda x, h, e: x - h.sum((0, 1)) + e.sum((0, 1)),
        "the largest of the experts": lambda x, h, e: x + h.sum((0, 1)) + e.max(1).sum(0),
    },
    "loss_of": {
        "the first token": lambda z, t: -log_softmax(z)[0],
        "the last token": lambda z, t: -log_softmax(z)[-1],
        "clipped": lambda z, t: -np.log(np.maximum(softmax(z)[t], 0.5)),
        "log10": lambda z, t: -np.log10(softmax(z)[t] + 1e-300),
        "a mean over tokens": lambda z, t: -log_softmax(z).mean(),
    },
    "slope_of": {
        "the first token": lambda z, t: softmax(z) - one_hot(z, 0),
        "the last token": lambda z, t: softmax(z) - one_hot(z, len(z) - 1),
        "1 added": lambda z, t: softmax(z) + one_hot(z, t),
        "of a mean": lambda z, t: (softmax(z) - one_hot(z, t)) / len(z),
        "without the largest": lambda z, t: np.where(z == z.max(), 0, softmax(z) - one_hot(z, t)),
    },
}
