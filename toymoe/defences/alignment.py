"""Alignment with a defence in it: one compiled program for all of them, by traced switches.

Every defence changes the alignment phase of `toymoe.training.phases` and nothing else, so each defended
organism comes from the same pretrained one, the same prompts and as many steps:

    dropout   a share of the experts, drawn anew for each prompt and layer, cannot be selected
    spread    the load-balance loss once more, over the ANS positions of hazards alone
    route     KL(p_pretrained ‖ p_now) of the router probabilities at ANS (SafeMoE, 2509.22745)
    most_used only the experts most used on hazards learn, all else stays (as RASA and SEAL tune
              chosen experts, 2602.04448, 2609.02293)
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import model, world
from ..config import Config
from ..model import moe, taps
from ..training import phases
from ..training.optimiser import optimiser

CLOSED = -1e9  # the router logit of an expert that cannot be selected


class Defence(NamedTuple):
    """How an organism is aligned; all zero is plain alignment."""

    dropout: float = 0.0  # share of experts
    spread: float = 0.0  # weight of the loss
    route: float = 0.0  # weight of the loss
    most_used: int = 0  # experts that learn, 0 for everything


def align(pretrained, tables: world.World, cfg: Config, defence: Defence, learns=None):
    """The aligned parameters.

    Args:
      learns: mask [L, E] of the experts that learn, if only some do (``most_used``).
    """
    key = phases.keys(cfg.seed).align
    everything = learns is None
    mask_LE = np.ones((cfg.model.layers, cfg.model.experts), bool) if everything else learns
    switches = jnp.array([defence.dropout, defence.spread, defence.route])
    return jax.tree.map(
        np.asarray,
        _align(
            pretrained,
            tables,
            key,
            switches,
            jnp.asarray(mask_LE),
            jnp.asarray(everything),
            cfg=phases.without_seed(cfg),
            held=defence.route > 0,
        ),
    )


# No code for threads within a device, which takes longer to compile: the workers are the threads.
@partial(
    jax.jit,
    static_argnames=("cfg", "held"),
    compiler_options={"xla_cpu_multi_thread_eigen": False},
)
def _align(*args, cfg, held):
    return phases.together(partial(_steps, cfg=cfg, held=held), cfg)(*args)


def _steps(pretrained, tables, key, switches, mask_LE, everything, cfg, held):
    """All steps of alignment, as one of its workers."""
    rate_S = jnp.asarray(phases.learning_rates(cfg, "align"))
    moves = optimiser(cfg.train.weight_decay)
    mix = phases.mixture(tables, cfg, "align")
    may = learning(pretrained, mask_LE, everything)
    dropout, spread, route = switches
    worker = jax.lax.axis_index(phases.AXIS)

    def step(state, at):
        k_batch, k_drop = (
            jax.random.fold_in(jax.random.fold_in(key, i), worker) for i in (at, rate_S.size + at)
        )
        tokens_BT = phases.batch(k_batch, tables, cfg, mix, phases.workers(cfg))
        closed_LBE = drop(k_drop, (cfg.model.layers, len(tokens_BT), cfg.model.experts), dropout)
        before = pretrained if held else None
        grads = jax.grad(loss)(state.params, tokens_BT, closed_LBE, before, spread, route, cfg)
        grads = jax.tree.map(jnp.multiply, jax.lax.pmean(grads, phases.AXIS), may)
        updates, opt_state = moves.update(grads, state.optimiser, state.params)
        params = jax.tree.map(lambda p, u, m: p - rate_S[at] * m * u, state.params, updates, may)
        return phases.State(params, opt_state), None

    start = phases.start(pretrained, cfg)
    return jax.lax.scan(step, start, jnp.arange(rate_S.size))[0].params


def learning(params, mask_LE, everything):
    """1 where a parameter learns, 0 where it does not, broadcastable to it."""
    none = jax.tree.map(lambda _: everything * 1.0, params)
    chosen = (mask_LE | everything)[..., None, None] * 1.0
    experts = dict.fromkeys(params["layers"]["experts"], chosen)
    return none | {"layers": none["layers"] | {"experts": experts}}


def drop(key, shape, share):
    """Bool: ``share`` of the last axis, at random and rounded."""
    luck = jax.random.uniform(key, shape)
    rank = (luck[..., None] > luck[..., None, :]).sum(-1)
    return rank < jnp.round(share * shape[-1])


def loss(params, tokens_BT, closed_LBE, pretrained, spread, route, cfg: Config):
    """`toymoe.training.phases.loss`, with what the defence adds; hazards are what is refused. Without the
    pretrained parameters, routes are not held."""
    where = closed_LBE[:, :, None]
    edits = taps.Edits(router_logits=taps.replace(where, CLOSED))
    out = model.forward_unchecked(params, tokens_BT[:, :-1], cfg.model, True, edits)
    total = phases.loss_of(out, tokens_BT, cfg)
    at = tokens_BT.shape[1] - world.RESPONSE - 1  # ANS
    now_LBE = out.routes.probs_LBTE[:, :, at]
    hazard_B = tokens_BT[:, at + 1] == world.REFUSE
    total += spread * hazard_balance(now_LBE, out.routes.experts_LBTA[:, :, at], hazard_B)
    if pretrained is None:
        return total
    before = model.forward(pretrained, tokens_BT[:, : at + 1], cfg.model, grouped=True)
    p_LBE = before.routes.probs_LBTE[:, :, at]
    drift = (p_LBE * (jnp.log(p_LBE + 1e-9) - jnp.log(now_LBE + 1e-9))).sum(-1).mean()
    return total + route * drift


def hazard_balance(probs_LBE, experts_LBA, hazard_B):
    """The load-balance loss of Switch over hazards alone, mean over layers."""
    E = probs_LBE.shape[-1]
    share_B = hazard_B / jnp.maximum(hazard_B.sum(), 1)
    chosen_LBE = moe.selected(experts_LBA, E) / experts_LBA.shape[-1]
    f_LE, p_LE = (jnp.einsum("b,lbe->le", share_B, x) for x in (chosen_LBE, probs_LBE))
    return E * (f_LE * p_LE).sum(-1).mean()
