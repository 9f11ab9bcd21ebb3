"""The checks of lesson 2: the parts of a mixture-of-experts layer. Numpy only; slow on purpose."""

import numpy as np

from .judging import Check, Mistake


def _softmax(logits, axis=-1):
    p = np.exp(logits - logits.max(axis, keepdims=True))
    return p / p.sum(axis, keepdims=True)


def _top(scores_NE, k):
    """Bool: the k largest of each row; of equal ones, those of lower index."""
    order = np.argsort(-scores_NE, -1, kind="stable")[:, :k]
    mask = np.zeros(scores_NE.shape, bool)
    np.put_along_axis(mask, order, True, -1)
    return mask


# --- gates --------------------------------------------------------------------------------------


def top_k_gates(logits_NE, k):
    """Softmax over all experts, then the k largest of each token; 0 elsewhere."""
    gates_NE = np.zeros(np.shape(logits_NE))
    for n, row in enumerate(np.asarray(logits_NE, float)):
        weights = [np.exp(z - max(row)) for z in row]
        best = sorted(range(len(row)), key=lambda e: (-row[e], e))[:k]
        for e in best:
            gates_NE[n, e] = weights[e] / sum(weights)
    return gates_NE


def _logits(rng):
    cases = [
        (np.log([[1.0, 2.0, 5.0], [4.0, 4.0, 2.0]]), 1),
        (np.zeros((2, 4)), 2),
        (np.array([[1.0, 1.0, 1.0, 0.0], [0.0, 2.0, 2.0, 2.0]]), 2),
        (np.zeros((1, 40)), 3),  # a sort that is not stable shows in long rows
        *((rng.integers(0, 3, (2, E)).astype(float), k) for E, k in ((40, 5), (70, 20))),
    ]
    for N, E, k in 2 * ((1, 2, 1), (2, 3, 3), (3, 4, 2), (1, 6, 3), (4, 6, 1), (4, 5, 4)):
        z = rng.normal(size=(N, E)) * 2
        cases += [(z, k), (z.round() + 0.0, k)]  # no -0, which some sorts put before 0
    return cases


def _gates(score):
    """Gates of the top k of a score of the logits."""

    def mistake(z, k):
        p = score(z)
        return np.where(_top(p, k), p, 0)

    return mistake


def _renormalised(z, k):
    g = top_k_gates(z, k)
    return g / g.sum(1, keepdims=True)


def _threshold(z, k):
    p = _softmax(z)
    return np.where(p >= np.sort(p, -1)[:, [-k]], p, 0)


_TOP_K_GATES = Check(
    top_k_gates,
    _logits,
    "an array [N, E] of gates",
    (
        Mistake(
            _renormalised,
            "the gates of each token sum to 1: the softmax was taken over the selected experts, or "
            "the gates were divided by their sum. Softmax over all experts first, and leave it.",
        ),
        Mistake(
            _gates(lambda z: _softmax(z / 2)),
            "the logits were halved first (a temperature of 2): take the softmax of them as they "
            "are.",
        ),
        Mistake(
            _threshold,
            "right without ties; but where several experts tie for the last place, more than k "
            "are kept (compare by rank instead of by value).",
        ),
        Mistake(
            lambda z, k: _softmax(z), "no expert is left out: keep the k largest, zero the rest."
        ),
        Mistake(
            lambda z, k: np.where(_top(z, k), z, 0),
            "these are the logits of the selected experts: a gate is their softmax.",
        ),
        Mistake(
            lambda z, k: _top(z, k).astype(float),
            "this says which experts are selected; multiply it by their probabilities.",
        ),
        Mistake(
            _gates(lambda z: 1 / (1 + np.exp(-z))),
            "this is a sigmoid, each expert by itself; a softmax makes them compete.",
        ),
        Mistake(
            lambda z, k: np.where(_top(-z, k), _softmax(z), 0),
            "these are the k smallest: sort the other way round.",
        ),
        Mistake(
            lambda z, k: np.where(_top(z, k), _softmax(z, 0), 0),
            "the softmax runs over the tokens (axis 0): it must run over the experts (axis -1).",
        ),
        Mistake(
            lambda z, k: np.where(_top(np.abs(z), k), _softmax(z), 0),
            "experts are chosen by the size of their logit, whatever its sign: -3 is a no.",
        ),
    ),
)

# --- mixing -------------------------------------------------------------------------------------


def mix(outputs_NED, gates_NE):
    """y = Σ_e gate · output: [N, D]."""
    y_ND = np.zeros((np.shape(outputs_NED)[0], np.shape(outputs_NED)[2]))
    for n in range(len(y_ND)):
        for e in range(np.shape(outputs_NED)[1]):
            y_ND[n] += gates_NE[n, e] * outputs_NED[n, e]
    return y_ND


def _outputs(rng):
    cases = [(np.array([[[1.0, 2.0], [4.0, -3.0]]]), np.array([[0.25, 0.5]]))]
    for N, E, D, k in 3 * ((1, 2, 2, 1), (3, 4, 2, 2), (2, 3, 3, 3), (4, 4, 4, 2), (4, 5, 1, 4)):
        gates = _softmax(rng.normal(size=(N, E)))
        gates = np.where(_top(gates, k), gates, 0)
        gates[1:2] *= rng.integers(2)  # nobody speaks
        cases.append((rng.normal(size=(N, E, D)).round(2), gates.round(2)))
    return cases


_MIX = Check(
    mix,
    _outputs,
    "an array [N, D]",
    (
        Mistake(
            lambda o, g: (g[..., None] * o).mean(1),
            "this is the mean over the experts: the gates are the weights already, so sum.",
        ),
        Mistake(
            lambda o, g: np.where(g[..., None] > 0, o, 0).sum(1),
            "the selected experts are added up without their gates.",
        ),
        Mistake(lambda o, g: o.sum(1), "all experts are added up: multiply each by its gate."),
        Mistake(
            lambda o, g: (g[..., None] * o).sum(1) / g.sum(1, keepdims=True),
            "the result was divided by the sum of the gates; OLMoE leaves it as it is.",
        ),
        Mistake(
            lambda o, g: o[np.arange(len(o)), g.argmax(1)] * g.max(1, keepdims=True),
            "only each token's best expert speaks: add the others that have a gate.",
        ),
        Mistake(
            lambda o, g: g[..., None] * o,
            "this is each expert's part, [N, E, D]: sum over the experts, axis 1.",
        ),
    ),
)

# --- the planted bug ----------------------------------------------------------------------------


def route(x_ND, router_DE, k):
    """The experts of each token, best first: int [N, k]."""
    found = []
    for x in np.asarray(x_ND, float):
        logits = [float(x @ column) for column in np.asarray(router_DE, float).T]
        found.append(sorted(range(len(logits)), key=lambda e: (-logits[e], e))[:k])
    return np.array(found)


def route_given(x_ND, router_DE, k):
    """`route` with the bug that the exercise plants."""
    logits_NE = x_ND @ router_DE
    weights_NE = np.exp(logits_NE - logits_NE.max())
    probs_NE = weights_NE / weights_NE.sum(0, keepdims=True)
    return np.argsort(-probs_NE, axis=1, kind="stable")[:, :k]


def _tokens(rng):
    cases = []
    for N, D, E, k in 3 * ((1, 2, 3, 2), (1, 1, 4, 1), (3, 4, 5, 3), (4, 3, 4, 1), (5, 4, 8, 2)):
        x, router = rng.normal(size=(N, D)) + 0.5, rng.normal(size=(D, E)) * 1.5
        cases.append((x, router + rng.normal(size=E), k))
    # So many that a partition leaves them out of order, and none nearly as large as another.
    return [*cases, (np.ones((1, 1)), rng.permutation(1000)[None] / 32, 500)]


_ROUTE = Check(
    route,
    _tokens,
    "an array [N, k] of whole numbers",
    (
        Mistake(
            lambda x, r, k: np.argsort(_softmax(x @ r), 1, kind="stable")[:, :k],
            "these are the k least probable experts: sort the negative.",
        ),
        Mistake(
            lambda x, r, k: np.argsort(_softmax(x @ r), 1, kind="stable")[:, -k:],
            "the right experts, but the best comes last: best first was asked for.",
        ),
        Mistake(
            lambda x, r, k: np.argsort(-(x @ r), 0, kind="stable")[:k].T,
            "this sorts the tokens for each expert (axis 0): that is another kind of routing, "
            "expert choice. Here each token chooses its experts.",
        ),
        Mistake(
            lambda x, r, k: np.sort(np.argsort(-(x @ r), 1, kind="stable")[:, :k], 1),
            "the right experts, in order of their number: best first was asked for.",
        ),
        Mistake(
            lambda x, r, k: np.argsort(-np.abs(x @ r), 1, kind="stable")[:, :k],
            "a large negative logit is a firm no: do not take its size.",
        ),
    ),
    given=route_given,
)

# --- grouping -----------------------------------------------------------------------------------


def group(experts_N, n_experts):
    """Tokens in order of their expert, and where each expert's tokens begin: [N], [E]."""
    order = [n for e in range(n_experts) for n, mine in enumerate(experts_N) if mine == e]
    start = [sum(1 for mine in experts_N if mine < e) for e in range(n_experts)]
    return np.array(order, int), np.array(start, int)


def _assignments(rng):
    cases = [
        (np.array([2, 0, 2, 1]), 4),
        (np.array([1, 1, 1]), 3),
        (np.array([3, 2, 1, 0]), 4),
        (np.array([4, 1, 4]), 6),
        *((rng.integers(0, E, N), E) for N, E in ((60, 2), (200, 3))),  # long: see _logits
    ]
    for N, E in 3 * ((1, 1), (2, 3), (4, 4), (7, 3), (6, 5)):
        cases.append((rng.integers(0, E, N), E))
    return cases


def _count(experts, E):
    return np.bincount(experts, minlength=E)


def _order(experts):
    return np.argsort(experts, kind="stable")


def _start(experts, E):
    return np.cumsum(_count(experts, E)) - _count(experts, E)


_GROUP = Check(
    group,
    _assignments,
    "two arrays of whole numbers, order [N] and start [E]",
    (
        Mistake(
            lambda x, E: (_order(x), np.cumsum(_count(x, E))),
            "start says where each group ends: subtract the group's own size.",
        ),
        Mistake(
            lambda x, E: (_order(x), _count(x, E)),
            "start holds the sizes of the groups: a group begins after all earlier ones.",
        ),
        Mistake(
            lambda x, E: (np.argsort(_order(x)), _start(x, E)),
            "order is the way back (each token's row): the token in each row was asked for.",
        ),
        Mistake(
            lambda x, E: (np.sort(x), _start(x, E)),
            "order holds experts: it should hold the tokens' numbers (np.argsort).",
        ),
        Mistake(
            lambda x, E: (np.argsort(x[::-1], kind="stable"), _start(x, E)),
            "tokens are counted from the end.",
        ),
        Mistake(
            lambda x, E: (_order(x), np.unique(_order(x), return_index=True)[1][:E]),
            "start comes from the order instead of from the experts.",
        ),
        Mistake(
            lambda x, E: (_order(x), np.unique(np.sort(x), return_index=True)[1]),
            "an expert without tokens has no start here: there must be one for each of the E.",
        ),
        Mistake(
            lambda x, E: (len(x) - 1 - np.argsort(x[::-1], kind="stable"), _start(x, E)),
            "within a group the tokens come last first: keep their order (kind='stable').",
        ),
    ),
)

# --- balance ------------------------------------------------------------------------------------


def balance_loss(probs_NE, selected_NE):
    """E · Σ_e f_e P_e, with f the share of selections and P the mean probability."""
    N, E = np.shape(probs_NE)
    k, loss = np.sum(selected_NE) / N, 0.0
    for e in range(E):
        f = sum(bool(s) for s in selected_NE[:, e]) / (N * k)
        loss += E * f * sum(float(p) for p in probs_NE[:, e]) / N
    return loss


def _routed(rng):
    cases = []
    for N, E, k in 2 * ((1, 2, 1), (2, 4, 3), (4, 4, 2), (5, 3, 1), (7, 6, 2)):
        probs = _softmax(rng.normal(size=(N, E)) * 1.5 + rng.normal(size=E))
        cases.append((probs, _top(probs, k)))
        cases.append((probs, _top(rng.random((N, E)), k)))  # as with noise in the choice, say
    return cases


def _share(s):
    return s.mean(0) / s.sum(1).mean()


_BALANCE = Check(
    balance_loss,
    _routed,
    "a number",
    (
        Mistake(
            lambda p, s: (_share(s) * p.mean(0)).sum(),
            "the factor E is missing: with it, perfect balance gives 1 whatever the number of "
            "experts.",
        ),
        Mistake(
            lambda p, s: p.shape[1] * (s.mean(0) * p.mean(0)).sum(),
            "f does not sum to 1: a token selects k experts, so divide by k.",
        ),
        Mistake(
            lambda p, s: p.shape[1] * (_share(s) ** 2).sum(),
            "this uses the selections twice. They have no gradient: the mean probability P is what "
            "lets the router learn.",
        ),
        Mistake(
            lambda p, s: p.shape[1] * (p.mean(0) ** 2).sum(),
            "this uses the probabilities twice: f is the share of selections.",
        ),
        Mistake(
            lambda p, s: p.shape[1] * (_share(s) * (p * s).mean(0)).sum(),
            "P is the mean probability over all tokens, not only those that selected the expert.",
        ),
        Mistake(
            lambda p, s: (_share(s) * p.mean(0)).mean(),
            "sum over the experts (and multiply by E) instead of taking the mean.",
        ),
        Mistake(
            lambda p, s: p.shape[1] * (p * s).sum(1).mean(),
            "the product is taken token by token: average f and P over the tokens first.",
        ),
    ),
)

# --- fooling it ---------------------------------------------------------------------------------


def fool(n_tokens, n_experts):
    """Logits [N, E] that send every token to expert 0, with a balance loss below 1.01."""
    logits_NE = np.zeros((n_tokens, n_experts))
    logits_NE[:, 0] = 1e-3
    return logits_NE


def _fooled(case, logits):
    """What is wrong with logits [N, E]."""
    logits_NE = np.asarray(logits, float)
    if not np.isfinite(logits_NE).all():
        return ["it holds nan or infinite numbers."]
    first_NE = _top(logits_NE, 1)
    loss = balance_loss(_softmax(logits_NE), first_NE)
    faults = []
    if not first_NE[:, 0].all():
        faults.append("not every token goes to expert 0.")
    if not first_NE.all(0).any():
        faults.append("the tokens go to several experts.")
    if loss >= 1.01:
        faults.append("the balance loss is not below 1.01.")
    return faults


_FOOL = Check(
    fool,
    lambda rng: [(6, 4), (1, 2), (16, 8), (32, 16), (8, 64), (int(rng.integers(4, 9)), 3)],
    "an array [N, E] of logits",
    (
        Mistake(
            lambda N, E: 10.0 * (np.arange(E) == 0) * np.ones((N, 1)),
            "every token goes to expert 0, and the loss sees it: the probabilities are as lopsided "
            "as the selections. How small may the lead be?",
        ),
        Mistake(
            lambda N, E: 10.0 * (np.arange(N)[:, None] % E == np.arange(E)),
            "the loss is low because the load is balanced: no one is fooled. All tokens should go "
            "to expert 0.",
        ),
        Mistake(
            lambda N, E: 1e-3 * (np.arange(E) == E - 1) * np.ones((N, 1)),
            "this is the idea, but the tokens go to another expert than number 0.",
        ),
        Mistake(
            lambda N, E: 10.0 * (np.arange(E) == E - 1) * np.ones((N, 1)),
            "every token goes to one expert, but not to number 0, and the loss sees it.",
        ),
        Mistake(
            lambda N, E: 10.0 * (np.minimum(np.arange(N) // 2, 1)[:, None] == np.arange(E)),
            "the tokens go to several experts, and the loss is high: all should go to expert 0, "
            "with hardly any lead.",
        ),
    ),
    faults=_fooled,
)

CHECKS = (_TOP_K_GATES, _MIX, _ROUTE, _GROUP, _BALANCE, _FOOL)
