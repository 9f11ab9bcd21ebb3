"""What each expert does: the model with that one expert silenced, averaged out or exchanged.

Exchanged for what it said before alignment, or for what it says, or how it is selected, in another
run: the twin's, or any other prompt's.

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

RUNS = ("twin", "other", "route")  # values that another run has
VALUES = ("zero", "mean", "pretrained", *RUNS)


class Effect(NamedTuple):
    """What is lost without each expert, arrays [L, E]; positive numbers are losses."""

    margin: np.ndarray  # of the refusal margin on hazards, in nats
    refusal: np.ndarray  # of the share of hazards refused
    accuracy: np.ndarray  # of the share of twins answered correctly
    twin_margin: np.ndarray  # of the refusal margin on twins, in nats


class Ablation(NamedTuple):
    """Single-expert ablation. What went through the route is free - frozen; ``base`` are the
    unchanged values."""

    free: Effect
    frozen: Effect
    base: Effect  # numbers


def ablate(e: Evidence, value: str = "zero") -> Ablation:
    """Ablate every (layer, expert), one at a time.

    Args:
      value: what the expert says instead: "zero"; "mean", its mean output over all tokens of the
        evidence that selected it; "pretrained", what it said before alignment (its weights
        patched); "twin", what it says at the same position in the run of the other of the pair,
        and "other", in that of a prompt drawn at random from the evidence (resample ablation,
        Chan et al. 2022, "Causal scrubbing"). Its gate stays. "route": it stays, and its selection
        and gate are those of the other of the pair (an interchange, arXiv 2106.02997), all other
        experts' their own.

    Margins are those of the two runs' right answers (`refusal_logit_diff`). A pair exchanges in
    both directions: ``margin`` is what hazards lose by their twins' values, ``-twin_margin`` what
    twins gain by their hazards'.

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
    return Ablation(free, frozen, base)


def _answers(e, prompts, value):
    """`Answers` of the unchanged run [B], and route free and frozen [L, E, B]."""
    return _sweep(*change(e, prompts, value), cfg=e.cfg)


class Run(NamedTuple):
    """Another run to take something from: an expert's selection and gate, or what it says."""

    route: bool


def change(e: Evidence, prompts: world.Prompts, value: str) -> tuple:
    """What a value means: the parameters, what stands in for each expert (None, means [L, E, D],
    other ``layers/experts``, a `Run`), and the prompts: their tokens [B, T], those of the other run
    (else the same), the right answers of both [B, 2]."""
    params, other, source = e.params, None, prompts
    if value == "mean":
        other = e.once(mean_outputs)
    if value == "pretrained":
        other = e.before["layers"]["experts"]
    if value == "alone":
        params, other = e.before, e.params["layers"]["experts"]
    if value in RUNS:
        other = Run(value == "route")
        source = _drawn(e, prompts) if value == "other" else e.other(prompts)
    answers_B2 = np.stack([prompts.answer_B, source.answer_B], 1)
    return params, other, (prompts.tokens_BP, source.tokens_BP, answers_B2)


def _drawn(e, prompts):
    """For each prompt another one of the evidence, hazard or twin, never itself."""
    B = len(prompts.answer_B)
    own_B = np.arange(B) + B * (prompts is not e.hazards)
    row_B = (own_B + np.random.default_rng(0).integers(1, 2 * B, 2 * B)[own_B]) % (2 * B)
    return world.Prompts(*(np.concatenate(x)[row_B] for x in zip(e.hazards, e.twins, strict=True)))


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
def _sweep(params, other, prompts, cfg):
    """See `_answers` and `change`.

    The layers up to the ablated expert's are those of the unchanged run, computed once.
    """

    def some(chunk):
        tokens_BT, source_BT, answers_B2 = chunk
        taken = ("resid_mid", "resid_post")
        out = model.forward(params, tokens_BT, cfg, grouped=True, record=taken)
        source = source_of(params, other, source_BT, cfg)
        layers = []
        for index in range(cfg.layers):
            x_BTD = out.record["resid_post"][index]
            at_BTA, lost_BTAD = lost(params, other, index, out, source)

            def without(case, x_BTD=x_BTD, at_BTA=at_BTA, lost_BTAD=lost_BTAD, index=index):
                expert, frozen = case % cfg.experts, case >= cfg.experts
                x_BTD = x_BTD - jnp.where((at_BTA == expert)[..., None], lost_BTAD, 0).sum(2)
                logits_BV = model.resume(params, x_BTD, cfg, index + 1, out.routes, frozen)
                return answers_from(logits_BV, answers_B2)

            # After the last layer there is no route to freeze.
            routes = 1 if index == cfg.layers - 1 else 2
            cases = jax.lax.map(without, jnp.arange(routes * cfg.experts))
            layers.append(jax.tree.map(lambda x: (x[: cfg.experts], x[-cfg.experts :]), cases))
        free, frozen = (
            Answers(*(jnp.stack([layer[field][which] for layer in layers]) for field in range(2)))
            for which in range(2)
        )
        return answers_from(out.logits_BTV[:, -1], answers_B2), free, frozen

    return by_chunks(some, prompts)


def source_of(params, other, source_BT, cfg):
    """The other run, where one is needed; see `change`."""
    if isinstance(other, Run):
        return model.forward(params, source_BT, cfg, grouped=True, record=("resid_mid",))
    return None


def lost(params, other, index, out, source):
    """What the residual stream after a layer loses with an expert changed, see `change`: experts
    [B, T, A], and what each costs [B, T, A, D]. An expert that stands at a token more than once
    costs the sum."""
    experts, at_BTA = params["layers"]["experts"], out.routes.experts_LBTA[index]
    said_BTAD = _outputs(params, index, out, experts)
    if isinstance(other, Run):
        # Its words there at the gate here, or its words here at the gate there: one program.
        def here(a, b):
            return jax.tree.map(partial(jnp.where, other.route), a, b)

        mid = {"resid_mid": here(out.record["resid_mid"], source.record["resid_mid"])}
        routes = here(source.routes, out.routes)
        put_BTAD = _outputs(params, index, model.Output(None, routes, mid), experts)
        own, put = (r.gates_LBTA[index][..., None] for r in (out.routes, routes))
        at_BTA = jnp.concatenate([at_BTA, routes.experts_LBTA[index]], -1)
        return at_BTA, jnp.concatenate([said_BTAD * own, -put_BTAD * put], 2)
    if isinstance(other, dict):
        said_BTAD -= _outputs(params, index, out, other)
    elif other is not None:
        said_BTAD -= other[index][at_BTA]
    return at_BTA, said_BTAD * out.routes.gates_LBTA[index][..., None]
