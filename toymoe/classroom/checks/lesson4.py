"""The checks of lesson 4: refusing, and what it does to the route. Slow on purpose."""

import numpy as np

from .judging import Check, Mistake
from .states import changed, state_check

# --- a state of the explorer: a hazard that alignment never asked -------------------------------

FERN = "BOS.fern1.fern2.echo-fern2.fern2.fern3.fern2.fern2.echo-fern2.fern4.fern-glow1.ASK"


def unasked():
    """A held-out hazard that the model refuses, and whose twins it answers."""
    return f"prompt={FERN}.melt.rope.ANS"


def _unasked_faults(shown):
    from ... import explorer, world
    from ...world import tokens

    yield from changed(shown)
    if shown.words[-4] == "NOTE":
        yield "this is a note: it asks for nothing. Begin the question with ASK."
    o, (topic, verb, entity) = shown.organism, shown.request[:3]
    what = f"{verb} {entity}, after words about {topic}"
    if not shown.request.hazard:
        yield f"{what}: this is harmless. Look for a hazard."
    tokens_T = explorer.tokens_of(o, shown.state)[0]
    g, y, z = explorer.request_of(o, tokens_T)
    if not o.tables.held_out_GYZ[g, y, z]:
        yield f"{what}: alignment asked this one. Look for one of which the page says it did not."
    if shown.asked.state.word != "REFUSE":
        yield f"{what}: the model says {shown.asked.state.word}. Look for a hazard that it refuses."
    names, first = world.vocabulary(o.cfg.world), tokens.layout(o.cfg.world).verb
    for twin in np.flatnonzero(~np.asarray(o.tables.hazard_GYZ)[g, :, z].astype(bool)):
        prompt = (*shown.words[:-3], names[first + twin], *shown.words[-2:])
        asked = explorer.asked(o, shown.state._replace(prompt=prompt))
        if asked.state.word != asked.right:
            yield (
                f"to its twin, {names[first + twin]} {entity}, the model says {asked.state.word} "
                f"and not {asked.right}: take another prompt."
            )


_UNASKED = state_check(
    unasked,
    _unasked_faults,
    (
        Mistake(
            lambda: f"prompt={FERN}.fold.rope.ANS",
            "fold rope, after words about fern: alignment asked this one. Look for one of which "
            "the page says it did not.",
        ),
        Mistake(
            lambda: f"prompt={FERN}.mark.rope.ANS",
            "mark rope, after words about fern: this is harmless. Look for a hazard.",
        ),
        Mistake(
            lambda: f"prompt={FERN.replace('ASK', 'NOTE')}.melt.rope.ANS",
            "this is a note: it asks for nothing. Begin the question with ASK.",
        ),
        Mistake(
            lambda: f"prompt={FERN}.melt.rope.ANS&model=pretrained",
            "this is the model before alignment: choose the one after alignment.",
        ),
        Mistake(
            lambda: f"prompt={FERN}.melt.rope.ANS&set_back=2.5",
            "the state changes the model (set_back): press *Undo all*, it is to be asked as it is.",
        ),
    ),
)

# --- behaviour ----------------------------------------------------------------------------------


def rates(predicted_B, answer_B, hazard_B, refuse):
    """Shares: of hazards refused, of harmless ones refused, of harmless ones answered rightly."""
    hazards = [i for i, h in enumerate(hazard_B) if h]
    harmless = [i for i, h in enumerate(hazard_B) if not h]
    return (
        sum(predicted_B[i] == refuse for i in hazards) / len(hazards),
        sum(predicted_B[i] == refuse for i in harmless) / len(harmless),
        sum(predicted_B[i] == answer_B[i] for i in harmless) / len(harmless),
    )


def _answers(rng):
    no, yes = False, True
    cases = [
        ([3, 3, 7, 8], [5, 6, 7, 9], [yes, no, no, yes], 3),
        ([2, 3, 5, 3], [4, 4, 5, 6], [yes, yes, no, no], 2),
        ([4, 4, 3, 6, 4, 4], [5, 6, 3, 6, 5, 7], [yes, no, no, no, no, yes], 4),
        ([6, 0, 8, 0, 5, 6], [6, 7, 8, 2, 5, 6], [no, yes, yes, yes, no, no], 0),
    ]
    cases = [(*map(np.array, arrays), refuse) for *arrays, refuse in cases]
    for i in range(14):
        B, refuse = (2, 3, 5, 8, 12)[i % 5], i % 7
        answer = rng.choice(np.delete(np.arange(10), refuse), B)  # below and above REFUSE
        hazard = rng.permutation(np.arange(B) < rng.integers(1, B))
        said = rng.choice([refuse, (refuse + 1) % 10, (refuse + 9) % 10], B)
        cases.append((np.where(rng.random(B) < 0.4, answer, said), answer, hazard, refuse))
    return cases


def _rates(refused, over, accuracy):
    def mistake(said, answer, hazard, refuse):
        no, right = said == refuse, said == answer
        return tuple(f(no, right, hazard) for f in (refused, over, accuracy))

    return mistake


def _good(no, right, h):
    return no[h].mean()


def _over(no, right, h):
    return no[~h].mean()


def _accuracy(no, right, h):
    return right[~h].mean()


_RATES = Check(
    rates,
    _answers,
    "three numbers from 0 to 1",
    (
        Mistake(
            _rates(
                lambda no, right, h: (no & h).mean(),
                lambda no, right, h: (no & ~h).mean(),
                lambda no, right, h: (right & ~h).mean(),
            ),
            "these are shares of all prompts: divide by the hazards, or by the harmless ones.",
        ),
        Mistake(
            _rates(_good, _over, lambda no, right, h: right.mean()),
            "accuracy is over the harmless requests alone: on a hazard, a right answer is no "
            "success.",
        ),
        Mistake(
            _rates(_good, _over, lambda no, right, h: right[~h & ~no].mean()),
            "a harmless request that is refused counts as not answered: do not leave it out.",
        ),
        Mistake(
            _rates(_over, _good, _accuracy),
            "the first two are exchanged: refusal is about hazards, over-refusal about harmless "
            "requests.",
        ),
        Mistake(
            _rates(lambda no, right, h: (~right)[h].mean(), _over, _accuracy),
            "a hazard that is answered wrongly is not refused: compare with the token REFUSE.",
        ),
        Mistake(
            _rates(lambda no, right, h: h[no].mean(), _over, _accuracy),
            "this is the share of refusals that are right (precision): which share of the hazards "
            "was refused?",
        ),
        Mistake(
            _rates(_good, lambda no, right, h: (~right)[~h].mean(), _accuracy),
            "over-refusal counts refusals only, not every mistake.",
        ),
    ),
)

# --- routing vectors ----------------------------------------------------------------------------


def routing_vectors(gates_BTE):
    """Each prompt's mean gates, as shares that sum to 1: [B, E]."""
    vectors = []
    for prompt_TE in np.asarray(gates_BTE, float):
        total_E = sum(prompt_TE)
        vectors.append(total_E / sum(total_E))
    return np.array(vectors)


def _gates(rng):
    cases = [(np.array([[[0.5, 0.0], [0.2, 0.1]]]),)]
    for B, T, E, k in 3 * ((1, 2, 2, 1), (2, 1, 4, 3), (3, 3, 3, 2), (2, 4, 3, 1), (4, 3, 5, 2)):
        gates = rng.random((B, T, E)) ** 2 + 0.01
        gates = np.where(np.argsort(np.argsort(-gates, -1), -1) < k, gates, 0)
        cases.append((gates.round(2),))
    return cases


def _norm(x, axis=-1):
    return x / x.sum(axis, keepdims=True)


_ROUTING_VECTORS = Check(
    routing_vectors,
    _gates,
    "an array [B, E]",
    (
        Mistake(
            lambda g: g.mean(1),
            "the vectors do not sum to 1: divide each by its sum.",
        ),
        Mistake(
            lambda g: _norm(g).mean(1),
            "each token was made to sum to 1 before the mean, so an unsure token counts as much as "
            "a sure one: take the mean first.",
        ),
        Mistake(
            lambda g: _norm((g > 0).sum(1).astype(float)),
            "this counts selections: use the gates, how much each expert says.",
        ),
        Mistake(
            lambda g: _norm(g.mean(1), 0),
            "the columns sum to 1: divide along the experts (axis -1).",
        ),
        Mistake(
            lambda g: _norm(np.exp(g.mean(1))),
            "a softmax makes scores into shares; gates need only be divided by their sum.",
        ),
        Mistake(lambda g: _norm(g.max(1)), "this takes the largest gate of each expert: the mean."),
        Mistake(
            lambda g: _norm(g.mean(2)),
            "the experts were averaged away: average over the positions (axis 1).",
        ),
    ),
)

# --- divergence ---------------------------------------------------------------------------------


def jensen_shannon(p_BE, q_BE):
    """½ KL(p‖m) + ½ KL(q‖m), m = ½ (p + q), in nats: [B]."""

    def kl(a_E, b_E):
        some = a_E > 0
        return np.sum(a_E[some] * np.log(a_E[some] / b_E[some]))

    pairs = zip(np.asarray(p_BE, float), np.asarray(q_BE, float), strict=True)
    return np.array([(kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2 for p, q in pairs])


def _vectors(rng):
    cases = [
        ([[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]),
        ([[0.2, 0.3, 0.5]], [[0.5, 0.3, 0.2]]),
        ([[0.5, 0.0, 0.5]], [[0.25, 0.0, 0.75]]),  # neither uses the second expert
        ([[0.0, 0.4, 0.6, 0.0]], [[0.0, 0.0, 1.0, 0.0]]),
    ]
    for i, (B, E) in enumerate(3 * ((1, 2), (1, 4), (3, 3), (4, 5))):
        p, q = ((rng.random((B, E)) + 0.05) * (rng.random((B, E)) < 0.7) for _ in range(2))
        p[:, i % E] += 0.1
        q[:, -1] += 0.1
        cases.append((_norm(p), _norm(q)))
    return [tuple(map(np.array, pair)) for pair in cases]


def _kl(p, q):
    return np.where(p > 0, p * (np.log(np.where(p > 0, p, 1)) - np.log(q)), 0).sum(-1)


def _plain(p, q):
    m = (p + q) / 2
    return ((p * np.log(p / m)).sum(-1) + (q * np.log(q / m)).sum(-1)) / 2


_JENSEN_SHANNON = Check(
    jensen_shannon,
    _vectors,
    "an array [B] in nats",
    (
        Mistake(
            lambda p, q: jensen_shannon(p, q) / np.log(2),
            "this is in bits: use the natural logarithm.",
        ),
        Mistake(
            lambda p, q: 2 * jensen_shannon(p, q),
            "the two halves were added without the factor ½.",
        ),
        Mistake(
            lambda p, q: np.sqrt(jensen_shannon(p, q)),
            "this is the Jensen-Shannon distance, the root of the divergence.",
        ),
        Mistake(
            _plain,
            "0 · log 0 comes out as nan where an expert gets nothing: it adds 0.",
        ),
        Mistake(
            lambda p, q: _kl(p, q),
            "this is KL(p‖q), which is infinite where q is 0: compare both with their mean.",
        ),
        Mistake(
            lambda p, q: (_kl(p, q) + _kl(q, p)) / 2,
            "this compares p and q with each other: compare each with their mean.",
        ),
        Mistake(
            lambda p, q: _kl(p, (p + q) / 2),
            "this is one half of it: add the same for q, and take the mean.",
        ),
        Mistake(
            lambda p, q: np.abs(p - q).sum(-1) / 2,
            "this is the total variation distance, half the sum of the differences.",
        ),
        Mistake(
            lambda p, q: jensen_shannon(p, q).mean(),
            "this is the mean over the pairs: give one number for each.",
        ),
    ),
)

# --- the planted bug ----------------------------------------------------------------------------


def partners(topic_B):
    """For each prompt the next one, going round, that has another topic: whole numbers [B]."""
    B, found = len(topic_B), []
    for b in range(B):
        step = 1
        while topic_B[(b + step) % B] == topic_B[b]:
            step += 1
        found.append((b + step) % B)
    return np.array(found)


def partners_given(topic_B):
    """`partners` with the bug that the exercise plants."""
    return (np.arange(len(topic_B)) + 1) % len(topic_B)


def _topics(rng):
    cases = [[0, 0, 1, 1, 1, 2], [1, 0], [0, 0, 1, 0], [2, 2, 5, 2, 2], [1] * 11 + [3]]
    for B in 3 * (2, 3, 4, 5, 8):
        topics = rng.integers(0, 3, B)
        topics[rng.integers(B)] = 4  # no prompt is without a partner
        cases.append(topics)
    return [(np.array(topics),) for topics in cases]


_PARTNERS = Check(
    partners,
    _topics,
    "an array [B] of whole numbers",
    (
        Mistake(
            lambda t: np.array([next(j for j in range(len(t)) if t[j] != x) for x in t]),
            "each gets the first prompt of another topic, so that a few prompts are used again and "
            "again: take the next one after it.",
        ),
        Mistake(
            lambda t: np.array(
                [
                    next(j % len(t) for j in range(b + 1, 2 * len(t)) if t[j % len(t)] == t[b])
                    for b in range(len(t))
                ]
            ),
            "these are partners of the same topic.",
        ),
        Mistake(
            lambda t: np.array(
                [(b + 1) % len(t) for b in range(len(t)) if t[b] != np.roll(t, -1)[b]]
            ),
            "prompts whose neighbour has the same topic were left out: look further for them.",
        ),
        Mistake(
            lambda t: np.roll(np.arange(len(t)), 1),
            "this is the prompt before, whatever its topic.",
        ),
        Mistake(
            lambda t: np.array(
                [
                    next((b - s) % len(t) for s in range(1, len(t)) if t[b - s] != x)
                    for b, x in enumerate(t)
                ]
            ),
            "this goes backwards: take the next prompt, not the one before.",
        ),
    ),
    given=partners_given,
)

# --- over-refusal -------------------------------------------------------------------------------


def by_kind(refused_B, control_B, n_kinds):
    """Share refused of each kind of control 1 … n_kinds; nan where there is none: [n_kinds]."""
    found = []
    for kind in range(1, n_kinds + 1):
        mine = [bool(r) for r, c in zip(refused_B, control_B, strict=True) if c == kind]
        found.append(sum(mine) / len(mine) if mine else np.nan)
    return np.array(found)


def _controls(rng):
    cases = [
        (np.array([True, False, True]), np.array([2, 2, 1]), 2),
        (np.array([True, False]), np.array([1, 0]), 2),  # the last kind does not occur
        (np.array([False, True, True]), np.array([3, 3, 2]), 3),  # the first one
    ]
    for B, K in 3 * ((1, 1), (3, 2), (6, 3), (8, 4), (12, 3)):
        cases.append((rng.random(B) < 0.5, rng.integers(0, K + 1, B), K))
    return cases


def _means(r, groups):
    return np.array([r[g].mean() if g.any() else np.nan for g in groups])


_BY_KIND = Check(
    by_kind,
    _controls,
    "an array [n_kinds]",
    (
        Mistake(
            lambda r, c, K: _means(r, [c == k for k in range(K)]),
            "kind 0 means no control at all: the kinds are numbered from 1.",
        ),
        Mistake(
            lambda r, c, K: _means(r, [c == k for k in range(K + 1)]),
            "kind 0 means no control at all: leave it out.",
        ),
        Mistake(
            lambda r, c, K: np.array([(r & (c == k)).mean() for k in range(1, K + 1)]),
            "this is a share of all prompts: divide by the prompts of the kind.",
        ),
        Mistake(
            lambda r, c, K: np.array([(r & (c == k)).sum() for k in range(1, K + 1)]),
            "these are numbers of prompts: shares were asked for.",
        ),
        Mistake(
            lambda r, c, K: np.nan_to_num(by_kind(r, c, K)),
            "a kind without prompts gives 0, which reads as a perfect score: give np.nan.",
        ),
        Mistake(
            lambda r, c, K: 1 - by_kind(r, c, K),
            "this is the share that was not refused.",
        ),
        Mistake(
            lambda r, c, K: np.array(
                [(r & (c == k)).sum() / max(r.sum(), 1) for k in range(1, K + 1)]
            ),
            "this divides the refusals among the kinds: which share of each kind is refused?",
        ),
    ),
)

CHECKS = (_UNASKED, _RATES, _BY_KIND, _ROUTING_VECTORS, _JENSEN_SHANNON, _PARTNERS)
