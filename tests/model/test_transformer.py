"""The transformer against a slow implementation in plain numpy, and its parts one by one."""

import math
from functools import partial

import jax
import numpy as np
import pytest
from jax.test_util import check_grads
from oracle import EPS, assert_close, random_params, rounding, slow_forward

from toymoe import model
from toymoe.config import ModelConfig
from toymoe.model import transformer

pytestmark = [pytest.mark.core, pytest.mark.numeric]

VOCABULARY = 11
CONFIGS = {
    "top two": ModelConfig(layers=2, width=8, heads=2, experts=5, expert_width=3, top_k=2),
    "top one, one head": ModelConfig(1, width=6, heads=1, experts=3, expert_width=4, top_k=1),
    "all, normalised": ModelConfig(2, 8, 2, 4, expert_width=3, top_k=4, norm_topk_prob=True),
}


def fast(function, **static):
    return jax.jit(partial(function, **static))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def single(params):
    return jax.tree.map(lambda leaf: leaf.astype(np.float32), params)


def random_tokens(B=2, T=5, seed=1):
    return np.random.default_rng(seed).integers(0, VOCABULARY, (B, T))


@pytest.mark.parametrize("name", CONFIGS)
def test_whole_model_equals_the_slow_one_gradients_too(name):
    cfg, tokens_BT = CONFIGS[name], random_tokens()
    params = jax.tree.map(np.float64, random_params(cfg, VOCABULARY))
    slow_BTV, chosen = slow_forward(params, tokens_BT, cfg)
    within = rounding(lambda params: slow_forward(params, tokens_BT, cfg)[0], params)
    assert np.abs(slow_BTV).max() > 1e4 * within
    weights_BTV = normal(*slow_BTV.shape, seed=2)
    leaves, tree = jax.tree.flatten(params)
    toward = [normal(*leaf.shape, seed=3 + i) for i, leaf in enumerate(leaves)]
    slopes = []  # of sum(logits * weights), when each leaf in turn moves along its direction
    for i, leaf in enumerate(leaves):
        stepped = [*leaves[:i], leaf + 1e-30j * toward[i], *leaves[i + 1 :]]
        stepped_BTV, _ = slow_forward(jax.tree.unflatten(tree, stepped), tokens_BT, cfg)
        slopes.append((stepped_BTV * weights_BTV).sum().imag / 1e-30)
    assert min(map(abs, slopes)) > 1e-3

    def score(params, grouped):
        out = model.forward(params, tokens_BT, cfg, grouped=grouped)
        return (out.logits_BTV * weights_BTV).sum(), out

    for grouped in (False, True):
        run = fast(jax.value_and_grad(score, has_aux=True), grouped=grouped)
        (_, out), grads = run(single(params))
        np.testing.assert_array_equal(out.routes.experts_LBTA, chosen)
        assert_close(out.logits_BTV, slow_BTV, within)
        found = [(g * d).sum() for g, d in zip(jax.tree.leaves(grads), toward, strict=True)]
        np.testing.assert_allclose(found, slopes, rtol=1e-3, atol=1e-3)

    def forwards(grouped):
        along = jax.tree.unflatten(tree, toward)
        return jax.jvp(lambda p: score(p, grouped)[0], (single(params),), (along,))[1]

    np.testing.assert_allclose(forwards(False), sum(slopes), rtol=1e-3, atol=1e-3)
    with pytest.raises(TypeError, match="custom_vjp"):
        forwards(True)


def test_grouped_takes_another_path():
    cfg = CONFIGS["top two"]
    like = random_params(cfg, VOCABULARY)
    each = f"[10,{cfg.experts},{cfg.expert_width}]"  # hidden units of every expert on every token
    for grouped in (False, True):
        run = partial(model.forward, cfg=cfg, grouped=grouped)
        assert (each in str(jax.make_jaxpr(run)(like, random_tokens()))) is not grouped


# --- what the whole model must not do -----------------------------------------------------------


@pytest.mark.parametrize("grouped", [False, True])
def test_the_future_and_other_prompts_are_unseen(grouped):
    cfg = CONFIGS["top two"]
    run = fast(model.forward, cfg=cfg, grouped=grouped)
    params, tokens_BT = random_params(cfg, VOCABULARY), random_tokens(B=3, T=6)
    before_BTV = np.asarray(run(params, tokens_BT).logits_BTV)
    within = rounding(lambda params: slow_forward(params, tokens_BT, cfg)[0], params)
    unseen = min(1e-5, within)  # what is unseen changes nothing, however much float32 rounds
    for t in range(6):
        changed_BT = tokens_BT.copy()
        changed_BT[1, t] = (changed_BT[1, t] + 1) % VOCABULARY
        difference_BT = np.abs(run(params, changed_BT).logits_BTV - before_BTV).max(-1)
        assert (difference_BT[[0, 2]] < unseen).all() and (difference_BT[1, :t] < unseen).all()
        assert (difference_BT[1, t:] > 10 * within).all()


def test_routes_have_layer_prompt_and_position():
    cfg = CONFIGS["top two"]
    run = fast(model.forward, cfg=cfg)
    out = run(random_params(cfg, VOCABULARY), random_tokens(B=3, T=4))
    assert out.logits_BTV.shape == (3, 4, VOCABULARY)
    assert out.routes.logits_LBTE.shape == out.routes.probs_LBTE.shape == (2, 3, 4, 5)
    assert out.routes.experts_LBTA.shape == out.routes.gates_LBTA.shape == (2, 3, 4, 2)
    np.testing.assert_allclose(out.routes.probs_LBTE.sum(-1), 1, rtol=1e-5)
    picked = np.take_along_axis(
        np.asarray(out.routes.probs_LBTE), np.asarray(out.routes.experts_LBTA), 3
    )
    np.testing.assert_array_equal(out.routes.gates_LBTA, picked)


# --- parts --------------------------------------------------------------------------------------


def test_rms_norm_closed_forms():
    # The mean square of (3, 4) is 12.5.
    expected = np.array([3, 8]) / math.sqrt(12.5)
    # An inverse square root may be off by some ulp, which differ among instruction sets.
    close = partial(np.testing.assert_allclose, rtol=16 * EPS)
    close(model.rms_norm(np.array([3.0, 4]), np.array([1, 2])), expected)
    # Without subtracting the mean: a constant stays. Small inputs: epsilon 1e-5 is under the root.
    close(model.rms_norm(np.full(4, 7.0), 1), 1)
    close(model.rms_norm(np.full(4, 1e-3), 1), 1e-3 / math.sqrt(1.1e-5))
    assert (jax.grad(lambda x: model.rms_norm(x, 1).sum())(np.zeros(4)) > 0).all()


def test_rotation_is_a_complex_multiplication():
    T, K = 7, 6
    x_TK = normal(1, 1, T, K)
    z = x_TK[..., :3] + 1j * x_TK[..., 3:]  # half-split: the pairs are (0, 3), (1, 4), (2, 5)
    turned = z * np.exp(1j * np.arange(T)[:, None] * 10_000.0 ** -np.array([0, 1 / 3, 2 / 3]))
    found = transformer.rotate(x_TK, transformer.rotary(T, K))
    np.testing.assert_allclose(found, np.concatenate([turned.real, turned.imag], -1), atol=1e-6)
    np.testing.assert_array_equal(found[..., 0, :], x_TK[..., 0, :])


def test_rotated_products_depend_on_the_distance_only():
    T, K = 9, 8
    q_K, k_K = normal(2, K)
    rotation = transformer.rotary(T, K)
    q_TK, k_TK = (transformer.rotate(np.broadcast_to(x, (T, K)), rotation) for x in (q_K, k_K))
    product_TT = np.asarray(q_TK @ k_TK.T)
    for distance in range(-T + 1, T):
        diagonal = np.diagonal(product_TT, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-5)
    assert np.ptp(product_TT[0]) > 0.1  # but on the distance it does depend


def test_attention_pattern_closed_forms():
    pattern = np.asarray(
        transformer.attention_pattern(normal(2, 3, 6, 4), normal(2, 3, 6, 4, seed=1))
    )
    np.testing.assert_allclose(pattern.sum(-1), 1, rtol=1e-5)
    assert (pattern[..., ~np.tri(6, dtype=bool)] == 0).all()
    assert (pattern[..., np.tri(6, dtype=bool)] > 0).all()
    # Equal keys: all that is past alike.
    same = transformer.attention_pattern(normal(1, 1, 6, 4), np.ones((1, 1, 6, 4), np.float32))
    np.testing.assert_allclose(same[0, 0], np.tri(6) / np.arange(1, 7)[:, None], rtol=1e-5)
    # K = 4: a product of 2 log 3 becomes log 3; of the two keys, odds of 3 to 1.
    q, k = np.zeros((2, 1, 1, 2, 4), np.float32)
    q[..., 1, 0], k[..., 0, 0] = 1, 2 * math.log(3)
    expected = [[1, 0], [0.75, 0.25]]
    np.testing.assert_allclose(transformer.attention_pattern(q, k)[0, 0], expected, rtol=1e-5)


def plain_attend(q, k, v):
    scores = jax.numpy.einsum("bhtk,bhsk->bhts", q, k) / q.shape[-1] ** 0.5
    future = np.triu(np.ones((q.shape[2],) * 2, bool), 1)
    return jax.nn.softmax(scores + np.where(future, -np.inf, 0)) @ v


def test_attention_backwards_by_hand_equals_autodiff():
    inputs = [normal(2, 2, 5, 4, seed=seed) for seed in range(3)]
    weights = normal(2, 2, 5, 4, seed=3)
    grads = []
    for attend in (transformer.attend, plain_attend):

        def score(*inputs, attend=attend):
            return (attend(*inputs) * weights).sum()

        grads.append(fast(jax.value_and_grad(score, argnums=(0, 1, 2)))(*inputs))
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5, rtol=1e-4), *grads)
    check_grads(jax.jit(transformer.attend), inputs, order=1, modes=["rev"], atol=1e-2, rtol=1e-2)
    assert isinstance(transformer.attend, jax.custom_vjp)


# --- parameters ---------------------------------------------------------------------------------


def names(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(entry.key for entry in path): leaf for path, leaf in leaves}


@pytest.fixture(scope="module")
def init():
    """Compiled once: most of what these tests cost."""
    return fast(model.init, cfg=ModelConfig(), vocabulary=133)


def test_layout_and_count_at_default_size(init):
    params = names(init(jax.random.key(0)))
    assert {name: leaf.shape for name, leaf in params.items()} == {
        "embed": (133, 64),
        "final_norm": (64,),
        "unembed": (64, 133),
        "layers/attention_norm": (3, 64),
        "layers/qkv": (3, 64, 192),
        "layers/query_norm": (3, 64),
        "layers/key_norm": (3, 64),
        "layers/out": (3, 64, 64),
        "layers/moe_norm": (3, 64),
        "layers/router": (3, 64, 18),
        "layers/experts/gate_up": (3, 18, 64, 60),
        "layers/experts/down": (3, 18, 30, 64),
    }
    assert {leaf.dtype for leaf in params.values()} == {np.dtype(np.float32)}
    # 2·133·64 + 64 + 3·(4·64 + 4·64² + 64·18 + 18·3·64·30)
    assert model.count(params) == 381_504
    for name, leaf in params.items():
        if name.endswith("_norm"):
            assert (leaf == 1).all()
            continue
        # Variance 1 / fan-in, of the embedding 0.01. The spread of an estimated variance is
        # sqrt(2 / n) of it, and that of a mean sqrt(variance / n).
        variance = 0.01 if name == "embed" else 1 / leaf.shape[-2]
        assert np.var(leaf) / variance == pytest.approx(1, abs=5 * (2 / leaf.size) ** 0.5), name
        assert np.mean(leaf) == pytest.approx(0, abs=5 * (variance / leaf.size) ** 0.5), name


def test_init_is_a_pure_function_of_the_key(init):
    params, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, params, again)
    matrices = {k: leaf for k, leaf in names(params).items() if not k.endswith("_norm")}
    assert all((leaf != names(other)[name]).all() for name, leaf in matrices.items())
    # No matrix, layer or expert repeats the numbers of another, whatever its scale.
    numbers = [
        np.ravel(leaf) * (1 if name == "embed" else leaf.shape[-2] ** 0.5)
        for name, leaf in matrices.items()
    ]
    numbers = np.concatenate(numbers).round(6)
    assert len(np.unique(numbers)) > 0.9 * len(numbers)
