"""The checks of lesson 3: what an expert knows about a topic, and since when. Slow on purpose."""

import numpy as np

from .judging import Check, Mistake
from .lesson1 import information
from .states import state_check

# --- a state of the explorer: when it happens ---------------------------------------------------


def halfway():
    """The slider at the tenth of its stops."""
    return "panel=routing&step=9"


def _halfway_faults(shown):
    history, s = shown.organism.history, shown.state.step
    nmi_SL = history["nmi_topic_context"]
    best = int(nmi_SL[-1].argmax())
    half = nmi_SL[-1, best] / 2
    s = len(nmi_SL) - 1 if s is None else s
    phase = ("pretraining", "alignment")[history["phase"][s]]
    there = f"{phase}, after step {history['step'][s]}: the NMI of layer {best} is {{:.2f}}"
    if nmi_SL[s, best] < half:
        yield f"{there.format(nmi_SL[s, best])}, and half of its last value is {half:.2f}: go on."
    if s and nmi_SL[s - 1, best] >= half:
        yield (
            f"{there.format(nmi_SL[s, best])}, and one stop before it was at least {half:.2f} "
            "already, half of its last value: go back."
        )


_HALFWAY = state_check(
    halfway,
    _halfway_faults,
    (
        Mistake(
            lambda: "panel=routing",
            "alignment, after step 500: the NMI of layer 2 is 0.58, and one stop before it was at "
            "least 0.29 already, half of its last value: go back.",
        ),
        Mistake(
            lambda: "panel=routing&step=0",
            "pretraining, after step 0: the NMI of layer 2 is 0.11, and half of its last value is "
            "0.29: go on.",
        ),
        Mistake(
            lambda: "panel=routing&step=8",
            "pretraining, after step 22: the NMI of layer 2 is 0.17, and half of its last value is "
            "0.29: go on.",
        ),
        Mistake(
            lambda: "panel=routing&step=10",
            "pretraining, after step 45: the NMI of layer 2 is 0.47, and one stop before it was at "
            "least 0.29 already, half of its last value: go back.",
        ),
    ),
)

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


def shuffled_labels(topic_B, n_positions, seed):
    """Topics dealt out among the prompts anew, one for each, and given to every word: [B · T]."""
    order = np.random.default_rng(seed).permutation(len(topic_B))
    return np.array([int(topic_B[b]) for b in order for _ in range(n_positions)])


def shuffled_labels_given(topic_B, n_positions, seed):
    """`shuffled_labels` with the bug that the exercise plants."""
    return np.random.default_rng(seed).permutation(np.repeat(topic_B, n_positions))


def _shuffled(case, got):
    """What is wrong with shuffled labels, in words."""
    topic_B, T, _ = case
    got_BT = np.asarray(got).reshape(-1, T)
    if (np.sort(got_BT, None) != np.sort(np.repeat(topic_B, T))).any():
        return ["some topics are more often there than before, others less: deal out those given."]
    if (got_BT == topic_B[:, None]).all():
        return ["nothing is shuffled: every word has the topic of its own prompt."]
    if (got == np.tile(got[: len(topic_B)], T)).all():
        return ["the list of the prompts was laid end to end: np.repeat keeps a prompt's words."]
    if (got_BT != got_BT[:, :1]).any():
        return ["the words of one prompt have several topics."]
    return []


def _prompts(rng):
    cases = [(np.array([2, 0, 1, 3, 5, 4, 7, 6]), 2, 0)]
    for B, G, T in ((12, 6, 3), (9, 9, 4), (16, 5, 2), (20, 8, 10)):
        topic_B = rng.permutation(np.arange(B) % G)
        cases.append((topic_B, T, int(rng.integers(2**31))))
    return cases


def _dealt(change):
    return lambda t, T, seed: change(np.random.default_rng(seed), t, T)


_SHUFFLED = Check(
    shuffled_labels,
    _prompts,
    "an array [B · T] of whole numbers, the labels",
    (
        Mistake(
            lambda t, T, seed: np.repeat(t, T),
            "nothing is shuffled: every word has the topic of its own prompt.",
        ),
        Mistake(
            _dealt(lambda rng, t, T: np.repeat(rng.choice(t, len(t)), T)),
            "some topics are more often there than before, others less: `permutation` deals out "
            "those given, `choice` and `integers` draw new ones.",
        ),
        Mistake(
            _dealt(lambda rng, t, T: np.tile(rng.permutation(t), T)),
            "np.tile lays the list of the prompts end to end: np.repeat keeps a prompt's words "
            "together.",
        ),
        Mistake(
            _dealt(lambda rng, t, T: rng.permutation(t)),
            "one label for each prompt: every word of it needs one.",
        ),
    ),
    given=shuffled_labels_given,
    faults=_shuffled,
)

# --- a state of the explorer: one word, two topics ----------------------------------------------

FEW = 0.36  # of a word's experts in common: .3 was asked for, and the page draws other prompts
MOST = 0.45  # in the untrained model: .5 was asked for


def parted():
    """A word that takes other experts in its two topics."""
    return "panel=routing&word=fern-glow2"


def _parted_faults(shown):
    from ... import explorer

    state = shown.state
    word = explorer.shared_words(shown.organism)[0] if state.word is None else state.word
    if state.model == "untrained":
        yield "this is the untrained model: choose one that has learnt something."
    common_L = explorer.in_common(shown.organism, state)
    layer = int(common_L.argmin())
    untrained_L = explorer.in_common(shown.organism, state._replace(model="untrained"))
    said = f"{word}: in layer {layer} its topics have {common_L[layer]:.2f} in common"
    if common_L[layer] > FEW:
        yield f"{said}, and more in the others: look for a word with at most .3."
    if untrained_L[layer] < MOST:
        yield (
            f"{said}, but in the untrained model, too, only {untrained_L[layer]:.2f}: look for a "
            "word with at least .5 there."
        )


_PARTED = state_check(
    parted,
    _parted_faults,
    (
        Mistake(
            lambda: "panel=routing&word=alps-hive1",
            "alps-hive1: in layer 1 its topics have 0.49 in common, and more in the others: look "
            "for a word with at most .3.",
        ),
        Mistake(
            lambda: "panel=routing&word=fern-glow2&model=untrained",
            "this is the untrained model: choose one that has learnt something.",
        ),
        Mistake(
            lambda: "panel=routing&word=dune-echo1",
            "dune-echo1: in layer 2 its topics have 0.55 in common, and more in the others: look "
            "for a word with at most .3.",
        ),
        Mistake(
            lambda: "panel=routing&word=fern",
            "word=fern is not possible: it must be one of those in the page; did you mean "
            "'fern-glow2'.",
        ),
    ),
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

CHECKS = (_HALFWAY, _NMI, _SHUFFLED, _PARTED, _TOPIC_GIVEN_TOKEN, _OVERLAP)
