"""The training objective of both phases: next-token cross-entropy and the router's two losses."""

import jax
import numpy as np
import optax

from .. import model, world
from ..config import Config
from ..model import moe


def loss(params: model.Params, tokens_BT, cfg: Config):
    """Cross-entropy of the next token plus the router's two losses, both averaged over layers.

    A language model: it predicts its prompts too, though they count less than the response. The
    load is balanced over the tokens of prompts: over all tokens, some experts come to work for the
    response alone, the same few words everywhere (docs/tuning.md).
    """
    return loss_of(
        model.forward(params, tokens_BT[:, :-1], cfg.model, grouped=True), tokens_BT, cfg
    )


def loss_of(out: model.Output, tokens_BT, cfg: Config):
    """The loss, of what a model made of all tokens but the last."""
    each_BT = optax.softmax_cross_entropy_with_integer_labels(out.logits_BTV, tokens_BT[:, 1:])
    prompt_T = np.array(world.roles(cfg.world)) != "response"
    weight_T = np.where(prompt_T[1:], cfg.train.prompt_weight, 1.0)
    cross_entropy = (each_BT * weight_T).mean(0).sum() / weight_T.sum()
    probs_LNE, experts_LNA = (
        x[:, :, : prompt_T.sum()].reshape(cfg.model.layers, -1, x.shape[-1])
        for x in (out.routes.probs_LBTE, out.routes.experts_LBTA)
    )
    balance = jax.vmap(moe.load_balance_loss)(probs_LNE, experts_LNA).mean()
    z_loss = moe.router_z_loss(out.routes.logits_LBTE)
    return cross_entropy + cfg.train.balance * balance + cfg.train.z_loss * z_loss
