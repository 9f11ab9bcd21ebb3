"""The loss beside one that goes a token at a time, in float64."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from toymoe import model
from toymoe.training import data, objective, phases

pytestmark = [pytest.mark.core, pytest.mark.numeric]


def slow_loss(out, tokens_BT, response_from, cfg):
    """The whole loss in float64, one token at a time."""
    logits, nats, weights = np.float64(out.logits_BTV), 0.0, 0.0
    B, T = tokens_BT.shape
    for b in range(B):
        for t in range(T - 1):
            weight = 1.0 if t + 1 >= response_from else cfg.train.prompt_weight
            p_V = np.exp(logits[b, t]) / np.exp(logits[b, t]).sum()
            nats -= weight * math.log(p_V[tokens_BT[b, t + 1]])
            weights += weight
    balance, z_loss, E = [], [], cfg.model.experts
    for layer in range(cfg.model.layers):
        count_E, prob_E, n = np.zeros(E), np.zeros(E), 0
        for b in range(B):
            for t in range(T - 1):
                z_E = np.float64(out.routes.logits_LBTE[layer, b, t])
                z_loss.append(math.log(np.exp(z_E).sum()) ** 2)
                if t < response_from:
                    best = sorted(range(E), key=lambda e: -z_E[e])[: cfg.model.top_k]
                    count_E[best] += 1
                    prob_E += np.exp(z_E) / np.exp(z_E).sum()
                    n += 1
        balance.append(E * (count_E / (n * cfg.model.top_k)) @ (prob_E / n))
    parts = nats / weights, np.mean(balance), np.mean(z_loss)
    return parts[0] + cfg.train.balance * parts[1] + cfg.train.z_loss * parts[2]


def test_loss_is_the_slow_one(cfg, tables):
    names = ("prompt_weight", "balance", "z_loss")
    cfgs = [
        dataclasses.replace(
            cfg,
            train=dataclasses.replace(cfg.train, **weights),
            model=dataclasses.replace(cfg.model, layers=2),
        )
        for values in [(0.25, 0.5, 0.25), (1.0, 0.0, 0.0), (0.0, 2.0, 1.0)]
        for weights in [dict(zip(names, values, strict=True))]
    ]
    mix = data.mixture(tables, cfg, "align")
    tokens_BT = jax.jit(lambda key: data.batch(key, tables, cfg, "align", mix))(jax.random.key(1))

    @jax.jit
    def all_of_them(key):
        params = phases.fresh_params(key, cfgs[0])
        out = model.forward(params, tokens_BT[:, :-1], cfgs[0].model)
        return out, [objective.loss(params, tokens_BT, cfg) for cfg in cfgs]

    out, losses = all_of_them(jax.random.key(0))
    expected = [slow_loss(out, np.asarray(tokens_BT), tokens_BT.shape[1] - 3, c) for c in cfgs]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
