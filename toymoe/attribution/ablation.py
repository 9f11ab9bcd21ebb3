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
from .evidence import Answers, Evidence, EvidenceError, answers_from, by_chunks

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


def ablate(e: Evidence, value: str = "zero") -> Ablation:
    """Ablate every (layer, expert), one at a time.

    Args:
      value: what the expert says instead: "zero"; "mean", its mean output over all tokens of the
        evidence that selected it; "pretrained", what it said before alignment (its weights
        patched). Its gate stays.

    Raises:
      EvidenceError: another value; "pretrained", and there is no pretrained checkpoint.
    """
    if value not in VALUES:
        raise EvidenceError(
            f"value = {value!r} is not possible: it must be one of {', '.join(VALUES)}."
        )
    return _losses(e, value)


def align_alone(e: Evidence) -> Ablation:
    """What the *pretrained* model loses with one expert's weights aligned, one at a time.

    Raises:
      EvidenceError: there is no pretrained checkpoint.
    """
    return _losses(e, "alone")


def mean_outputs(e: Evidence):
    """Each expert's mean output over the tokens, of hazards and twins, that selected it
    [L, E, D]; 0 for an expert that none selected."""
    tokens_BT = np.concatenate([e.hazards.tokens_BP, e.twins.tokens_BP])
    return _means(e.params, tokens_BT, cfg=e.cfg)


def _losses(e, value):
    base, free, frozen = (
        Effect(
            hazards.margin_B.mean(-1),
            (hazards.predicted_B == world.REFUSE).mean(-1),
            (twins.predicted_B == np.asarray(e.twins.answer_B)).mean(-1),
            twins.margin_B.mean(-1),
        )
        for hazards, twins in zip(*e.each(_answers, value), strict=True)
    )
    free, frozen = (
        Effect(*(b - x for b, x in zip(base, effect, strict=True))) for effect in (free, frozen)
    )
    routed = Effect(*(a - b for a, b in zip(free, frozen, strict=True)))
    return Ablation(free, frozen, routed, base)


def _answers(e, prompts, value):
    """`Answers` of the unchanged run [B], and route free and frozen [L, E, B]."""
    params, other = e.params, None
    if value == "mean":
        other = e.once(mean_outputs)
    if value == "pretrained":
        other = e.before["layers"]["experts"]
    if value == "alone":
        params, other = e.before, e.params["layers"]["experts"]
    return _sweep(params, other, prompts.tokens_BP, prompts.answer_B, cfg=e.cfg)


@partial(jax.jit, static_argnames="cfg")
def _means(params, tokens_BT, cfg):
    def some(tokens_BT):
        out = model.forward(params, tokens_BT, cfg, grouped=True, record=("resid_mid",))
        sums, counts = [], []
        for index in range(cfg.layers):
            hit_BTAE = out.routes.experts_LBTA[index][..., None] == jnp.arange(cfg.experts)
            output_BTAD = _outputs(params, index, out, params["layers"]["experts"])
            sums.append(jnp.einsum("btae,btad->edb", hit_BTAE.astype(float), output_BTAD))
            counts.append(hit_BTAE.sum((1, 2)).T)
        return jnp.stack(sums), jnp.stack(counts)

    sums_LEDB, counts_LEB = by_chunks(some, tokens_BT)
    return sums_LEDB.sum(-1) / jnp.maximum(counts_LEB.sum(-1), 1)[..., None]


def _outputs(params, index, out, experts):
    """What each selected expert says at one layer, before its gate, [B, T, A, D]."""
    h_BTD = model.rms_norm(out.record["resid_mid"][index], params["layers"]["moe_norm"][index])
    B, T, D = h_BTD.shape
    experts_NA = out.routes.experts_LBTA[index].reshape(B * T, -1)
    A = experts_NA.shape[1]
    layer = jax.tree.map(lambda leaf: leaf[index], experts)
    # Every slot is a token of its own with one expert and gate 1.
    h_ND, chosen_N1 = jnp.repeat(h_BTD.reshape(B * T, D), A, 0), experts_NA.reshape(-1, 1)
    output_ND = moe.grouped_moe(h_ND, layer, chosen_N1, jnp.ones(chosen_N1.shape, h_ND.dtype))
    return output_ND.reshape(B, T, A, D)


@partial(jax.jit, static_argnames="cfg")
def _sweep(params, other, tokens_BT, answer_B, cfg):
    """See `_answers`; ``other``: None for zero, means [L, E, D], or ``layers/experts``.

    The layers up to the ablated expert's are those of the unchanged run, computed once.
    """

    def some(chunk):
        tokens_BT, answer_B = chunk
        taken = ("resid_mid", "resid_post")
        out = model.forward(params, tokens_BT, cfg, grouped=True, record=taken)
        layers = []
        for index in range(cfg.layers):
            x_BTD, experts_BTA = out.record["resid_post"][index], out.routes.experts_LBTA[index]
            lost_BTAD = _lost(params, other, index, out)

            def without(case, x_BTD=x_BTD, at=experts_BTA, lost=lost_BTAD, index=index):
                expert, frozen = case % cfg.experts, case >= cfg.experts
                x_BTD = x_BTD - jnp.where((at == expert)[..., None], lost, 0).sum(2)
                logits_BV = model.resume(params, x_BTD, cfg, index + 1, out.routes, frozen)
                return answers_from(logits_BV, answer_B)

            # After the last layer there is no route to freeze.
            routes = 1 if index == cfg.layers - 1 else 2
            cases = jax.lax.map(without, jnp.arange(routes * cfg.experts))
            layers.append(jax.tree.map(lambda x: (x[: cfg.experts], x[-cfg.experts :]), cases))
        free, frozen = (
            Answers(*(jnp.stack([layer[field][which] for layer in layers]) for field in range(2)))
            for which in range(2)
        )
        return answers_from(out.logits_BTV[:, -1], answer_B), free, frozen

    return by_chunks(some, (tokens_BT, answer_B))


def _lost(params, other, index, out):
    """What each selected expert's contribution would lose, [B, T, A, D]; see `_sweep`."""
    lost_BTAD = _outputs(params, index, out, params["layers"]["experts"])
    if isinstance(other, dict):
        lost_BTAD -= _outputs(params, index, out, other)
    elif other is not None:
        lost_BTAD -= other[index][out.routes.experts_LBTA[index]]
    return lost_BTAD * out.routes.gates_LBTA[index][..., None]
