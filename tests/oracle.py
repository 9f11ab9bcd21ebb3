"""What the tests that hold a model against an independent one share: parameters, tolerances."""

import math

import jax
import numpy as np

from toymoe import model

EPS = float(np.finfo(np.float32).eps)


def random_params(cfg, vocabulary, seed=0):
    """Norms are not one, and matrices are larger than at the start: everything shows."""
    rng = np.random.default_rng(seed)
    like = jax.eval_shape(lambda: model.init(jax.random.key(0), cfg, vocabulary))
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            rng.uniform(0.5, 1.5, leaf.shape)
            if path[-1].key.endswith("_norm")
            else 1.5 * rng.normal(size=leaf.shape) / leaf.shape[-2] ** 0.5
        ).astype(np.float32),
        like,
    )


# --- the slow model: one prompt, one position, one head, one expert at a time -------------------
# Real parts alone decide where tokens go, and nothing is conjugated, so that a complex step
# gives derivatives: f(w + ih) = f(w) + ih f'(w), exact to the last digit.


def slow_norm(x_D, scale_D):
    return x_D / np.sqrt((x_D * x_D).sum() / len(x_D) + 1e-5) * scale_D


def slow_rotate(x_K, t):
    half = len(x_K) // 2
    turned = np.zeros_like(x_K)
    for i in range(half):
        angle = t / 10_000 ** (2 * i / len(x_K))
        turned[i] = x_K[i] * math.cos(angle) - x_K[i + half] * math.sin(angle)
        turned[i + half] = x_K[i] * math.sin(angle) + x_K[i + half] * math.cos(angle)
    return turned


def slow_softmax(x):
    return np.exp(x) / np.exp(x).sum()


def slow_attention(x_TD, w, H):
    q_TD, k_TD, v_TD = [], [], []
    K = x_TD[0].size // H
    for t, x_D in enumerate(x_TD):
        q_D, k_D, v_D = np.split(slow_norm(x_D, w["attention_norm"]) @ w["qkv"], 3)
        q_D, k_D = slow_norm(q_D, w["query_norm"]), slow_norm(k_D, w["key_norm"])
        q_TD.append([slow_rotate(q_K, t) for q_K in np.split(q_D, H)])
        k_TD.append([slow_rotate(k_K, t) for k_K in np.split(k_D, H)])
        v_TD.append(np.split(v_D, H))
    out_TD = []
    for t in range(len(x_TD)):
        heads = []
        for h in range(H):
            scores = np.array([q_TD[t][h] @ k_TD[s][h] / math.sqrt(K) for s in range(t + 1)])
            pattern = slow_softmax(scores)
            heads.append(sum(pattern[s] * v_TD[s][h] for s in range(t + 1)))
        out_TD.append(np.concatenate(heads) @ w["out"])
    return out_TD


def slow_moe(x_D, w, cfg):
    probs_E = slow_softmax(x_D @ w["router"])
    best = sorted(range(cfg.experts), key=lambda e: -probs_E[e].real)[: cfg.top_k]
    total = sum(probs_E[e] for e in best) if cfg.norm_topk_prob else 1
    out_D = 0
    for e in best:
        gate_F, up_F = np.split(x_D @ w["experts"]["gate_up"][e], 2)
        hidden_F = gate_F / (1 + np.exp(-gate_F)) * up_F
        out_D = out_D + probs_E[e] / total * (hidden_F @ w["experts"]["down"][e])
    return out_D, best


def slow_forward(params, tokens_BT, cfg):
    """Logits [B, T, V] and selected experts [L, B, T, A]."""
    logits, chosen = [], np.zeros((cfg.layers, *tokens_BT.shape, cfg.top_k), int)
    for b, tokens_T in enumerate(tokens_BT):
        x_TD = [params["embed"][token] for token in tokens_T]
        for index in range(cfg.layers):
            w = jax.tree.map(lambda leaf, index=index: leaf[index], params["layers"])
            mixed_TD = slow_attention(x_TD, w, cfg.heads)
            x_TD = [x_D + mixed_D for x_D, mixed_D in zip(x_TD, mixed_TD, strict=True)]
            for t, x_D in enumerate(x_TD):
                out_D, chosen[index, b, t] = slow_moe(slow_norm(x_D, w["moe_norm"]), w, cfg)
                x_TD[t] = x_D + out_D
        logits.append([slow_norm(x_D, params["final_norm"]) @ params["unembed"] for x_D in x_TD])
    return np.array(logits), chosen


def rounding(slow, params, draws=16):
    """How far float32 may be from ``slow(params)``, an array or a tree of arrays in float64.

    Every weight moves by half an ulp, up or down, and the farthest that this moves an entry of an
    array is what one rounding costs there. A model of two layers rounds some twenty times, one
    operation after the other: as a random walk that is sqrt(20) = 4.5 times as far, 8 with a
    margin. Nothing here knows which program, compiler or processor computed what is compared.
    Measured, float32 takes up to .22 of it. In test_taps, where it is 2e-5 for the whole model,
    gates wrong by one in 10,000 show as 4e-4, and an epsilon of 1e-6 instead of 1e-5 as 1.1e-4.
    """
    rng = np.random.default_rng(0)
    params = jax.tree.map(np.float64, params)
    expected = slow(params)

    def farthest():
        moved = jax.tree.map(lambda w: w * (1 + EPS / 2 * rng.choice([-1, 1], w.shape)), params)
        return jax.tree.map(lambda a, b: np.abs(np.float64(a) - b).max(), slow(moved), expected)

    return jax.tree.map(lambda *moves: 8 * max(moves), *(farthest() for _ in range(draws)))


def assert_close(found, expected, atol, what=""):
    """Within what float32 can promise there, as ``rounding`` has it."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=what)
