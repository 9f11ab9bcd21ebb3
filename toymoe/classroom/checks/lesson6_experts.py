"""The checks of lesson 6 about experts: which to tune, which others are used as much.

Numpy only; slow on purpose.
"""

import numpy as np

from .judging import Check, Mistake

# --- the criterion ------------------------------------------------------------------------------


def contrast_score(hazards_LEB, twins_LEB):
    """Mean over pairs of hazard minus twin, by its standard deviation (plus a little): [L, E]."""
    L, E, B = np.shape(hazards_LEB)
    mean, sd = np.zeros((L, E)), np.zeros((L, E))
    for layer in range(L):
        for e in range(E):
            change = [hazards_LEB[layer, e, b] - twins_LEB[layer, e, b] for b in range(B)]
            mean[layer, e] = sum(change) / B
            sd[layer, e] = (sum((c - mean[layer, e]) ** 2 for c in change) / B) ** 0.5
    return mean / (sd + 0.001 * sd.max())


def _sensitivities(rng):
    cases = [(np.array([[[1.0, 2.0], [0.5, 0.0]]]), np.array([[[0.0, 2.0], [0.0, 0.25]]]))]
    shapes = (1, 1, 2), (1, 2, 3), (2, 3, 2), (3, 2, 4), (2, 4, 4)
    for i, (L, E, B) in enumerate(3 * shapes):
        scale = (0.02, 1, 5)[i % 3] * np.arange(1, L + 1)[:, None, None] ** 2
        hazards = scale * (rng.normal(size=(L, E, B)) + rng.normal(size=(L, E, 1)))
        twins = scale * rng.normal(size=(L, E, B)) + 0.4 * hazards
        if E > 1:
            hazards[0, 0] = twins[0, 0] = 0  # an expert that nobody selects
        if E > 2:
            twins[-1, -1] = rng.integers(-3, 4, B)
            hazards[-1, -1] = twins[-1, -1] + 0.25  # one that does the same in every pair
        cases.append((hazards, twins))
    return cases


def _scored(mean, sd):
    return mean / (sd + 0.001 * sd.max())


CONTRAST_SCORE = Check(
    contrast_score,
    _sensitivities,
    "an array [L, E] of scores",
    (
        Mistake(
            lambda h, t: _scored(h.mean(-1), h.std(-1)),
            "the twins are not used: what an expert does for any request of the topic counts as "
            "refusal.",
        ),
        Mistake(
            lambda h, t: (h - t).mean(-1),
            "this is the mean difference; divide it by the standard deviation over the pairs.",
        ),
        Mistake(
            lambda h, t: _scored(np.abs((h - t).mean(-1)), (h - t).std(-1)),
            "the sign is lost: an expert that works against refusal would be chosen too.",
        ),
        Mistake(
            lambda h, t: _scored((h - t).mean(-1), h.std(-1)),
            "the standard deviation is that of the hazards alone: take it of the differences.",
        ),
        Mistake(
            lambda h, t: _scored((h - t).mean(-1), np.sqrt(h.var(-1) + t.var(-1))),
            "hazards and twins are treated as strangers: they come in pairs, so take the standard "
            "deviation of hazard minus twin.",
        ),
        Mistake(
            lambda h, t: (h - t).mean(-1) / (h - t).std(-1),
            "an expert that nobody selects has a standard deviation of 0: add the small number.",
        ),
        Mistake(
            lambda h, t: (h - t).mean(-1) / ((h - t).std(-1) + 0.001),
            "the small number must be 0.001 of the largest standard deviation, so that the scale "
            "of the logits does not matter; here it is 0.001 itself.",
        ),
        Mistake(
            lambda h, t: _scored((h - t).mean(-1), (h - t).std(-1, ddof=1)),
            "the standard deviation divides by B - 1; here all B pairs are meant (ddof=0).",
        ),
    ),
)

# --- the control --------------------------------------------------------------------------------


def usage_twin(usage_E, chosen_E):
    """For each chosen expert of a layer another one that is used about as much: a mask [E]."""
    taken = {e for e, chosen in enumerate(chosen_E) if chosen}
    made = np.zeros(len(usage_E), bool)
    for expert in sorted(taken):
        free = [e for e in range(len(usage_E)) if e not in taken]
        nearest = min(free, key=lambda e: (abs(usage_E[e] - usage_E[expert]), e))
        made[nearest] = True
        taken.add(nearest)
    return made


def _uses(rng):
    cases = [
        (np.array([0.4, 0.3, 0.2, 0.1]), np.array([True, False, False, False])),
        (np.array([0.3, 0.31, 0.1, 0.29, 0.0]), np.array([True, True, False, False, False])),
        (np.array([0.25, 0.5, 0.75]), np.array([False, True, False])),  # equally near
        (np.array([0.75, 0.5, 0.25]), np.array([False, True, False])),
        (np.array([0.125, 0.875, 0.25, 1.0]), np.array([False, False, False, True])),
        (np.array([0.5, 0.25, 0.25, 0.5]), np.array([True, False, False, False])),
        # Who goes first takes the third, who comes second the fourth or the fifth.
        (np.array([0.5, 0.75, 0.625, 0.25, 1.0]), np.array([True, True, False, False, False])),
        (np.array([0.75, 0.5, 0.625, 0.25, 1.0]), np.array([True, True, False, False, False])),
    ]
    for i, E in enumerate((40, *4 * (3, 4, 5, 7, 8))):
        usage = rng.dirichlet(np.ones(E)) if i % 2 else rng.integers(0, 9, E) / 16
        cases.append((usage, rng.permutation(np.arange(E) < rng.integers(0, E // 2 + 1))))
    return cases


def _matched(distance, again=False, own=False):
    """Stand-ins by a distance between experts i and j."""

    def mistake(usage, chosen):
        made, taken = (
            np.zeros(len(usage), bool),
            np.zeros(len(usage), bool) if own else chosen.copy(),
        )
        for i in np.flatnonzero(chosen):
            apart = np.array([distance(usage, i, j) for j in range(len(usage))], float)
            pick = int(np.where(taken, np.inf, apart).argmin())
            made[pick] = True
            if not again:
                taken[pick] = True
        return made

    return mistake


def _near(usage, i, j):
    return abs(usage[i] - usage[j])


USAGE_TWIN = Check(
    usage_twin,
    _uses,
    "an array [E] of True and False",
    (
        Mistake(
            _matched(_near, own=True),
            "the chosen experts stand in for themselves: the stand-ins must be others.",
        ),
        Mistake(
            _matched(_near, again=True),
            "one expert stands in for two: whoever is taken is no longer free, so that both sides "
            "have as many experts.",
        ),
        Mistake(
            _matched(lambda usage, i, j: abs(i - j)),
            "the stand-ins are nearest by their number, which means nothing: nearest by usage.",
        ),
        Mistake(
            _matched(lambda usage, i, j: usage[j] - usage[i]),
            "the sign matters here: the least used of the free ones is taken. Use the absolute "
            "difference.",
        ),
        Mistake(
            _matched(lambda usage, i, j: -usage[j]),
            "these are the most used of the free experts: those used as much as the chosen ones "
            "were asked for.",
        ),
        Mistake(
            _matched(lambda usage, i, j: j),
            "these are the free experts of lowest number, whatever their usage.",
        ),
        Mistake(
            lambda usage, chosen: ~chosen,
            "these are all the experts that were not chosen: one for each chosen one.",
        ),
        Mistake(
            _matched(lambda usage, i, j: -_near(usage, i, j)),
            "these are the experts whose usage is most different.",
        ),
    ),
)
