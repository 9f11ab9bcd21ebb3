"""What each expert does: the model with that one expert silenced, averaged out or exchanged.

Every (layer, expert) is tried, with the routes of later layers *free* (they follow from the changed
residual stream) and *frozen* (those of the unchanged run). The difference went through the route.
The fall of refusal on hazards always comes with the fall of answer accuracy on their twins: an
expert whose loss breaks everything is not the seat of refusal.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import model, world
from ..model import moe
from . import evidence as ev

VALUES = ("zero", "mean", "pretrained")


class Effect(NamedTuple):
    """What is lost without each expert, arrays [L, E]; positive numbers are losses."""

    margin: np.ndarray  # of the refusal margin on hazards, in nats
    refusal: np.ndarray  # of the share of hazards refused
    accuracy: np.ndarray  # of the share of twins answered correctly
    twin_margin: np.ndarray  # of the refusal margin on twins, in nats


class Ablation(NamedTuple):
    """Single-expert ablation. ``routed`` is free - frozen; ``base`` are the unchanged values."""

    free: Effect
    frozen: Effect
    routed: Effect
    base: Effect  # numbers


def ablate(evidence: ev.Evidence, value: str = "zero") -> Ablation:
    """Ablate every (layer, expert), one at a time.

    Args:
      value: what the expert says instead: "zero"; "mean", its mean output over all tokens of the
        evidence that selected it; "pretrained", what it said before alignment (the weight swap of
        one expert). Its gate stays.
    """
    if value not in VALUES:
        raise ev.EvidenceError(
            f"value = {value!r} is not possible: it must be one of {', '.join(VALUES)}."
        )
    other = None
    if value == "mean":
        other = mean_outputs(evidence)
    if value == "pretrained":
        other = evidence.before["layers"]["experts"]
    return sweep(evidence.params, evidence, other, f"without, {value}")


def sweep(params: model.Params, evidence: ev.Evidence, other, name: str) -> Ablation:
    """`ablate`, in any model of the evidence's shape.

    Args:
      other: None for zero, means [L, E, D], or another model's ``layers/experts``.
      name: under which the evidence keeps what each prompt gives.
    """
    runs = evidence.each(
        name, lambda p: _sweep(params, other, p.tokens_BP, p.answer_B, cfg=evidence.cfg)
    )
    base, free, frozen = (
        Effect(
            hazards.margin_B.mean(-1),
            (hazards.predicted_B == world.REFUSE).mean(-1),
            (twins.predicted_B == np.asarray(evidence.twins.answer_B)).mean(-1),
            twins.margin_B.mean(-1),
        )
        for hazards, twins in zip(*runs, strict=True)
    )
    free, frozen = (Effect(*(b - x for b, x in zip(base, e, strict=True))) for e in (free, frozen))
    routed = Effect(*(a - b for a, b in zip(free, frozen, strict=True)))
    return Ablation(free, frozen, routed, base)


def mean_outputs(evidence: ev.Evidence):
    """Each expert's mean output over the tokens, of hazards and twins, that selected it
    [L, E, D]; 0 for an expert that none selected."""
    e = evidence.source
    tokens_BT = np.concatenate([e.hazards.tokens_BP, e.twins.tokens_BP])
    return e.once("means", lambda: _means(e.params, tokens_BT, cfg=e.cfg))


@partial(jax.jit, static_argnames="cfg")
def _means(params, tokens_BT, cfg):
    def some(tokens_BT):
        out = model.forward(params, tokens_BT, cfg, grouped=True, record=("resid_mid",))
        sums, counts = [], []
        for index in range(cfg.layers):
            hit_BTAE = out.routes.experts_LBTA[index][..., None] == jnp.arange(cfg.experts)
            said_BTAD = _said(params, index, out, params["layers"]["experts"])
            sums.append(jnp.einsum("btae,btad->edb", hit_BTAE.astype(float), said_BTAD))
            counts.append(hit_BTAE.sum((1, 2)).T)
        return jnp.stack(sums), jnp.stack(counts)

    sums_LEDB, counts_LEB = ev.by_chunks(some, tokens_BT)
    return sums_LEDB.sum(-1) / jnp.maximum(counts_LEB.sum(-1), 1)[..., None]


def _said(params, index, out, experts):
    """What each selected expert says at one layer, before its gate, [B, T, A, D]."""
    h_BTD = model.rms_norm(out.record["resid_mid"][index], params["layers"]["moe_norm"][index])
    B, T, D = h_BTD.shape
    experts_NA = out.routes.experts_LBTA[index].reshape(B * T, -1)
    A = experts_NA.shape[1]
    layer = jax.tree.map(lambda leaf: leaf[index], experts)
    # Every slot is a token of its own with one expert and gate 1.
    h_ND, chosen_N1 = jnp.repeat(h_BTD.reshape(B * T, D), A, 0), experts_NA.reshape(-1, 1)
    said_ND = moe.grouped_moe(h_ND, layer, chosen_N1, jnp.ones(chosen_N1.shape, h_ND.dtype))
    return said_ND.reshape(B, T, A, D)


@partial(jax.jit, static_argnames="cfg")
def _sweep(params, other, tokens_BT, answer_B, cfg):
    """`ev.Answers` of the unchanged run [B], and route free and frozen [L, E, B].

    The layers up to the ablated expert's are those of the unchanged run, computed once.
    """

    def some(chunk):
        tokens_BT, answer_B = chunk
        taken = ("resid_mid", "resid_post")
        out = model.forward(params, tokens_BT, cfg, grouped=True, record=taken)

        def spoken(logits_BV):
            return ev.Answers(ev.margin(logits_BV, answer_B), logits_BV.argmax(-1))

        layers = []
        for index in range(cfg.layers):
            x_BTD, experts_BTA = out.record["resid_post"][index], out.routes.experts_LBTA[index]
            gates_BTA = out.routes.gates_LBTA[index]
            lost_BTAD = _said(params, index, out, params["layers"]["experts"])
            if isinstance(other, dict):
                lost_BTAD -= _said(params, index, out, other)
            elif other is not None:
                lost_BTAD -= other[index][experts_BTA]
            lost_BTAD *= gates_BTA[..., None]

            def without(case, x_BTD=x_BTD, at=experts_BTA, lost=lost_BTAD, index=index):
                expert, frozen = case % cfg.experts, case >= cfg.experts
                x_BTD = x_BTD - jnp.where((at == expert)[..., None], lost, 0).sum(2)
                return spoken(model.resume(params, x_BTD, cfg, index + 1, out.routes, frozen))

            # After the last layer there is no route to freeze.
            routes = 1 if index == cfg.layers - 1 else 2
            cases = jax.lax.map(without, jnp.arange(routes * cfg.experts))
            layers.append(jax.tree.map(lambda x: (x[: cfg.experts], x[-cfg.experts :]), cases))
        free, frozen = (
            ev.Answers(*(jnp.stack([said[field][which] for said in layers]) for field in range(2)))
            for which in range(2)
        )
        return spoken(out.logits_BTV[:, -1]), free, frozen

    return ev.by_chunks(some, (tokens_BT, answer_B))
