"""The checks of lesson 3: what an expert knows about a topic. Numpy only; slow on purpose."""

import numpy as np

from .judging import Check, Mistake
from .lesson1 import information

# --- counting -----------------------------------------------------------------------------------


def label_counts(selected_NE, labels_N, n_labels):
    """How often tokens of each label select each expert: [G, E]."""
    counts_GE = np.zeros((n_labels, np.shape(selected_NE)[1]))
    np.add.at(counts_GE, labels_N, np.asarray(selected_NE, bool))
    return counts_GE


def _selections(rng):
    cases = [
        (np.array([[True, False], [True, False], [False, True]]), np.array([1, 1, 0]), 2),
        (np.array([[False, True, True]]), np.array([1]), 3),  # the others do not occur
    ]
    for N, E, G, k in 3 * ((1, 2, 2, 1), (2, 3, 1, 2), (4, 4, 4, 2), (5, 3, 2, 1), (6, 5, 3, 3)):
        selected = rng.random((N, E)).argsort(1) < k
        cases.append((selected, rng.integers(0, G, N), G))
    return cases


def _per_token(s, g, G):
    counts = label_counts(s, g, G)
    total = np.bincount(g, minlength=G)[:, None]
    return counts / np.where(total == 0, 1, total)


_LABEL_COUNTS = Check(
    label_counts,
    _selections,
    "an array [G, E] of counts",
    (
        Mistake(
            lambda s, g, G: label_counts(np.arange(s.shape[1]) == s.argmax(1)[:, None], g, G),
            "only one expert per token is counted: a token that selects k experts counts k times.",
        ),
        Mistake(
            lambda s, g, G: (label_counts(s, g, G) > 0).astype(float),
            "this says whether it ever happened; count how often. (counts[labels] += … counts a "
            "repeated label once: use np.add.at.)",
        ),
        Mistake(
            lambda s, g, G: label_counts(s, g, G).T,
            "the axes are swapped: a row for every label, a column for every expert.",
        ),
        Mistake(_per_token, "these are shares of each label's tokens: counts were asked for."),
        Mistake(
            lambda s, g, G: _last(s, g, G),
            "of each label only the last token is counted: counts[labels] += … adds once for a "
            "repeated label. Use np.add.at, or a product of matrices.",
        ),
        Mistake(
            lambda s, g, G: label_counts(s, g, G)[: g.max() + 1],
            "a label without tokens needs its row of zeros: there are n_labels rows.",
        ),
    ),
)


def _last(s, g, G):
    counts = np.zeros((G, s.shape[1]))
    counts[g] += s
    return counts


# --- NMI ----------------------------------------------------------------------------------------


def nmi(counts_GE):
    """I(expert; label) / ln(number of labels)."""
    return information(counts_GE) / np.log(np.shape(counts_GE)[0])


def _tables(rng):
    cases = [
        np.eye(4) * 5,
        np.ones((3, 6)),
        np.array([[3.0, 1.0, 0.0], [0.0, 0.0, 4.0]]),
        np.array([[2.0, 1.0], [0.0, 0.0], [0.0, 3.0]]),  # a label that does not occur
    ]
    for G, E in 3 * ((2, 2), (3, 5), (4, 4), (5, 1), (5, 3)):
        counts = rng.integers(0, 6, (G, E)) * (rng.random((G, 1)) < 0.8)
        counts[rng.integers(G), rng.integers(E)] += 1
        cases.append(counts.astype(float))
    return [(counts,) for counts in cases]


def _entropy(p):
    p = np.asarray(p, float) / np.sum(p)
    return -(p[p > 0] * np.log(p[p > 0])).sum()


def _naive(c):
    p = c / c.sum()
    return (p * np.log(p / (p.sum(1, keepdims=True) * p.sum(0)))).sum() / np.log(len(c))


_NMI = Check(
    nmi,
    _tables,
    "a number from 0 to 1",
    (
        Mistake(
            information,
            "this is the information in nats: divide it by the logarithm of the number of labels.",
        ),
        Mistake(
            lambda c: information(c) / np.log(c.shape[1]),
            "it was divided by the logarithm of the number of experts; what is asked about is the "
            "label.",
        ),
        Mistake(
            lambda c: information(c) / np.log2(len(c)),
            "numerator and denominator use different logarithms: nats and bits.",
        ),
        Mistake(
            lambda c: information(c) / _entropy(c.sum(1)),
            "it was divided by the entropy of the labels as they occur: use the logarithm of their "
            "number, so that two sets of prompts can be compared.",
        ),
        Mistake(
            lambda c: information(c) / len(c),
            "it was divided by the number of labels: take the logarithm of that number.",
        ),
        Mistake(
            _naive,
            "0 · log 0 comes out as nan: an expert or label without counts adds nothing. "
            "(`information` of lesson 1 is there to be used.)",
        ),
        Mistake(
            lambda c: 2 * information(c) / (_entropy(c.sum(0)) + _entropy(c.sum(1))),
            "this is the symmetric NMI; here it is divided by ln(number of labels) alone.",
        ),
    ),
)

# --- the planted bug ----------------------------------------------------------------------------


def token_labels(topic_B, n_positions):
    """The topic of every token, prompt by prompt: [B · T]."""
    return np.array([int(topic) for topic in topic_B for _ in range(n_positions)])


def token_labels_given(topic_B, n_positions):
    """`token_labels` with the bug that the exercise plants."""
    return np.tile(topic_B, n_positions)


_TOKEN_LABELS = Check(
    token_labels,
    lambda rng: [
        (np.array([2, 0, 1]), 2),
        (np.array([5]), 4),
        *((rng.integers(0, 6, B), T) for B, T in ((3, 1), (1, 3), (2, 2), (7, 3), (4, 4))),
    ],
    "an array [B · T] of whole numbers, the labels",
    (
        Mistake(
            lambda t, T: np.repeat(t[:, None], T, 1),
            "the numbers are right, and the shape is [B, T]: one long list was asked for.",
        ),
        Mistake(
            lambda t, T: np.sort(np.repeat(t, T)),
            "the labels were sorted: they must stay with their prompts.",
        ),
        Mistake(
            lambda t, T: np.repeat(np.arange(len(t)), T),
            "this is the prompt of every token: look up that prompt's topic.",
        ),
        Mistake(
            lambda t, T: np.repeat(t, T)[::-1].copy(),
            "the labels run backwards.",
        ),
        Mistake(lambda t, T: np.asarray(t), "one label per prompt: every token needs one."),
    ),
    given=token_labels_given,
)

# --- given the token ----------------------------------------------------------------------------


def topic_given_token(counts_CGE):
    """I(expert; topic | token) = Σ_c p(c) I(expert; topic | token = c), in nats."""
    total, nats = float(np.sum(counts_CGE)), 0.0
    for table in counts_CGE:
        if table.sum() > 0:
            nats += table.sum() / total * information(table)
    return nats


def _by_token(rng):
    cases = [
        np.array([[[1.0, 0.0], [0.0, 1.0]], [[3.0, 3.0], [3.0, 3.0]]]),
        np.array([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 2.0]]]),
    ]
    for V, G, E in 3 * ((1, 2, 3), (2, 2, 2), (3, 4, 2), (4, 3, 4)):
        counts = rng.integers(0, 5, (V, G, E)) * rng.integers(0, 4, (V, 1, 1))
        counts[rng.integers(V), 0, 0] += 1
        cases.append(counts.astype(float))  # some tokens are frequent, some never occur
    return [(counts,) for counts in cases]


_TOPIC_GIVEN_TOKEN = Check(
    topic_given_token,
    _by_token,
    "a number in nats",
    (
        Mistake(
            lambda c: np.mean([information(t) for t in c if t.sum()]),
            "every token weighs the same: weigh each by its share of all selections.",
        ),
        Mistake(
            lambda c: information(c.sum(0)),
            "the tables were added up first, which is I(expert; topic): compute each token's "
            "information, then average.",
        ),
        Mistake(
            lambda c: sum(information(t) for t in c if t.sum()),
            "the tokens' informations were added up: weigh each by its share of all selections.",
        ),
        Mistake(
            lambda c: information(c.sum(1)),
            "this is I(expert; token): the topic was summed away.",
        ),
        Mistake(
            lambda c: topic_given_token(c) / np.log(c.shape[1]),
            "this was divided by the logarithm of the number of topics: leave it in nats.",
        ),
        Mistake(
            lambda c: information(c.sum(0)) - topic_given_token(c),
            "this is what the token explains: what remains *given* the token was asked for.",
        ),
    ),
)

# --- saturation ---------------------------------------------------------------------------------


def overlap(a_NE, b_NE):
    """Share of a token's selected experts that both runs select, averaged over tokens."""
    pairs = zip(a_NE, b_NE, strict=True)
    return np.mean([np.logical_and(a_E, b_E).sum() / np.count_nonzero(a_E) for a_E, b_E in pairs])


def _two_runs(rng):
    cases = [(np.array([[True, False, False]]), np.array([[False, False, True]]))]
    for N, E, k in 3 * ((1, 3, 1), (2, 4, 2), (3, 6, 3), (4, 4, 1), (5, 7, 2)):
        a, b = (rng.random((N, E)).argsort(1) < k for _ in range(2))
        cases.append((a, np.where(rng.random((N, 1)) < 0.3, a, b)))
    return cases


_OVERLAP = Check(
    overlap,
    _two_runs,
    "a number from 0 to 1",
    (
        Mistake(
            lambda a, b: (a == b).mean(),
            "an expert that neither run selects counts as agreement here, and most are like that: "
            "look only at what is selected.",
        ),
        Mistake(
            lambda a, b: ((a & b).sum(1) / (a | b).sum(1)).mean(),
            "this is the Jaccard index, shared / any; divide by k, the experts a token selects.",
        ),
        Mistake(
            lambda a, b: (a == b).all(1).mean(),
            "this is the share of tokens whose experts are all the same: count the shared ones.",
        ),
        Mistake(
            lambda a, b: (a & b).sum(1).mean(),
            "this is the number of shared experts: divide by k.",
        ),
        Mistake(
            lambda a, b: (a & b).mean(),
            "it was divided by all experts: divide by the k that a token selects.",
        ),
        Mistake(
            lambda a, b: (a & b).any(1).mean(),
            "this is the share of tokens with at least one expert in common: count them all.",
        ),
    ),
)

CHECKS = (_LABEL_COUNTS, _NMI, _TOKEN_LABELS, _TOPIC_GIVEN_TOKEN, _OVERLAP)
