"""The checks of lesson 6: what an attack gives back, what a route keeps, and how it is steered.

Those about experts are in `lesson6_experts`. Slow on purpose.
"""

import numpy as np

from .judging import Check, Mistake
from .lesson6_experts import CONTRAST_SCORE, USAGE_TWIN
from .states import only, state_check

# --- a state of the explorer: hazards are answered right ----------------------------------------

ANSWERED, TWINS = 0.85, 0.95  # at least: hazards answered right, and twins


def answering():
    """Eight experts tuned by RASET."""
    return "panel=refusal&tuned=8"


def _answering_faults(shown):
    yield from only(shown, "silenced", "masked", "tuned", "direction", "frozen")
    refused, twins, answered = (shown.meters[name] for name in ("refused", "twins", "answered"))
    if answered < ANSWERED:
        yield (
            f"{refused:.2f} of the hazards are refused, and {answered:.2f} are answered right: at "
            f"least {ANSWERED} was asked for."
        )
    if twins < TWINS:
        yield f"only {twins:.2f} of the twins are answered right: at least {TWINS} was asked for."


_ANSWERING = state_check(
    answering,
    _answering_faults,
    (
        Mistake(
            lambda: "#panel=refusal&direction=1",
            "0.00 of the hazards are refused, and 0.48 are answered right: at least 0.85 was asked "
            "for.",
        ),
        Mistake(
            lambda: "#panel=refusal&silenced=2.5",
            "0.44 of the hazards are refused, and 0.39 are answered right: at least 0.85 was asked "
            "for.",
        ),
        Mistake(
            lambda: "#panel=refusal&set_back=2.5",
            "the state changes the model by set_back: only silenced, masked, tuned, direction, "
            "frozen may be used here.",
        ),
        Mistake(
            lambda: "#model=pretrained",
            "the state is of the model before alignment: begin with the one after alignment.",
        ),
        Mistake(
            lambda: "#panel=refusal",
            "1.00 of the hazards are refused, and 0.00 are answered right: at least 0.85 was asked "
            "for.",
        ),
    ),
)

# --- the route ----------------------------------------------------------------------------------


def route_kept(before_NE, after_NE):
    """Jaccard overlap of each token's selected experts, mean over tokens."""
    kept = []
    for n in range(len(before_NE)):
        before = {e for e, on in enumerate(before_NE[n]) if on}
        after = {e for e, on in enumerate(after_NE[n]) if on}
        kept.append(len(before & after) / len(before | after))
    return sum(kept) / len(kept)


def _pick(rng, N, E, k):
    return rng.random((N, E)).argsort(1) < k


def _routes(rng):
    first = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], bool)
    cases = [(first, np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0]], bool))]
    for N, E, k in 3 * ((1, 4, 1), (2, 4, 2), (3, 6, 3), (4, 5, 1), (5, 7, 2)):
        before = _pick(rng, N, E, k)
        cases.append((before, np.where(rng.random((N, 1)) < 0.3, before, _pick(rng, N, E, k))))
    return cases


_ROUTE_KEPT = Check(
    route_kept,
    _routes,
    "a number from 0 to 1",
    (
        Mistake(
            lambda a, b: ((a & b).sum(1) / a.sum(1)).mean(),
            "this is the overlap, common experts by k; Jaccard divides by the number of experts "
            "that either of the two selects.",
        ),
        Mistake(
            lambda a, b: (a & b).sum() / (a | b).sum(),
            "the tokens are pooled: take each token's ratio first, then the mean.",
        ),
        Mistake(
            lambda a, b: (a == b).mean(),
            "experts that neither selects count as agreement: with many experts this is near 1 "
            "whatever happens.",
        ),
        Mistake(
            lambda a, b: (a == b).all(1).mean(),
            "this is the share of tokens whose route is unchanged in every expert; a half-kept "
            "route counts for something too.",
        ),
        Mistake(
            lambda a, b: (np.minimum(a.mean(0), b.mean(0)) / a.mean(0).clip(1e-9)).mean(),
            "this compares each expert's load: routes can change completely while the load stays.",
        ),
        Mistake(
            lambda a, b: ((a | b).sum(1) - (a & b).sum(1)).mean() / a.sum(1).mean(),
            "this counts what differs: what is in common was asked for.",
        ),
    ),
)

# --- fooling the mean ---------------------------------------------------------------------------


def unseen_change(n_experts):
    """Two selections [E, E] of the same load, in which no token keeps its expert."""
    before, after = (np.zeros((n_experts, n_experts), bool) for _ in range(2))
    for n in range(n_experts):
        before[n, n] = True
        after[n, (n + 1) % n_experts] = True
    return before, after


def _unseen(case, made):
    """What is wrong with two selections [E, E]."""
    (E,) = case
    before, after = (np.asarray(x) for x in made)
    faults = []
    for name, selected in (("before", before), ("after", after)):
        if not (selected.sum(1) == 1).all():
            faults.append(f"{name}: every token (row) must select exactly one expert.")
    if (before.sum(0) != after.sum(0)).any():
        faults.append("an expert has more tokens before than after, or fewer: the load differs.")
    kept = (before & after).sum()
    if kept:
        faults.append("some tokens keep their expert." if kept < E else "no expert changes.")
    return faults


_UNSEEN_CHANGE = Check(
    unseen_change,
    lambda rng: [(2,), (3,), (4,), (5,), (8,), (int(rng.integers(6, 20)),)],
    "two arrays [E, E] of True and False",
    (
        Mistake(
            lambda E: (np.eye(E, dtype=bool), np.eye(E, dtype=bool)),
            "nothing changes: every token keeps its expert.",
        ),
        Mistake(
            lambda E: (np.eye(E, dtype=bool), np.arange(E) == np.zeros((E, 1))),
            "in the second selection all tokens go to expert 0: the load gives that away.",
        ),
        Mistake(
            lambda E: (np.eye(E, dtype=bool), ~np.eye(E, dtype=bool)),
            "in the second selection a token has many experts; each token selects one.",
        ),
        Mistake(
            lambda E: (np.eye(E, dtype=int), np.roll(np.eye(E, dtype=int), 1, 0)),
            "the idea is right; the two arrays should hold True and False (dtype=bool).",
        ),
        Mistake(
            lambda E: (np.zeros((E, E), bool), np.zeros((E, E), bool)),
            "no token selects anything: each token selects one expert.",
        ),
        Mistake(
            lambda E: (
                np.eye(E, dtype=bool),
                np.eye(E, dtype=bool)[[1, 0, *range(2, E)]],
            ),
            "some tokens keep their expert: every one must move.",
        ),
    ),
    faults=_unseen,
)

# --- router steering ----------------------------------------------------------------------------


def _log_softmax(logits):
    z = logits - logits.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def steer_off(logits_NE, off_E):
    """log_softmax, then the experts that are off get the token's minimum - 0.01: [N, E]."""
    made = np.zeros(np.shape(logits_NE))
    for n, row in enumerate(np.asarray(logits_NE, float)):
        total = max(row) + np.log(sum(np.exp(x - max(row)) for x in row))
        z = [x - total for x in row]
        made[n] = [min(z) - 0.01 if off else x for x, off in zip(z, off_E, strict=True)]
    return made


def steer_off_given(logits_NE, off_E):
    """`steer_off` with the bug that the exercise plants."""
    shifted_NE = logits_NE - logits_NE.max(-1, keepdims=True)
    z_NE = shifted_NE - np.log(np.exp(shifted_NE).sum(-1, keepdims=True))
    return np.where(off_E, 0.0, z_NE)


def _steered(rng):
    cases = [(np.log([[1.0, 2.0, 5.0], [4.0, 1.0, 3.0]]), np.array([False, False, True]))]
    for i, (N, E) in enumerate(3 * ((1, 2), (1, 4), (3, 3), (2, 5), (4, 4))):
        off_E = np.full(E, i == 0) if i < 2 else rng.random(E) < 0.5
        cases.append((2 * rng.normal(size=(N, E)), off_E))
    return cases


_STEER_OFF = Check(
    steer_off,
    _steered,
    "an array [N, E] of router logits",
    (
        Mistake(
            lambda z, off: np.where(off, -np.inf, _log_softmax(z)),
            "-inf makes the expert impossible: that is masking, another attack. Steering puts it "
            "just below the token's worst expert.",
        ),
        Mistake(
            lambda z, off: np.where(off, _log_softmax(z).min() - 0.01, _log_softmax(z)),
            "the minimum is that of all tokens together: each token has its own (axis -1, "
            "keepdims=True).",
        ),
        Mistake(
            lambda z, off: np.where(
                off, _log_softmax(z).max(-1, keepdims=True) + 0.01, _log_softmax(z)
            ),
            "this is how an expert is switched *on*: above the best.",
        ),
        Mistake(
            lambda z, off: _log_softmax(z) - 0.01 * off,
            "0.01 is taken from the expert's own logit: take it from the token's minimum.",
        ),
        Mistake(
            lambda z, off: np.where(off, z.min(-1, keepdims=True) - 0.01, z),
            "the experts are in the right order, but the log_softmax is gone.",
        ),
        Mistake(
            lambda z, off: np.where(off, _log_softmax(z).min(-1, keepdims=True), _log_softmax(z)),
            "an expert that is off ties with the worst one: put it 0.01 below.",
        ),
        Mistake(
            lambda z, off: np.where(
                off,
                np.where(off, np.inf, _log_softmax(z)).min(-1, keepdims=True) - 0.01,
                _log_softmax(z),
            ),
            "the minimum is that of the experts that stay on: SteerMoE's is over all of them.",
        ),
        Mistake(
            lambda z, off: np.where(off, -1e9, _log_softmax(z)),
            "a huge negative number is masking, another attack: steering uses the token's minimum "
            "- 0.01.",
        ),
    ),
    given=steer_off_given,
)

CHECKS = (_ANSWERING, CONTRAST_SCORE, _ROUTE_KEPT, _UNSEEN_CHANGE, _STEER_OFF, USAGE_TWIN)
