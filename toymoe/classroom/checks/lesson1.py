"""The checks of lesson 1: what tokens tell. Numpy only; X values of a token, G labels.

The references are slow loops on purpose: they are oracles, not models of style.
"""

import numpy as np

from .judging import Check, Mistake


def _tables(rng):
    cases = [
        [[3, 1], [0, 4]],
        [[2, 0], [0, 2], [0, 0]],  # the last token never occurs
        [[0, 0, 0], [1, 0, 3], [2, 2, 0]],  # the first one
        [[0, 7, 1], [0, 2, 5]],  # the first label never occurs
        [[1, 1, 2], [2, 2, 4]],  # token and label have nothing to do with each other
        [[1, 0, 0]],
        [[4], [2]],
        [[900, 1], [1, 700]],
    ]
    for X, G in 3 * ((1, 3), (2, 2), (3, 5), (4, 1), (5, 4)):
        counts_XG = rng.integers(0, 6, (X, G)) * (rng.random((X, 1)) < 0.8)
        counts_XG[rng.integers(X), rng.integers(G)] += 1
        cases.append(counts_XG)
    return [(np.array(counts, float),) for counts in cases]


# --- posterior ----------------------------------------------------------------------------------


def posterior(counts_XG):
    """P(label | token): each row of counts as shares; a row without counts stays 0."""
    shares_XG = np.zeros(np.shape(counts_XG))
    for x, row in enumerate(np.asarray(counts_XG, float)):
        if sum(row) > 0:
            for g, count in enumerate(row):
                shares_XG[x, g] = count / sum(row)
    return shares_XG


def _divide(counts, total):
    return counts / np.where(total == 0, 1, total)


_POSTERIOR = Check(
    posterior,
    _tables,
    "an array [X, G] of shares",
    (
        Mistake(
            lambda c: _divide(c, c.sum(0, keepdims=True)),
            "this is P(token | label): each column sums to 1. Divide each row by its own sum.",
        ),
        Mistake(
            lambda c: c / c.sum(),
            "this is P(token and label): the whole table sums to 1. Each row has to.",
        ),
        Mistake(
            lambda c: c / c.sum(1, keepdims=True),
            "right where there are counts, but a token that never occurred gives 0 / 0 = nan: "
            "leave its row at 0.",
        ),
        Mistake(
            lambda c: _divide(np.exp(c), np.exp(c).sum(1, keepdims=True)),
            "a softmax makes scores into shares; counts need only be divided by their sum.",
        ),
        Mistake(
            lambda c: _divide(c, c.max(1, keepdims=True)),
            "each row was divided by its largest entry; divide by its sum.",
        ),
    ),
)

# --- best guess ---------------------------------------------------------------------------------


def best_guess(counts_XG):
    """Share of right guesses of the best rule that sees nothing but the token."""
    right = total = 0.0
    for row in np.asarray(counts_XG, float):
        right += max(row)
        total += sum(row)
    return right / total


_BEST_GUESS = Check(
    best_guess,
    _tables,
    "a number from 0 to 1",
    (
        Mistake(
            lambda c: posterior(c).max(1).mean(),
            "every token counts the same here, however rare it is: weigh each by its count.",
        ),
        Mistake(
            lambda c: c.sum(0).max() / c.sum(),
            "this is the best guess without seeing the token: one label for all. Choose a label "
            "for each row.",
        ),
        Mistake(
            lambda c: c.max(0).sum() / c.sum(),
            "this chooses the best token for each label; the rule sees the token and has to "
            "choose the label.",
        ),
        Mistake(
            lambda c: posterior(c).max(),
            "this is the best case: the one token that tells most. Average over all prompts.",
        ),
        Mistake(
            lambda c: c.max(1).sum(),
            "this is the number of right guesses: divide by the number of prompts.",
        ),
        Mistake(
            lambda c: c.max() / c.sum(),
            "this looks at a single cell of the table: sum over all tokens.",
        ),
    ),
)

# --- information --------------------------------------------------------------------------------


def information(counts_XG):
    """I(token; label) in nats."""
    counts_XG = np.asarray(counts_XG, float)
    total, nats = counts_XG.sum(), 0.0
    for x in range(counts_XG.shape[0]):
        for g in range(counts_XG.shape[1]):
            if counts_XG[x, g] > 0:
                alone = counts_XG[x].sum() * counts_XG[:, g].sum() / total
                nats += counts_XG[x, g] / total * np.log(counts_XG[x, g] / alone)
    return nats


def _entropy(p):
    p = np.asarray(p, float).ravel() / np.sum(p)
    return -(p[p > 0] * np.log(p[p > 0])).sum()


def _naive(c):
    p = c / c.sum()
    return (p * np.log(p / (p.sum(1, keepdims=True) * p.sum(0)))).sum()


_INFORMATION = Check(
    information,
    _tables,
    "a number in nats",
    (
        Mistake(
            lambda c: information(c) / np.log(2),
            "this is in bits: use the natural logarithm, np.log.",
        ),
        Mistake(
            _naive,
            "right where all counts are positive, but 0 · log 0 comes out as nan: a cell without "
            "counts adds 0.",
        ),
        Mistake(
            lambda c: _entropy(c.sum(0)),
            "this is the entropy of the label, what there is to know; take off what is still "
            "unknown once the token is seen.",
        ),
        Mistake(
            lambda c: _entropy(c) - _entropy(c.sum(1)),
            "this is H(label | token), what the token leaves unknown: take it from H(label).",
        ),
        Mistake(lambda c: _entropy(c), "this is the joint entropy of token and label."),
        Mistake(
            lambda c: information(c) / _entropy(c.sum(0)) if _entropy(c.sum(0)) else 0.0,
            "this is the information as a share of H(label): leave it in nats.",
        ),
        Mistake(lambda c: -information(c), "the sign is wrong: information is never negative."),
        Mistake(
            lambda c: information(c) * c.sum(),
            "this is summed over prompts: divide the counts by their total first.",
        ),
    ),
)

# --- the hazard rule ----------------------------------------------------------------------------


def is_hazard(topic_B, verb_B, entity_B, bad_topic_G, bad_verb_Y, bad_entity_GZ):
    """Which requests are hazardous: topic, verb, and entity in that topic, all three."""
    return np.array(
        [
            bool(bad_topic_G[g]) and bool(bad_verb_Y[y]) and bool(bad_entity_GZ[g, z])
            for g, y, z in zip(topic_B, verb_B, entity_B, strict=True)
        ]
    )


def _requests(rng):
    bad_verb, bad_topic = np.array([True, False]), np.array([False, True])
    bad_entity = np.array([[False, True, False], [True, False, False]])
    cases = [  # each request alone
        (*(np.array([x]) for x in request), bad_topic, bad_verb, bad_entity)
        for request in np.ndindex(2, 2, 3)
    ]
    for i, (G, Y, Z) in enumerate(4 * ((2, 3, 4), (3, 2, 2), (4, 4, 3))):
        topic, verb, entity = (rng.integers(0, n, 7) for n in (G, Y, Z))
        bad_topic, bad_verb = rng.random(G) < 0.6, rng.random(Y) < 0.6
        bad_entity = rng.random((G, Z)) < 0.6
        if i % 2:  # the first and the last request are hazards
            ends = [0, -1]
            bad_topic[topic[ends]] = bad_verb[verb[ends]] = True
            bad_entity[topic[ends], entity[ends]] = True
        cases.append((topic, verb, entity, bad_topic, bad_verb, bad_entity))
    return cases


def _hazard(combine):
    def mistake(topic_B, verb_B, entity_B, bad_topic_G, bad_verb_Y, bad_entity_GZ):
        here = bad_topic_G[topic_B], bad_verb_Y[verb_B], bad_entity_GZ[topic_B, entity_B]
        return combine(*here)

    return mistake


_IS_HAZARD = Check(
    is_hazard,
    _requests,
    "an array [B] of True and False",
    (
        Mistake(
            _hazard(lambda t, v, e: t | v | e),
            "one ingredient is enough here: use & (and) instead of | (or).",
        ),
        Mistake(
            _hazard(lambda t, v, e: v & e),
            "the topic is missing: in a harmless topic nothing is hazardous.",
        ),
        Mistake(
            _hazard(lambda t, v, e: t & e),
            "the verb is missing: a harmless verb makes any request harmless.",
        ),
        Mistake(
            _hazard(lambda t, v, e: t & v),
            "the entity is missing: a harmless entity makes any request harmless.",
        ),
        Mistake(
            _hazard(lambda t, v, e: t.astype(int) + v + e >= 2),
            "two of three are enough here; all three are needed.",
        ),
        Mistake(
            _hazard(lambda t, v, e: ~(t & v & e)),
            "this is the other way round: True where the request is harmless.",
        ),
        Mistake(
            lambda t, v, e, bt, bv, be: bt[t] & bv[v] & be.any(0)[e],
            "an entity counts here if it is hazardous in any topic; look it up in the prompt's "
            "own topic, bad_entity_GZ[topic_B, entity_B].",
        ),
    ),
)

# --- twins --------------------------------------------------------------------------------------


def flipping_verbs(hazard_GYZ, topic, verb, entity):
    """The verbs that would flip the hazard of a request: [Y], True or False."""
    now = bool(hazard_GYZ[topic, verb, entity])
    return np.array(
        [bool(hazard_GYZ[topic, y, entity]) != now for y in range(np.shape(hazard_GYZ)[1])]
    )


def _hazards(rng):
    cases = [(np.array([[[True], [False], [True]]]), 0, verb, 0) for verb in range(3)]
    for shape in 5 * ((1, 2, 1), (2, 3, 2), (2, 2, 3), (3, 4, 4), (4, 3, 1)):
        hazard_GYZ = rng.random(shape) < 0.5
        cases.append((hazard_GYZ, *(int(rng.integers(n)) for n in shape)))
    return cases


_FLIPPING = Check(
    flipping_verbs,
    _hazards,
    "an array [Y] of True and False",
    (
        Mistake(
            lambda h, t, v, e: h[t, :, e].copy(),
            "this marks the hazardous verbs; where the request is hazardous already, the harmless "
            "ones are the ones that flip it.",
        ),
        Mistake(
            lambda h, t, v, e: ~h[t, :, e],
            "this marks the harmless verbs; for a harmless request the hazardous ones flip it.",
        ),
        Mistake(
            lambda h, t, v, e: h[t, :, e] == h[t, v, e],
            "this marks the verbs that keep the hazard as it is: you want the others.",
        ),
        Mistake(
            lambda h, t, v, e: np.flatnonzero(h[t, :, e] != h[t, v, e]),
            "this gives the numbers of the verbs; give a mask, one True or False for every verb.",
        ),
        Mistake(
            lambda h, t, v, e: h[:, v, e] != h[t, v, e],
            "this swaps the topic; swap the verb, the second axis.",
        ),
        Mistake(
            lambda h, t, v, e: h[t, v, :] != h[t, v, e],
            "this swaps the entity; swap the verb, the second axis.",
        ),
    ),
)

# --- several positions as one -------------------------------------------------------------------


def combine(columns, sizes):
    """One number for each combination of values: 0 … product of the sizes - 1."""
    steps = [int(np.prod(sizes[:i], dtype=int)) for i in range(len(columns))]
    rows = zip(*columns, strict=True)
    return np.array([sum(int(x) * n for x, n in zip(row, steps, strict=True)) for row in rows])


def combine_given(columns, sizes):
    """`combine` with the bug that the exercise plants."""
    code = 0 * np.asarray(columns[0])
    step = 1
    for column, size in zip(columns, sizes, strict=True):
        code = code + step * column
        step = size
    return code


def _columns(rng):
    grid = np.indices((2, 3, 4)).reshape(3, -1)
    cases = [
        (list(grid), [2, 3, 4]),
        ([np.array([0, 1, 2, 3])], [4]),
        ([np.array([0, 1]), np.array([1, 0]), np.array([1, 1])], [3, 4, 2]),  # largest: unseen
        ([np.array([0, 0]), np.array([2, 1]), np.array([1, 2])], [1, 3, 5]),
        ([np.array([n - 1, 0]) for n in (50, 60, 70, 80)], [50, 60, 70, 80]),
    ]
    for sizes in ([3], [2, 5], [4, 2, 3], [2, 3, 2, 4]):
        cases += [([rng.integers(0, n, B) for n in sizes], sizes) for B in (1, 2, 4)]
    return cases


_COMBINE = Check(
    combine,
    _columns,
    "an array [B] of whole numbers",
    (
        Mistake(
            lambda columns, sizes: np.sum(columns, 0),
            "a plain sum gives 1 + 2 and 2 + 1 the same number: different combinations collide.",
        ),
        Mistake(
            lambda columns, sizes: np.ravel_multi_index(columns, sizes),
            "no two combinations collide, but the last column changes fastest here; the first "
            "one should, as in the given code.",
        ),
        Mistake(
            lambda columns, sizes: np.prod(columns, 0),
            "a product collides, and whatever is multiplied with 0 is lost.",
        ),
        Mistake(
            lambda columns, sizes: sum(c * max(sizes) ** i for i, c in enumerate(columns)),
            "no two combinations collide, but some numbers are skipped: multiply by each column's "
            "own size, not by the largest.",
        ),
        Mistake(
            lambda columns, sizes: sum(
                c * int(np.prod(sizes[: i + 1])) for i, c in enumerate(columns)
            ),
            "every step is one factor too large: the first column counts in ones. Multiply `step` "
            "after it was used.",
        ),
        Mistake(
            lambda columns, sizes: sum(c * 10**i for i, c in enumerate(columns)),
            "tens work for digits; these columns have sizes of their own.",
        ),
    ),
    given=combine_given,
)

CHECKS = (_POSTERIOR, _BEST_GUESS, _INFORMATION, _IS_HAZARD, _COMBINE, _FLIPPING)
