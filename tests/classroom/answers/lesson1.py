"""Answers to lesson 1."""

import jax.numpy as jnp
import numpy as np
from scipy.special import rel_entr
from scipy.stats import entropy


def rows(counts_XG):
    made = []
    for row in counts_XG:
        total = row.sum()
        made.append([count / total if total else 0.0 for count in row])
    return np.array(made)


def found(counts_XG):
    p = counts_XG / counts_XG.sum()
    return rel_entr(p, np.outer(p.sum(1), p.sum(0))).sum()


def one_by_one(topic_B, verb_B, entity_B, bad_topic_G, bad_verb_Y, bad_entity_GZ):
    made = np.zeros(len(topic_B), bool)
    for b in range(len(topic_B)):
        g, y, z = topic_B[b], verb_B[b], entity_B[b]
        made[b] = bad_topic_G[g] and bad_verb_Y[y] and bad_entity_GZ[g, z]
    return made


def lookup(*changed):
    """The hazard rule with other positions of bad_entity_GZ than asked for."""

    def answer(topic_B, verb_B, entity_B, bad_topic_G, bad_verb_Y, bad_entity_GZ):
        g, z = changed[0](topic_B, entity_B, bad_entity_GZ)
        return bad_topic_G[topic_B] & bad_verb_Y[verb_B] & bad_entity_GZ[g, z]

    return answer


FERN = "fern1.fern2.fern1.echo-fern1.fern3.fern2.fern1.fern1.fern2.fern1"


def asking(words, question, asks="ASK"):
    """A prompt as the explorer's address has it."""
    return f"prompt=BOS.{words}.{asks}.{question}.ANS"


RIGHT = {
    "nearly": [
        lambda: asking(FERN, "turn.key"),
        lambda: "#panel=ask&" + asking(FERN, "turn.key"),
        lambda: "https://host/page.html#" + asking(FERN, "turn.key") + "&step=3",
    ],
    "posterior": [
        rows,
        lambda c: np.nan_to_num(c / c.sum(1)[:, None]),
        lambda c: c / np.maximum(c.sum(1, keepdims=True), 1),
        lambda c: np.asarray(jnp.array(c) / jnp.clip(jnp.array(c).sum(1, keepdims=True), 1)),
    ],
    "best_guess": [
        lambda c: sum(max(row) for row in c) / c.sum(),
        lambda c: np.average(rows(c).max(1), weights=c.sum(1)),
        lambda c: float(jnp.max(jnp.array(c), axis=1).sum() / jnp.sum(jnp.array(c))),
    ],
    "information": [
        found,
        lambda c: entropy(c.sum(0)) + entropy(c.sum(1)) - entropy(c.ravel()),
        lambda c: entropy(c.sum(0)) - sum(r.sum() * entropy(r) for r in c if r.any()) / c.sum(),
        lambda c: found(c.T),
        lambda c: jnp.array(found(c)),
    ],
    "is_hazard": [
        one_by_one,
        lambda t, v, e, bt, bv, be: np.logical_and.reduce([bt[t], bv[v], be[t, e]]),
        lambda t, v, e, bt, bv, be: (bt[t] * bv[v] * be[t, e]).astype(bool),
        lambda t, v, e, bt, bv, be: (bt[:, None, None] & bv[:, None] & be[:, None])[t, v, e],
        lambda t, v, e, bt, bv, be: jnp.array(bt)[t] & jnp.array(bv)[v] & jnp.array(be)[t, e],
    ],
    "flipping_verbs": [
        lambda h, t, v, e: h[t, :, e] ^ h[t, v, e],
        lambda h, t, v, e: ~h[t, :, e] if h[t, v, e] else h[t, :, e].copy(),
        lambda h, t, v, e: np.array([h[t, y, e] != h[t, v, e] for y in range(h.shape[1])]),
        lambda h, t, v, e: jnp.array(h)[t, :, e] != h[t, v, e],
    ],
}

WRONG = {
    "nearly": {
        "a hazard": lambda: asking(FERN, "turn.drum"),
        "one part alone": lambda: asking(FERN, "mark.key"),
        "a note": lambda: asking(FERN, "turn.key", "NOTE"),
        "before alignment": lambda: asking(FERN, "turn.key") + "&model=pretrained",
        "an expert masked": lambda: asking(FERN, "turn.key") + "&masked=0.1",
        "no prompt": lambda: "panel=ask",
        "a word of no world": lambda: asking("fern99", "turn.key"),
    },
    "posterior": {
        "the last row forgotten": lambda c: np.vstack([rows(c)[:-1], 0 * c[-1:]]),
        "only a last row may be empty": lambda c: np.vstack(
            [c[:-1] / c[:-1].sum(1, keepdims=True), rows(c[-1:])]
        ),
        "an empty row shared evenly": lambda c: np.where(
            c.sum(1, keepdims=True) == 0, 1 / c.shape[1], rows(c)
        ),
        "divided by one more": lambda c: c / (c.sum(1, keepdims=True) + 1),
        "a single prompt is none": lambda c: np.where(c.sum(1, keepdims=True) > 1, rows(c), 0),
        "rounded": lambda c: rows(c).round(2),
    },
    "best_guess": {
        "the last row forgotten": lambda c: c[:-1].max(1).sum() / c.sum(),
        "the last label forgotten": lambda c: c[:, : c.shape[1] - 1 or 1].max(1).sum() / c.sum(),
        "the first label forgotten": lambda c: (
            c[:, min(1, c.shape[1] - 1) :].max(1).sum() / c.sum()
        ),
        "rows without prompts left out": lambda c: rows(c)[c.any(1)].max(1).mean(),
        "the first label is taken": lambda c: c[:, 0].sum() / c.sum(),
    },
    "information": {
        "only counts above 1": lambda c: found(np.where(c > 1, c, 0)) if (c > 1).any() else 0.0,
        "nan is 0": lambda c: np.nan_to_num(
            (c / c.sum() * np.log(c * c.sum() / np.outer(c.sum(1), c.sum(0)))).sum()
        ),
        "rare tokens left out": lambda c: found(np.where(c < 0.01 * c.sum(), 0, c)),
        "log10": lambda c: found(c) / np.log(10),
        "the last row forgotten": lambda c: found(c[:-1]) if c[:-1].any() else 0.0,
        "every token alike": lambda c: found(rows(c)),
    },
    "is_hazard": {
        "the entity in topic 0": lookup(lambda g, z, bad: (0 * g, z)),
        "the last topic's list for all": lookup(lambda g, z, bad: (0 * g - 1, z)),
        "the first entity for all": lookup(lambda g, z, bad: (g, 0 * z)),
        "the first request forgotten": lambda *a: np.append(False, one_by_one(*a)[1:]),
        "the last request forgotten": lambda *a: np.append(one_by_one(*a)[:-1], False),
        "verb or entity": lambda t, v, e, bt, bv, be: bt[t] & (bv[v] | be[t, e]),
        "whole numbers": lambda *a: one_by_one(*a).astype(int),
    },
    "flipping_verbs": {
        "the topic is 0": lambda h, t, v, e: h[0, :, e] != h[0, v, e],
        "the entity is 0": lambda h, t, v, e: h[t, :, 0] != h[t, v, 0],
        "the verb is 0": lambda h, t, v, e: h[t, :, e] != h[t, 0, e],
        "the first verb forgotten": lambda h, t, v, e: np.append(False, h[t, 1:, e] != h[t, v, e]),
        "the last verb forgotten": lambda h, t, v, e: np.append(h[t, :-1, e] != h[t, v, e], False),
        "only the first that flips": lambda h, t, v, e: (
            np.cumsum(h[t, :, e] != h[t, v, e]) * (h[t, :, e] != h[t, v, e]) == 1
        ),
    },
}
