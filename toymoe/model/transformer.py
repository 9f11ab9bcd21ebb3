"""The transformer: a miniature OLMoE (arXiv 2409.02060), as a pure function of a plain dict.

Pre-norm RMSNorm, rotary positions, RMSNorm on the whole query and key projections, SwiGLU experts,
untied output head, no biases. `toymoe.model.parameters` says what the dict holds.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..config import ModelConfig
from . import checks, moe, probe, taps
from .parameters import Params

EPSILON = 1e-5  # of RMSNorm
THETA = 10_000.0  # base of the rotary frequencies


class Output(NamedTuple):
    """What the model says, and which way each token went in each layer."""

    logits_BTV: jax.Array
    routes: taps.Routes
    record: dict[str, jax.Array]  # the taps that were asked for


def forward(
    params: Params,
    tokens_BT,
    cfg: ModelConfig,
    grouped: bool = False,
    edits: taps.Edits | None = None,
    record: tuple[str, ...] = (),
) -> Output:
    """Next-token logits [B, T, V], the routes, and whatever was asked for on the way.

    Args:
      tokens_BT: whole numbers, an array or nested lists.
      grouped: compute only the selected experts (`toymoe.model.moe`): equal, and what training
        uses. The reference path computes all of them, and is the one that has forward-mode
        derivatives too (`jax.jvp`, `jax.jacfwd`); those of the grouped path are written by hand,
        and only backwards.
      edits: changes on the way, see ``toymoe.model.taps.edits``.
      record: names of taps, see ``toymoe.model.taps.TAPS``; recorded after their edit.

    Raises:
      taps.TapError: tokens that are not [B, T] whole numbers of the vocabulary (which, where they
        are traced, nobody can see), an unknown tap, an edit that does not fit, more memory than
        `checks.LIMIT`.
    """
    vocabulary = params["embed"].shape[0]
    tokens_BT = checks.tokens(tokens_BT, vocabulary)
    checks.asked(tokens_BT.shape, cfg, vocabulary, grouped, edits, record)
    edits, changes = taps.effective(edits)

    def run(edits):
        return forward_unchecked(params, tokens_BT, cfg, grouped, edits, record)

    if changes is None:
        return run(edits)
    # Edits let XLA fuse, and so round, in another way, even where they change nothing.
    return jax.lax.cond(changes, run, lambda _: run(None), edits)


@partial(jax.jit, static_argnames=("cfg", "grouped", "record"), inline=True)
def forward_unchecked(
    params: Params, tokens_BT, cfg: ModelConfig, grouped, edits, record=()
) -> Output:
    """``forward`` without its checks; edits at no place at all equal no edits but for rounding.

    Compiled here for those who call it by itself: a scan compiles at every call otherwise.
    """
    B, T = tokens_BT.shape
    x_ND = params["embed"][tokens_BT.reshape(-1)]
    rotation = rotary(T, cfg.width // cfg.heads)

    def run(x_ND, now):
        index, layer = now
        tap = probe.Probe((B, T), edits, record)
        x_ND, route = _layer(layer, index, x_ND, cfg, (B, T), rotation, grouped, tap)
        return x_ND, (route, tap.record)

    # A scan, not a loop: a layer is compiled once, and runs as fast (docs/tuning.md).
    layers = (jnp.arange(cfg.layers), params["layers"])
    x_ND, (route, taken) = jax.lax.scan(run, x_ND, layers)
    logits_NV = rms_norm(x_ND, params["final_norm"]) @ params["unembed"]
    routes = taps.Routes(*(leaf.reshape(cfg.layers, B, T, -1) for leaf in route))
    return Output(logits_NV.reshape(B, T, -1), routes, taken)


def resume(params: Params, x_BTD, cfg: ModelConfig, first: int, routes: taps.Routes, frozen):
    """Logits at the last position [B, V], given the residual stream before layer ``first``.

    Equal to the end of ``forward``, for less: the grouped path, no layer twice, and in the last
    layer no position but the last.

    Args:
      routes: `Output.routes` of a reference run, to take selection and gates from where
        ``frozen``.
    """
    B, T, _ = x_BTD.shape
    rotation = rotary(T, cfg.width // cfg.heads)
    x_ND = x_BTD.reshape(B * T, -1)
    for index in range(first, cfg.layers):
        last = index == cfg.layers - 1
        kept = jax.tree.map(lambda leaf, last=last: leaf[:, :, -1:] if last else leaf, routes)
        edits = taps.Edits(route=taps.freeze(kept, frozen))
        tap = probe.Probe((B, 1 if last else T), edits)
        layer = jax.tree.map(lambda leaf, index=index: leaf[index], params["layers"])
        x_ND, _ = _layer(layer, index, x_ND, cfg, (B, T), rotation, True, tap, last)
    x_BD = x_ND.reshape(B, -1, cfg.width)[:, -1]
    return rms_norm(x_BD, params["final_norm"]) @ params["unembed"]


def _layer(layer, index, x_ND, cfg, shape, rotation, grouped, tap, last=False):
    """The residual stream after one layer [N, D]; of the last positions, so N = B, if ``last``."""
    x_ND = tap("resid_pre", index, x_ND)
    h_ND = rms_norm(x_ND, layer["attention_norm"])
    if last:
        x_ND = x_ND.reshape(*shape, -1)[:, -1]
    x_ND += attention(h_ND, layer, cfg, shape, rotation, grouped, tap, index, last)
    x_ND = tap("resid_mid", index, x_ND)
    h_ND = rms_norm(x_ND, layer["moe_norm"])
    logits_NE = tap("router_logits", index, h_ND @ layer["router"])
    probs_NE = tap("router_probs", index, jax.nn.softmax(logits_NE, -1, where=tap.open(logits_NE)))
    route = moe.route_from_probs(logits_NE, probs_NE, cfg.top_k, cfg.norm_topk_prob)
    route = tap.route(index, route, cfg.norm_topk_prob)
    x_ND += _experts(h_ND, layer["experts"], route, grouped, tap, index)
    return tap("resid_post", index, x_ND), route


def _experts(h_ND, experts, route, grouped, tap, index):
    if not tap.wants("expert_out", "contribution"):
        path = moe.grouped_moe if grouped else moe.reference_moe
        return path(h_ND, experts, route.experts_NA, route.gates_NA)
    out_NED = tap("expert_out", index, moe.expert_outputs(h_ND, experts))
    gates_NE = moe.dense_gates(route.experts_NA, route.gates_NA, out_NED.shape[1])
    y_ND = jnp.einsum("ne,ned->nd", gates_NE, out_NED)
    if not tap.wants("contribution"):
        return y_ND
    return tap.total("contribution", index, gates_NE[..., None] * out_NED, y_ND)


def rms_norm(x, scale):
    """x / rms(x) · scale over the last axis. Source: arXiv 1910.07467, eq. 4."""
    return x * inverse_rms(x) * scale


def inverse_rms(x):
    """1 / rms(x) over the last axis, which stays."""
    return jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPSILON)


def attention(x_ND, layer, cfg: ModelConfig, shape, rotation, grouped, tap, index, last=False):
    """Causal multi-head attention, normalised queries and keys, rotary positions: [N, D].

    ``last``: only the last position looks, [B, D].
    """
    B, T = shape
    H, D = cfg.heads, cfg.width
    if last:
        q_ND = x_ND.reshape(B, T, D)[:, -1] @ layer["qkv"][:, :D]
        k_ND, v_ND = jnp.split(x_ND @ layer["qkv"][:, D:], 2, -1)
    else:
        q_ND, k_ND, v_ND = jnp.split(x_ND @ layer["qkv"], 3, -1)
    q_ND, k_ND = rms_norm(q_ND, layer["query_norm"]), rms_norm(k_ND, layer["key_norm"])
    q, k, v = (z.reshape(B, -1, H, D // H).swapaxes(1, 2) for z in (q_ND, k_ND, v_ND))
    looking = tuple(x[-1:] for x in rotation) if last else rotation
    q, k = rotate(q, looking), rotate(k, rotation)
    if grouped and not tap.wants("pattern"):
        mixed_BHTK = attend(q, k, v)
    else:
        mixed_BHTK = tap("pattern", index, attention_pattern(q, k)) @ v
    out_ND = mixed_BHTK.swapaxes(1, 2).reshape(-1, D) @ layer["out"]
    if not tap.wants("head_out"):
        return out_ND
    out_HKD = layer["out"].reshape(H, -1, D)
    heads_NHD = jnp.einsum("bhtk,hkd->bthd", mixed_BHTK, out_HKD).reshape(-1, H, D)
    return tap.total("head_out", index, heads_NHD, out_ND)


def rotary(T: int, K: int):
    """Cosine and sine [T, K / 2] of the rotary angles, t · theta^(-2i / K) at position t.

    Source: RoFormer, arXiv 2104.09864, eq. 15.
    """
    # In numpy: as constants, or XLA takes the sine anew for every element it is multiplied with.
    angle = np.arange(T)[:, None] * THETA ** (-np.arange(0, K, 2) / K)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def rotate(x_BHTK, rotation):
    """Turn the pairs (i, i + K / 2) of each head by the angle of their position (half-split)."""
    cos, sin = rotation
    a, b = jnp.split(x_BHTK, 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def attention_pattern(q_BHTK, k_BHTK):
    """Causal softmax(q k / sqrt K): [B, H, T, T], rows are queries; of the last positions, if not
    all."""
    Tq, T, K = q_BHTK.shape[-2], *k_BHTK.shape[-2:]
    scores = q_BHTK @ moe.transposed(k_BHTK) / K**0.5
    return jax.nn.softmax(jnp.where(jnp.tri(Tq, T, T - Tq, dtype=bool), scores, -jnp.inf), -1)


@jax.custom_vjp
def attend(q_BHTK, k_BHTK, v_BHTK):
    """Values mixed by the attention pattern: [B, H, T, K]. Has no forward-mode derivative."""
    return attention_pattern(q_BHTK, k_BHTK) @ v_BHTK


def _attend_fwd(q, k, v):
    pattern = attention_pattern(q, k)
    return pattern @ v, (q, k, v, pattern)


def _attend_bwd(saved, d_mixed):
    """By hand for `moe.transposed`: these many tiny matmuls are half the cost of a step."""
    q, k, v, pattern = saved
    d_pattern = d_mixed @ moe.transposed(v)
    d_scores = pattern * (d_pattern - (pattern * d_pattern).sum(-1, keepdims=True))
    d_scores /= q.shape[-1] ** 0.5
    return d_scores @ k, moe.transposed(d_scores) @ q, moe.transposed(pattern) @ d_mixed


attend.defvjp(_attend_fwd, _attend_bwd)
