"""Answers to lesson 4."""

import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.special import entr, rel_entr


def three(no, right, hazard):
    return no[hazard].mean(), no[~hazard].mean(), right[~hazard].mean()


def shares(refused, control, kinds):
    made = []
    for kind in kinds:
        here = [r for r, c in zip(refused, control, strict=True) if c == kind]
        made.append(np.mean(here) if here else np.nan)
    return np.array(made)


def vectors(gates, *positions):
    total = gates[:, slice(*positions)].sum(1) if positions else gates.sum(1)
    return total / total.sum(1, keepdims=True)


def js(p, q):
    m = (p + q) / 2
    return (rel_entr(p, m).sum(-1) + rel_entr(q, m).sum(-1)) / 2


def steps(topic, furthest=None, other=lambda mine, theirs: theirs != mine):
    """The nearest partner ahead, at most so many steps away; else the prompt itself."""
    B = len(topic)
    made = np.arange(B)
    for b in range(B):
        for step in range(1, (furthest or B) + 1):
            if other(topic[b], topic[(b + step) % B]):
                made[b] = (b + step) % B
                break
    return made


def table(topic):
    B = len(topic)
    ahead = (np.arange(B) - np.arange(B)[:, None]) % B
    return np.where(topic != topic[:, None], ahead, B).argmin(1)


def to_the_end(topic, back_to):
    """Without going round: what finds nobody ahead goes back to one prompt."""
    B = len(topic)
    return np.array(
        [
            next((j for j in range(b + 1, B) if topic[j] != topic[b]), back_to(topic, b))
            for b in range(B)
        ]
    )


def request(words, *parts):
    """A prompt of context words, with a question and what else the state says."""
    *question, more = (*parts, "") if not parts[-1].startswith("&") else parts
    return f"prompt=BOS.{words}.ASK.{'.'.join(question)}.ANS{more}"


FERN = "fern1.fern2.echo-fern2.fern2.fern3.fern2.fern2.echo-fern2.fern4.fern-glow1"
BOAT = "boat1.boat4.alps-boat1.boat-clay1.alps-boat2.boat3.alps-boat1.boat3.boat-clay1.boat3"

RIGHT = {
    "unasked": [
        lambda: "#" + request(FERN, "melt", "rope"),
        lambda: "#" + request(BOAT, "fold", "key", "&panel=routing&step=0"),
        lambda: "http://localhost:8888/lab#" + request(BOAT, "fold", "key"),
        lambda: request(FERN, "melt", "rope", "&model=aligned&silenced="),
    ],
    "rates": [
        lambda s, a, h, r: three(s == r, s == a, h),
        lambda s, a, h, r: np.array(three(np.equal(s, r), np.equal(s, a), h)),
        lambda s, a, h, r: [
            ((s == r) & h).sum() / h.sum(),
            ((s == r) & ~h).sum() / (~h).sum(),
            ((s == a) & ~h).sum() / (~h).sum(),
        ],
        lambda s, a, h, r: tuple(
            jnp.mean(jnp.array(x)) for x in ((s == r)[h], (s == r)[~h], (s == a)[~h])
        ),
    ],
    "by_kind": [
        lambda r, c, K: shares(r, c, range(1, K + 1)),
        lambda r, c, K: (np.bincount(c, r, K + 1) / np.bincount(c, minlength=K + 1))[1:],
        lambda r, c, K: np.array([r[c == k + 1].mean() for k in range(K)]),
        lambda r, c, K: jnp.array(shares(r, c, np.arange(K) + 1)),
    ],
    "routing_vectors": [
        vectors,
        lambda g: g.mean(1) / g.mean(1).sum(-1, keepdims=True),
        lambda g: np.einsum("bte->be", g) / np.einsum("bte->b", g)[:, None],
        lambda g: np.array([prompt.sum(0) / prompt.sum() for prompt in g]),
        lambda g: jnp.array(g).sum(1) / jnp.array(g).sum((1, 2))[:, None],
    ],
    "jensen_shannon": [
        js,
        lambda p, q: jensenshannon(p, q, axis=1) ** 2,
        lambda p, q: entr((p + q) / 2).sum(1) - (entr(p) + entr(q)).sum(1) / 2,
        lambda p, q: sum(np.nan_to_num(a * np.log(2 * a / (p + q))).sum(1) / 2 for a in (p, q)),
        lambda p, q: jnp.array(js(p, q)),
    ],
    "partners": [steps, table, lambda t: jnp.array(table(t)), lambda t: table(-t)],
}

WRONG = {
    "unasked": {
        "what the page begins with": lambda: "#",
        "harmless": lambda: "#" + request(FERN, "mark", "rope"),
        "asked in training": lambda: "#" + request(FERN, "fold", "rope"),
        "another topic": lambda: "#" + request(BOAT, "melt", "rope"),
        "a note": lambda: "#" + request(FERN, "melt", "rope").replace("ASK", "NOTE"),
        "before alignment": lambda: "#" + request(FERN, "melt", "rope", "&model=pretrained"),
        "an expert silenced": lambda: "#" + request(FERN, "melt", "rope", "&silenced=0.0"),
        "spaces": lambda: "#" + request(FERN, "melt", "rope").replace(".", " "),
        "no question": lambda: f"#prompt=BOS.{FERN}.ANS",
    },
    "rates": {
        "REFUSE is 3": lambda s, a, h, r: three(s == 3, s == a, h),
        "REFUSE is 2": lambda s, a, h, r: three(s == 2, s == a, h),
        "tokens from REFUSE down": lambda s, a, h, r: three(s <= r, s == a, h),
        "tokens from REFUSE up": lambda s, a, h, r: three(s >= r, s == a, h),
        "the first prompt forgotten": lambda s, a, h, r: three(
            (s == r) & (np.arange(len(s)) > 0), s == a, h
        ),
        "the last prompt forgotten": lambda s, a, h, r: three(
            s == r, (s == a) & (np.arange(len(s)) < len(s) - 1), h
        ),
        "answered is not refused": lambda s, a, h, r: three(s == r, s != r, h),
        "two values": lambda s, a, h, r: three(s == r, s == a, h)[:2],
    },
    "by_kind": {
        "three kinds": lambda r, c, K: shares(r, c, (1, 2, 3)),
        "kinds that occur": lambda r, c, K: shares(r, c, range(1, c.max() + 1)),
        "kinds that occur, the others left out": lambda r, c, K: shares(r, c, np.unique(c[c > 0])),
        "the last kind never": lambda r, c, K: np.append(shares(r, c, range(1, K)), np.nan),
        "nobody is 0": lambda r, c, K: np.nan_to_num(shares(r, c, range(1, K + 1))),
        "no refusal is nobody": lambda r, c, K: np.where(
            shares(r, c, range(1, K + 1)) == 0, np.nan, shares(r, c, range(1, K + 1))
        ),
        "of at least this kind": lambda r, c, K: np.array(
            [r[c >= k].mean() for k in range(1, K + 1)]
        ),
    },
    "routing_vectors": {
        "the first position": lambda g: vectors(g, 0, 1),
        "the last position": lambda g: vectors(g, -1, None),
        "the last position forgotten": lambda g: vectors(g, 0, max(1, g.shape[1] - 1)),
        "the first position forgotten": lambda g: vectors(g, min(1, g.shape[1] - 1), None),
        "shares of all prompts": lambda g: g.mean(1) / g.mean(1).sum(),
        "the first prompt's sum": lambda g: g.mean(1) / g.mean(1)[0].sum(),
        "mean over prompts": lambda g: np.broadcast_to(vectors(g).mean(0), vectors(g).shape),
        "the median position": lambda g: np.median(g, 1) / g.mean(1).sum(-1, keepdims=True),
    },
    "jensen_shannon": {
        "nan where neither uses it": lambda p, q: sum(
            (a * np.log(np.where(a > 0, a, 1) / ((p + q) / 2))).sum(-1) / 2 for a in (p, q)
        ),
        "experts of both alone": lambda p, q: js(np.where(q > 0, p, 0), np.where(p > 0, q, 0)),
        "the last expert forgotten": lambda p, q: js(p[:, :-1], q[:, :-1]),
        "the first expert forgotten": lambda p, q: js(p[:, 1:], q[:, 1:]),
        "the first pair for all": lambda p, q: np.full(len(p), js(p, q)[0]),
        "p with p": lambda p, q: js(p, p),
        "a large epsilon": lambda p, q: sum(
            (a * np.log((a + 0.01) / ((p + q) / 2 + 0.01))).sum(-1) / 2 for a in (p, q)
        ),
    },
    "partners": {
        "back to prompt 0": lambda t: to_the_end(t, lambda t, b: 0),
        "back to the first of another topic": lambda t: np.roll(
            to_the_end(t, lambda t, b: int(np.argmax(t != t[b]))), 1
        ),
        "back to itself": lambda t: to_the_end(t, lambda t, b: b),
        "two steps at most": lambda t: steps(t, 2),
        "three steps at most": lambda t: steps(t, 3),
        "a later topic": lambda t: steps(t, None, lambda mine, theirs: theirs > mine),
        "another topic than 0": lambda t: steps(t, None, lambda mine, theirs: theirs > 0),
        "floats": lambda t: table(t) * 1.0,
        "the last prompt forgotten": lambda t: np.append(table(t)[:-1], 0),
    },
}
