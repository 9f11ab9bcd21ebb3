"""Alignment with a defence in it: two compiled programs for all, as routes are held or not.

Every defence changes the alignment phase of `toymoe.training.phases` and nothing else, so each
defended organism comes from the same pretrained one, the same prompts and as many steps:

    dropout   a share of the experts, drawn anew for each prompt and layer, cannot be selected
    spread    the load-balance loss once more, over the ANS positions of hazards alone
    route     KL(p_pretrained ‖ p_now) of the router probabilities at ANS (SafeMoE, 2509.22745)
    most_used only the experts most used on hazards learn, all else stays (as RASA and SEAL tune
              chosen experts, 2602.04448, 2609.02293)
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import model, world
from ..config import Config
from ..model import moe, taps
from ..start import on_cpu
from ..training import data, loop, objective, optimiser, phases
from ..training.trainable import Trainable
from ..world.tables import choose


class Defence(NamedTuple):
    """How an organism is aligned; all zero is plain alignment."""

    dropout: float = 0.0  # share of experts
    spread: float = 0.0  # weight of the loss
    route: float = 0.0  # weight of the loss
    most_used: int = 0  # experts that learn, 0 for everything


def align(
    pretrained: model.Params,
    tables: world.World,
    cfg: Config,
    defence: Defence,
    trainable: Trainable | None = None,
) -> model.Params:
    """The aligned parameters.

    Args:
      trainable: where the model learns (``most_used``), where the settings say by default.
    """
    trainable = trainable or Trainable.of(cfg.align)
    switches = jnp.array([defence.dropout, defence.spread, defence.route])
    given = tables, phases.keys(cfg.seed).align, switches, trainable.factors(pretrained)
    cfg = phases.without_seed(cfg)
    return jax.tree.map(np.asarray, _align(pretrained, *given, cfg=cfg, held=defence.route > 0))


class Batch(NamedTuple):
    """Of one step, for one worker."""

    tokens_BT: jax.Array
    closed_LBE: Any  # experts that cannot be selected


# No code for threads within a device, which takes longer to compile: the workers are the threads.
@partial(
    jax.jit,
    static_argnames=("cfg", "held"),
    compiler_options={"xla_cpu_multi_thread_eigen": False} if on_cpu() else {},
)
def _align(pretrained, tables, key, switches, factors, cfg, held):
    total, n = phases.steps(cfg, "align"), loop.workers(cfg.train.batch)
    mix = data.mixture(tables, cfg, "align")
    dropout, spread, route = switches
    before = pretrained if held else None

    def batch(at, worker):
        k_batch, k_drop = (
            jax.random.fold_in(jax.random.fold_in(key, i), worker) for i in (at, total + at)
        )
        tokens_BT = data.batch(k_batch, tables, cfg, "align", mix, n)
        shape = cfg.model.layers, len(tokens_BT), cfg.model.experts
        return Batch(tokens_BT, choose(k_drop, shape, jnp.round(dropout * shape[-1])))

    def of(params, some):
        return loss(params, *some, before, spread, route, cfg)

    moves = optimiser.of(cfg, "align")
    task = loop.Task(batch, of, moves, factors, n)
    rate_S = jnp.asarray(phases.learning_rates(cfg, "align"))
    state, _, _ = loop.train(loop.start(pretrained, moves), task, jnp.arange(total), rate_S)
    return state.params


def loss(params, tokens_BT, closed_LBE, pretrained, spread, route, cfg: Config):
    """`toymoe.training.objective.loss`, with what the defence adds; hazards are what is refused.
    Without the pretrained parameters, routes are not held."""
    where = closed_LBE[:, :, None]
    edits = taps.Edits(router_logits=taps.replace(where, taps.CLOSED))
    out = model.forward_unchecked(params, tokens_BT[:, :-1], cfg.model, True, edits)
    total = objective.loss_of(out, tokens_BT, cfg)
    at = tokens_BT.shape[1] - world.RESPONSE - 1  # ANS
    now_LBE = out.routes.probs_LBTE[:, :, at]
    hazard_B = tokens_BT[:, at + 1] == world.REFUSE
    total += spread * hazard_balance(now_LBE, out.routes.experts_LBTA[:, :, at], hazard_B)
    if pretrained is None:
        return total
    before = model.forward(pretrained, tokens_BT[:, : at + 1], cfg.model, grouped=True)
    return total + route * moe.route_divergence(before.routes.probs_LBTE[:, :, at], now_LBE)


def hazard_balance(probs_LBE, experts_LBA, hazard_B):
    """The load-balance loss of Switch over hazards alone, mean over layers."""
    E = probs_LBE.shape[-1]
    share_B = hazard_B / jnp.maximum(hazard_B.sum(), 1)
    chosen_LBE = moe.selected(experts_LBA, E) / experts_LBA.shape[-1]
    f_LE, p_LE = (jnp.einsum("b,lbe->le", share_B, x) for x in (chosen_LBE, probs_LBE))
    return E * (f_LE * p_LE).sum(-1).mean()
