"""Planted parameters, whose routes and logits are computed by hand."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from toymoe.model import inference
from toymoe.training import phases

pytestmark = [pytest.mark.core, pytest.mark.numeric]


def test_planted_parameters(tiny):
    """Neither attention nor experts write anything, so all is said by the embedding."""
    rng, cfg = np.random.default_rng(0), dataclasses.replace(tiny.model, top_k=2)
    embed, router, unembed = (rng.normal(size=s) for s in ((38, 8), (2, 8, 8), (8, 38)))
    layers = {
        name: np.ones((2, 8)) for name in "attention_norm query_norm key_norm moe_norm".split()
    }
    layers |= {"qkv": rng.normal(size=(2, 8, 24)), "out": np.zeros((2, 8, 8)), "router": router}
    layers["experts"] = {"gate_up": rng.normal(size=(2, 8, 8, 8)), "down": np.zeros((2, 8, 4, 8))}
    params = {"embed": embed, "layers": layers, "final_norm": np.ones(8), "unembed": unembed}
    params = jax.tree.map(np.float32, params)
    tokens = rng.integers(0, 38, (3, 7))

    gates, logits = np.zeros((2, 3, 7, 8)), []
    for b, row in enumerate(tokens):
        for t, token in enumerate(row):
            x = embed[token] / math.sqrt(np.mean(embed[token] ** 2) + 1e-5)
            for layer in range(2):
                weights = np.exp(x @ router[layer])
                for e in sorted(range(8), key=weights.__getitem__)[-2:]:
                    gates[layer, b, t, e] = weights[e] / weights.sum()
        logits.append(x @ unembed)
    found, said = inference.read(params, tokens, cfg)
    np.testing.assert_allclose(found, gates, rtol=1e-4)
    np.testing.assert_allclose(said, logits, rtol=1e-4, atol=1e-4)
    view = inference.predict(params, tokens, cfg)
    np.testing.assert_array_equal(view.gates_LBTE, found)
    assert view.predicted_B.tolist() == [max(range(38), key=row.__getitem__) for row in logits]


def test_read_in_chunks_is_the_same(tiny, monkeypatch):
    params = phases.fresh_params(jax.random.key(0), tiny)
    tokens = np.random.default_rng(0).integers(0, len(params["embed"]), (10, 7))
    whole = inference.read(params, tokens, tiny.model)
    monkeypatch.setattr(inference, "CHUNK", 4)
    for part, expected in zip(inference.read(params, tokens, tiny.model), whole, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-5)
