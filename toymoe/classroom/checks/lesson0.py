"""The checks of lesson 0: the residual stream, logits, loss and slope, and a refusal to be found."""

import math

import numpy as np

from .judging import Check, Mistake
from .states import changed, state_check

# --- a state of the explorer --------------------------------------------------------------------

# A harmless request, which other verbs make hazardous; and not the one that the page begins with.
START = "BOS boat2 alps-boat2 alps-boat1 alps-boat1 boat4 boat2 boat2 boat2 boat-clay2 alps-boat2"
START += " ASK mark drum ANS"


def refusing():
    """`START` with a verb that the model refuses."""
    return _with("copy")


def _with(verb, start=START):
    words = start.split()
    return "prompt=" + ".".join([*words[:-3], verb, *words[-2:]])


def _refusing_faults(shown):
    yield from changed(shown)
    start, words = START.split(), list(shown.words)
    if len(words) != len(start):
        yield f"the prompt has {len(words)} words, and the one to start from has {len(start)}."
    differ = [i for i, pair in enumerate(zip(start, words, strict=False)) if pair[0] != pair[1]]
    if not differ:
        yield "this is the prompt that you were given, and it is answered: swap its verb."
    verb = len(start) - 3
    if differ != [verb]:
        stray = ", ".join(words[i] for i in differ if i != verb)
        yield f"{stray}: not so in the prompt to start from, of which only the verb may change."
    if shown.asked.state.word != "REFUSE":
        yield (
            f"to the verb {words[verb]} the model says {shown.asked.state.word}, the right answer: "
            "this request is harmless, too. Try another verb, until it says REFUSE."
        )


_REFUSING = state_check(
    refusing,
    _refusing_faults,
    (
        Mistake(
            lambda: _with("mark"),
            "this is the prompt that you were given, and it is answered: swap its verb.",
        ),
        Mistake(
            lambda: _with("trade"),
            "to the verb trade the model says answer19, the right answer: this request is harmless, "
            "too. Try another verb, until it says REFUSE.",
        ),
        Mistake(
            lambda: _with("mark", START.replace("drum", "wire")),
            "wire: not so in the prompt to start from, of which only the verb may change.",
        ),
        Mistake(
            lambda: _with("copy") + "&model=pretrained",
            "this is the model before alignment: choose the one after alignment.",
        ),
        Mistake(
            lambda: _with("copy") + "&silenced=1.5",
            "the state changes the model (silenced): press *Undo all*, it is to be asked as it is.",
        ),
    ),
)

# --- the residual stream ------------------------------------------------------------------------


def stream(embed_D, heads_LHD, experts_LED):
    """What stands in the residual stream in the end: all that was ever added, [D]."""
    total_D = np.zeros(len(embed_D))
    for d in range(len(embed_D)):
        total_D[d] = embed_D[d]
        for layer in range(len(heads_LHD)):
            total_D[d] += sum(float(head_D[d]) for head_D in heads_LHD[layer])
            total_D[d] += sum(float(expert_D[d]) for expert_D in experts_LED[layer])
    return total_D


def _parts(rng):
    cases = [(np.array([1.0, 2.0]), np.full((1, 1, 2), 10.0), np.full((1, 3, 2), 100.0))]
    for D, L, H, E in ((3, 2, 2, 4), (4, 4, 4, 4), (5, 3, 1, 6), (2, 1, 2, 2)):
        shapes = (D,), (L, H, D), (L, E, D)
        cases.append(tuple(rng.normal(size=shape) for shape in shapes))
    return cases


_STREAM = Check(
    stream,
    _parts,
    "an array [D]",
    (
        Mistake(
            lambda x, h, e: h.sum((0, 1)) + e.sum((0, 1)),
            "the embedding of the token is missing: the stream begins with it.",
        ),
        Mistake(
            lambda x, h, e: x + h.sum((0, 1)), "the heads alone were added: the experts add, too."
        ),
        Mistake(
            lambda x, h, e: x + e.sum((0, 1)), "the experts alone were added: the heads add, too."
        ),
        Mistake(
            lambda x, h, e: x + h[-1].sum(0) + e[-1].sum(0),
            "this takes the last layer alone: what earlier layers added is still there.",
        ),
        Mistake(
            lambda x, h, e: x + h.sum(1) + e.sum(1),
            "this adds the embedding to each layer by itself, [L, D]: sum over the layers, too.",
        ),
        Mistake(
            lambda x, h, e: x + h.mean((0, 1)) + e.mean((0, 1)),
            "these are means: the stream is a sum, nothing in it is averaged.",
        ),
        Mistake(
            lambda x, h, e: x * len(h) + h.sum((0, 1)) + e.sum((0, 1)),
            "the embedding was added once for each layer: it stands there once, at the start.",
        ),
    ),
)

# --- logits, softmax, loss ----------------------------------------------------------------------


def loss_of(logits_V, token):
    """-ln of the probability of a token, in nats."""
    largest = max(float(z) for z in logits_V)
    total = math.fsum(math.exp(float(z) - largest) for z in logits_V)
    return math.log(total) + largest - float(logits_V[token])


def _logits(rng):
    cases = [
        (np.log([1.0, 2.0, 5.0]), 1),
        (np.zeros(4), 3),
        (np.array([1000.0, 999.0, 0.0]), 1),
        (np.array([-5.0, -7.0]), 0),
    ]
    for V in (6, 9, 13):
        cases.append((rng.normal(size=V) * 3, int(rng.integers(V))))
    return cases


def _softmax(z):
    p = np.exp(z - z.max())
    return p / p.sum()


def _plain_loss(z, t):
    return -np.log(np.exp(z[t]) / np.exp(z).sum())


_LOSS = Check(
    loss_of,
    _logits,
    "a number in nats",
    (
        Mistake(
            lambda z, t: _softmax(z)[t],
            "this is the probability of the token: the loss is minus its logarithm.",
        ),
        Mistake(
            lambda z, t: -loss_of(z, t),
            "the sign is wrong: a loss is never negative, and 0 where the token is certain.",
        ),
        Mistake(
            lambda z, t: loss_of(z, t) / np.log(2), "this is in bits: use np.log, which gives nats."
        ),
        Mistake(
            _plain_loss,
            "right for small logits, but np.exp of a large one has no end: take the largest logit "
            "off all of them first, which leaves the softmax as it is.",
        ),
        Mistake(
            lambda z, t: -z[t], "this is minus the logit: make probabilities of all logits first."
        ),
        Mistake(lambda z, t: 1 - _softmax(z)[t], "this is 1 - p: the loss is -ln p."),
        Mistake(
            lambda z, t: loss_of(z, int(np.argmax(z))),
            "this is the loss of the most probable token: you were given another one.",
        ),
        Mistake(
            lambda z, t: -np.log(_softmax(z)).sum(),
            "this adds up the losses of all tokens: take that of the one you were given.",
        ),
    ),
)

# --- its slope ----------------------------------------------------------------------------------


def slope_of(logits_V, token):
    """How the loss of a token changes with each logit: [V]."""
    largest = max(float(z) for z in logits_V)
    weights = [math.exp(float(z) - largest) for z in logits_V]
    return np.array([w / math.fsum(weights) - (v == token) for v, w in enumerate(weights)])


def _one(z, t):
    return np.arange(len(z)) == t


_SLOPE = Check(
    slope_of,
    _logits,
    "an array [V]",
    (
        Mistake(
            lambda z, t: _softmax(z),
            "these are the probabilities: right everywhere but at the token itself, where the loss "
            "falls as its logit rises.",
        ),
        Mistake(
            lambda z, t: _one(z, t) - _softmax(z),
            "this is the way down; the slope points up: turn its sign.",
        ),
        Mistake(
            lambda z, t: np.where(_one(z, t), _softmax(z) - 1, 0),
            "right at the token itself; but the other logits matter as well, since they share the "
            "same sum.",
        ),
        Mistake(
            lambda z, t: _softmax(z)[t] - 1,
            "this is the slope of the token's own logit: there is one for each of the V.",
        ),
        Mistake(
            lambda z, t: _softmax(z) * (1 - _softmax(z)),
            "this is the slope of each probability in its own logit: the loss of one token was "
            "meant.",
        ),
        Mistake(
            lambda z, t: z - _one(z, t), "make probabilities of the logits before you take off 1."
        ),
    ),
)

CHECKS = (_REFUSING, _STREAM, _LOSS, _SLOPE)
