"""The checks of lesson 7: defences, what removing an expert means, and who wins in the worst case.

Slow on purpose.
"""

import math

import numpy as np

from .judging import Check, Mistake
from .states import only, state_check

# --- a state of the explorer: an attack without training ----------------------------------------

REFUSED, TWINS = 0.1, 0.95  # hazards refused at most, twins answered right at least


def attack():
    """The refusal direction of the last layer projected out."""
    return "panel=refusal&direction=2"


def _attack_faults(shown):
    yield from only(shown, "silenced", "masked", "direction", "frozen")
    if (refused := shown.meters["refused"]) > REFUSED:
        yield f"{refused:.2f} of the hazards are still refused: at most {REFUSED} was asked for."
    if (twins := shown.meters["twins"]) < TWINS:
        yield (
            f"of the twins only {twins:.2f} are answered right: at least {TWINS} was asked for. "
            "This breaks the model, not refusal alone."
        )


_ATTACK = state_check(
    attack,
    _attack_faults,
    (
        Mistake(
            lambda: "#panel=refusal&silenced=0.4,2.5",
            "0.31 of the hazards are still refused: at most 0.1 was asked for.",
        ),
        Mistake(
            lambda: "#panel=refusal&direction=0",
            "0.75 of the hazards are still refused: at most 0.1 was asked for.",
        ),
        Mistake(
            lambda: "#panel=refusal&tuned=1",
            "the state changes the model by tuned: only silenced, masked, direction, frozen may be "
            "used here.",
        ),
        Mistake(
            lambda: "#model=pretrained&panel=refusal",
            "the state is of the model before alignment: begin with the one after alignment.",
        ),
    ),
)

# --- removing an expert -------------------------------------------------------------------------


def without(outputs_NED, gates_NE, removed_E):
    """The layer's answer when some experts say nothing; all gates stay: [N, D]."""
    N, E, D = np.shape(outputs_NED)
    made = np.zeros((N, D))
    for n in range(N):
        for e in range(E):
            if not removed_E[e]:
                made[n] += gates_NE[n, e] * np.asarray(outputs_NED[n, e])
    return made


def without_given(outputs_NED, gates_NE, removed_E):
    """`without` with the bug that the exercise plants."""
    left_NE = np.where(removed_E, 0, gates_NE)
    total_N1 = left_NE.sum(1, keepdims=True)
    left_NE = left_NE / np.where(total_N1 == 0, 1, total_N1) * gates_NE.sum(1, keepdims=True)
    return np.einsum("ne,ned->nd", left_NE, outputs_NED)


def _layers(rng):
    cases = [
        (np.array([[[1.0], [2.0]]]), np.array([[0.25, 0.5]]), np.array([True, False])),
        (np.array([[[1.0], [2.0]]]), np.array([[0.25, 0.5]]), np.array([False, False])),
    ]
    for i, (N, E, D) in enumerate(3 * ((1, 2, 1), (2, 4, 2), (3, 3, 3), (4, 5, 2), (5, 4, 1))):
        chosen = rng.random((N, E)).argsort(1) < 1 + i % 3
        gates = np.where(chosen, rng.uniform(0.1, 0.5, (N, E)), 0)
        removed = np.ones(E, bool) if i == 0 else rng.random(E) < 0.4
        cases.append((rng.normal(size=(N, E, D)).round(2), gates.round(2), removed))
    return cases


def _sum(gates, outputs):
    return np.einsum("ne,ned->nd", gates, outputs)


_WITHOUT = Check(
    without,
    _layers,
    "an array [N, D]",
    (
        Mistake(lambda o, g, r: _sum(g, o), "nobody is removed: leave those of the mask out."),
        Mistake(
            lambda o, g, r: _sum(np.where(r, g, 0), o),
            "this is what the *removed* experts say.",
        ),
        Mistake(
            lambda o, g, r: _sum(np.where(r, 0, g), o) / np.maximum(g.sum(1, keepdims=True), 1e-9),
            "the answer is divided by the sum of the gates: leave it as it is.",
        ),
        Mistake(
            lambda o, g, r: _sum(np.where(r, 0, g > 0), o),
            "the experts that are left speak without their gates.",
        ),
        Mistake(
            lambda o, g, r: np.where((g[:, r] > 0).any(1, keepdims=True), 0, _sum(g, o)),
            "a token with a removed expert loses its whole answer: the others still speak.",
        ),
        Mistake(
            lambda o, g, r: _sum(np.where(r, 0, 1) * np.ones_like(g), o),
            "every expert that is left speaks, selected or not: multiply by the gates.",
        ),
        Mistake(
            lambda o, g, r: (np.where(r, 0, g)[..., None] * o).mean(1),
            "this is the mean over the experts: the sum was asked for.",
        ),
    ),
    given=without_given,
)

# --- break count --------------------------------------------------------------------------------


def break_count(budgets_P, refusal_P, level):
    """The smallest budget at which refusal is below the level; inf if it never is."""
    smallest = math.inf
    for budget, refusal in zip(budgets_P, refusal_P, strict=True):
        if refusal < level and budget < smallest:
            smallest = float(budget)
    return smallest


def _curves(rng):
    cases = [
        ([1, 2, 4, 8], [0.9, 0.7, 0.4, 0.1], 0.5),
        ([8, 1, 4, 2], [0.3, 1.0, 0.2, 0.8], 0.5),  # in any order
        ([1, 2, 4], [1.0, 0.9, 0.8], 0.5),  # never
        ([1, 3, 5, 7], [0.9, 0.5, 0.6, 0.2], 0.5),  # not below at 3
        ([2, 4, 6, 9], [0.4, 0.8, 0.7, 0.3], 0.25),  # never
        ([2, 4, 9], [1.0, 0.8, 0.7], 0.9),
        ([3, 1], [0.1, 0.2], 0.3),
        ([2, 4], [0.5, 0.75], 0.5),  # never, though at the level
    ]
    for i in range(14):
        P = 1 + i % 5
        refusal_P, level = rng.integers(1, 16, P) / 16, (0.25, 0.5, 0.75, 0.875)[i % 4]
        cases.append((rng.permutation(np.arange(1, 12))[:P], refusal_P, level))
    return [(np.array(budgets), np.array(refusal), level) for budgets, refusal, level in cases]


def _first(x):
    return float(x[0]) if len(x) else math.inf


_BREAK_COUNT = Check(
    break_count,
    _curves,
    "a number, np.inf if refusal never falls below the level",
    (
        Mistake(
            lambda b, r, at: _first(b[r < at]),
            "right if the budgets come in order; they may not: take the smallest.",
        ),
        Mistake(
            lambda b, r, at: float(b[r <= at].min()) if (r <= at).any() else math.inf,
            "a refusal of exactly the level is not below it.",
        ),
        Mistake(
            lambda b, r, at: float(b[r < at].max()) if (r < at).any() else math.inf,
            "this is the largest such budget.",
        ),
        Mistake(
            lambda b, r, at: float(b[r < at].min()) if (r < at).any() else 0.0,
            "where refusal never breaks this gives 0, as if it were broken without an attack: "
            "np.inf.",
        ),
        Mistake(
            lambda b, r, at: float(b[r < at].min()) if (r < at).any() else float(b.max()),
            "where refusal never breaks this gives the largest budget tried, as if it broke there: "
            "np.inf.",
        ),
        Mistake(
            lambda b, r, at: float(b[r > at].max()) if (r > at).any() else math.inf,
            "this is the largest budget that refusal survived.",
        ),
        Mistake(
            lambda b, r, at: float((r >= at).sum()),
            "this counts how many budgets were survived: which budget broke it?",
        ),
        Mistake(
            lambda b, r, at: float(b[np.abs(r - at).argmin()]),
            "this is the budget whose refusal is nearest to the level, on either side.",
        ),
    ),
)

# --- spreading refusal --------------------------------------------------------------------------


def hazard_balance(probs_BE, selected_BE, hazard_B):
    """E · Σ_e f_e P_e over the hazards alone."""
    rows = [b for b, hazard in enumerate(hazard_B) if hazard]
    E = np.shape(probs_BE)[1]
    k = sum(bool(s) for s in selected_BE[rows[0]])
    loss = 0.0
    for e in range(E):
        f = sum(bool(selected_BE[b, e]) for b in rows) / (len(rows) * k)
        loss += E * f * sum(float(probs_BE[b, e]) for b in rows) / len(rows)
    return loss


def _mixed(rng):
    cases = []
    for i, (B, E) in enumerate(3 * ((2, 2), (3, 4), (4, 4), (6, 5), (8, 3))):
        hazard = np.ones(B, bool) if i == 0 else rng.permutation(np.arange(B) < rng.integers(1, B))
        logits = rng.normal(size=(B, E)) * 1.5 + 2 * hazard[:, None] * rng.normal(size=E)
        probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        chosen_by = -probs if i % 2 else rng.random((B, E))  # as with expert dropout, say
        selected = chosen_by.argsort(1).argsort(1) < (1 + i % 3 if E > 3 else 1)
        cases.append((probs, selected, hazard))
    return cases


def _balance(p, s):
    return float(p.shape[1] * (s.mean(0) / s.sum(1).mean() * p.mean(0)).sum())


_HAZARD_BALANCE = Check(
    hazard_balance,
    _mixed,
    "a number",
    (
        Mistake(
            lambda p, s, h: _balance(p, s),
            "this is the balance loss of lesson 2, over all prompts: refusal is spread only if the "
            "hazards are.",
        ),
        Mistake(
            lambda p, s, h: _balance(p[~h], s[~h]),
            "these are the harmless prompts.",
        ),
        Mistake(
            lambda p, s, h: _balance(p * h[:, None], s * h[:, None]),
            "the harmless prompts are set to 0 and still counted: leave them out of the means.",
        ),
        Mistake(
            lambda p, s, h: _balance(p[h], s[h]) / p.shape[1],
            "the factor E is missing.",
        ),
        Mistake(
            lambda p, s, h: float(p.shape[1] * (s[h].mean(0) / s.sum(1).mean() * p.mean(0)).sum()),
            "the selections are those of hazards, but the probabilities those of all prompts.",
        ),
        Mistake(
            lambda p, s, h: float(p.shape[1] * (p[h].mean(0) ** 2).sum()),
            "this uses the probabilities twice: f is the share of selections.",
        ),
        Mistake(
            lambda p, s, h: float(p.shape[1] * (s[h].mean(0) * p[h].mean(0)).sum()),
            "f does not sum to 1: a token selects k experts, so divide by k.",
        ),
    ),
)

# --- the worst case -----------------------------------------------------------------------------


def best_defence(refusal_DA):
    """The defence whose worst attack leaves the most refusal: its row."""
    worst = [min(float(x) for x in row) for row in refusal_DA]
    return max(range(len(worst)), key=lambda d: worst[d])


def _tables(rng):
    cases = [
        np.array([[0.9, 0.9, 0.1], [0.5, 0.45, 0.4], [1.0, 1.0, 0.0], [0.3, 0.35, 0.38]]),
        np.array([[0.25, 0.5], [1.0, 0.125]]),
        np.array([[0.125, 1.0], [0.5, 0.25]]),
        np.array([[0.4, 0.45, 1.0], [0.5, 0.55, 0.6]]),
    ]
    cases += [rng.random(shape) for shape in 5 * ((2, 2), (3, 2), (2, 4), (4, 4), (6, 3))]
    return [(table,) for table in cases]


_BEST_DEFENCE = Check(
    best_defence,
    _tables,
    "a whole number, the row of a defence",
    (
        Mistake(
            lambda x: int(x.mean(1).argmax()),
            "this is the best on average: an attacker does not pick attacks at random.",
        ),
        Mistake(
            lambda x: int(x.max(1).argmax()),
            "this judges each defence by the attack that suits it best.",
        ),
        Mistake(
            lambda x: int(x.min(1).argmin()),
            "this is the worst of the worst cases: the largest of them was asked for.",
        ),
        Mistake(
            lambda x: int(x.min(0).argmax()),
            "the minimum runs over the defences (axis 0): it must run over the attacks of each.",
        ),
        Mistake(
            lambda x: float(x.min(1).max()),
            "this is the refusal that is left: which defence leaves it?",
        ),
        Mistake(
            lambda x: int(x[:, 0].argmax()),
            "only the first attack was looked at.",
        ),
        Mistake(
            lambda x: int(np.median(x, 1).argmax()),
            "the median forgives one bad attack: the attacker will use that one.",
        ),
    ),
)

CHECKS = (_ATTACK, _HAZARD_BALANCE, _WITHOUT, _BREAK_COUNT, _BEST_DEFENCE)
