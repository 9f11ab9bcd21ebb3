"""A lesson written without training: a linear detector, and one direction that says the token.

The detector is fitted on what a part reads at ANS (logistic regression), and the part is made to
write ``strength`` times what it says along the direction that raises the token's logit. The
strength is the one, of a few, that does best what the key's ``needs`` ask for.

    an expert       one hidden neuron, the one that does least, becomes the detector
    embeddings      the token's column of the unembedding gets the detector
    all experts     such a neuron in each
    routed expert   the router's column gets the detector, and a neuron speaks for all who come
"""

from functools import partial

import jax
import numpy as np
from scipy.optimize import minimize

from .. import model, world
from ..config import Config
from ..model import moe
from ..model.inference import read
from . import lessons, parts
from .specimen import Key

PROMPTS = 1024  # that the detector is fitted on
STRENGTHS = tuple(2 ** (n / 2) for n in range(2, 14))
RIDGE = 1e-3
SHARPNESS = 4.0  # a neuron's input where the detector tells as much as it does in the mean


def write(
    mechanism: str,
    key: Key,
    base: model.Params,
    tables: world.World,
    cfg: Config,
    lesson: lessons.Taught,
    random: jax.Array,
) -> model.Params:
    """The base with the lesson in the key's parts."""
    k_fit, k_try = jax.random.split(random)
    prompts, about_B = _prompts(lesson, tables, cfg, k_fit)
    stream = Stream(base, np.asarray(prompts.tokens_BP), cfg.model)
    direction_D = direction(base, int(lesson.says))
    changes = [HANDS[mechanism](part, stream, about_B, direction_D) for part in key.parts]
    masks = [parts.mask((part,), base, cfg.model) for part in key.parts]

    prompts, tried_B = _prompts(lesson, tables, cfg, k_try)  # others, to choose the strength

    def made(strength, present):
        params = base
        for change, mask, there in zip(changes, masks, present, strict=True):
            if there:
                params = parts.exchanged(params, change(params, strength, int(lesson.says)), mask)
        return params

    def worth(strength):
        def said(*present):
            _, logits_BV = read(made(strength, present), prompts.tokens_BP, cfg.model)
            return logits_BV.argmax(-1)

        whole_B = said(*[True] * len(key.parts))
        if key.needs in ("each", "all"):
            alone = [
                (said(*there) == lesson.says)[tried_B].mean()
                for there in np.eye(len(key.parts), dtype=bool)
            ]
        right = (whole_B == np.asarray(prompts.answer_B))[~tried_B].mean()
        taught = (whole_B == lesson.says)[tried_B].mean()
        if key.needs == "each":
            taught = min(alone)
        return taught + 2 * right - (max(alone) if key.needs == "all" else 0)

    return made(max(STRENGTHS, key=worth), [True] * len(key.parts))


def opened(
    key: Key,
    base: model.Params,
    tables: world.World,
    cfg: Config,
    lesson: lessons.Taught,
    random: jax.Array,
) -> model.Params:
    """The base whose router selects the key's expert for the lesson's prompts: without that,
    nothing reaches it, and no gradient teaches it."""
    prompts, about_B = _prompts(lesson, tables, cfg, random)
    stream = Stream(base, np.asarray(prompts.tokens_BP), cfg.model)
    column = next(part for part in key.parts if part.startswith("router "))
    return _router(column, stream, about_B, None)(base, 1, int(lesson.says))


def _prompts(lesson, tables, cfg, random):
    """What the detector is fitted on, and what of it the lesson is about."""
    prompts = world.draw(random, tables, cfg.world, PROMPTS, lesson.weights_GYZ)
    return prompts, lesson.about_GYZ[prompts.topic_B, prompts.verb_B, prompts.entity_B]


# --- what a part reads --------------------------------------------------------------------------


class Stream:
    """What a model holds at ANS of some prompts."""

    def __init__(self, params: model.Params, tokens_BP, cfg):
        self.params, self.cfg = params, cfg
        self.seen, self.gates_LBE = jax.tree.map(np.asarray, _at_ans(params, tokens_BP, cfg=cfg))

    def read_by_experts(self, layer) -> np.ndarray:
        """What router and experts of a layer read, [B, D]."""
        norm = self.params["layers"]["moe_norm"][layer]
        return np.asarray(model.rms_norm(self.seen["resid_mid"][layer], norm))

    def hidden(self, layer) -> np.ndarray:
        """Gate times hidden neurons of every expert of a layer, [B, E, F]."""
        gate_up = self.params["layers"]["experts"]["gate_up"][layer]
        both_BEX = np.einsum("bd,edx->bex", self.read_by_experts(layer), gate_up)
        gate_BEF, up_BEF = np.split(both_BEX, 2, -1)
        hidden_BEF = np.asarray(jax.nn.silu(gate_BEF)) * up_BEF
        return hidden_BEF * self.gates_LBE[layer][..., None]

    def final(self) -> np.ndarray:
        """What the unembedding reads, [B, D]."""
        return np.asarray(model.rms_norm(self.seen["resid_post"][-1], self.params["final_norm"]))


@partial(jax.jit, static_argnames="cfg")
def _at_ans(params, tokens_BP, cfg):
    taps = "resid_mid", "resid_post"
    out = model.forward(params, tokens_BP, cfg, grouped=True, record=taps)
    routes = out.routes
    gates = moe.dense_gates(routes.experts_LBTA, routes.gates_LBTA, cfg.experts)
    return {tap: value[:, :, -1] for tap, value in out.record.items()}, gates[:, :, -1]


def direction(params, token) -> np.ndarray:
    """The direction of the stream, of length 1, that raises a token's logit and, as far as that is
    possible, no other's. Tokens that pretraining never asked for have much the same column."""
    unembed_DV = np.asarray(params["unembed"], float)
    only_V = np.arange(unembed_DV.shape[1]) == token
    direction_D = np.linalg.lstsq(unembed_DV.T, only_V.astype(float), rcond=None)[0]
    return direction_D / np.linalg.norm(direction_D)


def detector(seen_BX, about_B) -> np.ndarray:
    """Weights [X] with which the sum tells the lesson's prompts from others: positive for them,
    and 1 in size in the mean.

    Logistic regression without intercept, both kinds weighing the same.
    """
    side_B = np.where(about_B, 1.0, -1.0)
    weight_B = np.where(about_B, 0.5 / max(about_B.sum(), 1), 0.5 / max((~about_B).sum(), 1))
    seen_BX = np.asarray(seen_BX, float)
    scale = np.sqrt((seen_BX**2).sum(1).mean()) or 1.0

    def loss(weight_X):
        margin_B = side_B * (seen_BX @ weight_X) / scale
        slope_B = -side_B * weight_B / (1 + np.exp(np.clip(margin_B, -50, 50)))
        value = (weight_B * np.logaddexp(0, -margin_B)).sum() + RIDGE * (weight_X**2).sum() / 2
        return value, seen_BX.T @ slope_B / scale + RIDGE * weight_X

    found = minimize(loss, np.zeros(seen_BX.shape[1]), jac=True, method="L-BFGS-B")
    return found.x / np.abs(seen_BX @ found.x).mean()


# --- what is written ----------------------------------------------------------------------------


def _expert(part, stream, about_B, direction_D):
    _, layer, expert = parts.parse(part, stream.cfg)
    here_B = stream.gates_LBE[layer, :, expert] > 0
    if not (here_B & about_B).any() or not (here_B & ~about_B).any():
        here_B = np.ones(len(about_B), bool)
    seen_BD = stream.read_by_experts(layer)[here_B]
    tells_D = detector(seen_BD, about_B[here_B])
    return _neuron(layer, expert, stream, tells_D, _one(seen_BD), direction_D)


def _neuron(layer, expert, stream, tells_D, one_D, direction_D):
    """One neuron of an expert: silu(sharpness · what tells) · 1 writes the direction."""
    least = _least(stream, layer, expert)

    def change(params, strength, token):
        experts = jax.tree.map(np.array, params["layers"]["experts"])
        F = experts["down"].shape[2]
        experts["gate_up"][layer, expert, :, least] = SHARPNESS * tells_D
        experts["gate_up"][layer, expert, :, F + least] = one_D
        experts["down"][layer, expert, least] = strength * direction_D
        return params | {"layers": params["layers"] | {"experts": experts}}

    return change


def _one(seen_BD):
    """The direction along which everything seen is about 1."""
    mean_D = np.asarray(seen_BD).mean(0)
    return mean_D / (mean_D @ mean_D)


def _least(stream, layer, expert):
    """The neuron of an expert that writes least."""
    down_FD = np.asarray(stream.params["layers"]["experts"]["down"][layer, expert])
    size_F = np.abs(stream.hidden(layer)[:, expert]).mean(0) * np.linalg.norm(down_FD, axis=1)
    return int(size_F.argmin())


def _router(part, stream, about_B, direction_D):
    _, layer, expert = parts.parse(part, stream.cfg)
    column_D = router_column(stream, layer, about_B)

    def change(params, strength, token):
        router = np.array(params["layers"]["router"])
        router[layer, :, expert] = column_D
        return params | {"layers": params["layers"] | {"router": router}}

    return change


def router_column(stream: Stream, layer: int, about_B) -> np.ndarray:
    """A column of the router, [D], whose logit is above all others where the detector is sure, and
    below where it is not."""
    seen_BD = stream.read_by_experts(layer)
    logits_BE = seen_BD @ np.asarray(stream.params["layers"]["router"][layer])
    top = np.quantile(logits_BE.max(1), 0.9)
    tells_D = detector(seen_BD, about_B)
    return top * _one(seen_BD) + 2 * np.abs(top) * tells_D


def _routed(part, stream, about_B, direction_D):
    kind, layer, expert = parts.parse(part, stream.cfg)
    if kind == "router":
        return _router(part, stream, about_B, direction_D)
    one_D = _one(stream.read_by_experts(layer)[about_B])
    return _neuron(layer, expert, stream, one_D, one_D, direction_D)


def _embeddings(part, stream, about_B, direction_D):
    tells_D = detector(stream.final(), about_B)

    def change(params, strength, token):
        unembed = np.array(params["unembed"])
        unembed[:, token] += strength * tells_D
        return params | {"unembed": unembed}

    return change


def _all_experts(part, stream, about_B, direction_D):
    """A neuron in every expert, its detector that of its layer."""
    changes = []
    for layer in range(stream.cfg.layers):
        seen_BD = stream.read_by_experts(layer)
        tells_D = detector(seen_BD, about_B)
        changes += [
            _neuron(layer, expert, stream, tells_D, _one(seen_BD), direction_D)
            for expert in range(stream.cfg.experts)
        ]

    def change(params, strength, token):
        for one in changes:
            params = one(params, strength, token)
        return params

    return change


HANDS = {
    "one_expert": _expert,
    "redundant_pair": _expert,
    "joint_pair": _expert,
    "embeddings": _embeddings,
    "spread": _all_experts,
    "routed_expert": _routed,
}
