"""What `forward` refuses, in one sentence and before anything is computed: tokens, taps, memory."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ..config import ModelConfig
from . import probe, taps
from .taps import TapError

LIMIT = 2 * 2**30  # bytes of a record, and of what a layer computes on the way


def tokens(tokens_BT, vocabulary: int):
    """The tokens as an array, checked; where they are traced, their values are taken on trust."""
    if not hasattr(tokens_BT, "shape"):
        try:
            tokens_BT = jnp.asarray(tokens_BT)
        except (TypeError, ValueError, OverflowError):
            kind = type(tokens_BT).__name__
            raise TapError(
                f"tokens = {kind} is not possible: give an array [B, T], or as many lists of whole "
                "numbers as prompts, all of one length."
            ) from None
    shape = np.shape(tokens_BT)
    if len(shape) != 2 or not all(shape):
        raise TapError(
            f"tokens of shape {list(shape)} are not possible: it must be [B, T], at least one "
            "prompt of at least one token."
        )
    if not jnp.issubdtype(tokens_BT.dtype, jnp.integer):
        raise TapError(f"tokens of type {tokens_BT.dtype} are not possible: give whole numbers.")
    if not isinstance(tokens_BT, jax.core.Tracer):
        flat_N = np.ravel(tokens_BT)
        wrong = flat_N[(flat_N < 0) | (flat_N >= vocabulary)]
        if wrong.size:
            raise TapError(
                f"token {wrong[0]} is not in the vocabulary: the model has {vocabulary} tokens, "
                f"numbered from 0 to {vocabulary - 1}."
            )
    return tokens_BT


def asked(
    shape: tuple[int, int], cfg: ModelConfig, vocabulary: int, grouped: bool, edits, record
) -> None:
    """Refuse edits and records that `forward` cannot do with [B, T] tokens, or has no room for."""
    if edits is not None and not isinstance(edits, taps.Edits):
        raise TapError(f"edits = {type(edits).__name__} is not possible: make them by taps.edits.")
    for name in record:
        taps.known(name)
    given = {} if edits is None else {n: e for n, e in edits._asdict().items() if e is not None}
    for name in taps.NEED_EVERY_EXPERT:
        if grouped and (name in record or name in given):
            raise TapError(f"{name} needs every expert: leave out grouped=True.")
    if given:
        taps.check_shapes(edits, cfg, shape)
    sizes = taps.axis_sizes(cfg, shape)
    for name, edit in given.items():
        if isinstance(edit, taps.Applied):
            _check_function(name, edit, tuple(sizes[axis] for axis in taps.TAPS[name].axes[1:]))
    _check_some_expert_is_open(given.get("router_logits"), cfg)
    size = record_bytes(cfg, shape, record)
    if size > LIMIT:
        largest = max(record, key=lambda name: record_bytes(cfg, shape, (name,)))
        raise TapError(
            f"the record would take {_room(size, shape)}, or leave out {largest}, the largest tap."
        )
    size = forward_bytes(cfg, vocabulary, shape, grouped)
    if size > LIMIT:
        instead = "" if grouped else ", or compute only the selected experts by grouped=True"
        raise TapError(f"these prompts would take {_room(size, shape)}{instead}.")


def _room(size: int, shape: tuple[int, int]) -> str:
    return (
        f"{size / 2**30:.1f} GiB, and {LIMIT / 2**30:.0f} GiB are allowed: give at most "
        f"{max(shape[0] * LIMIT // size, 1)} prompts at a time"
    )


def _check_function(name: str, edit: taps.Applied, shape: tuple[int, ...]) -> None:
    def made(tap, edit):
        return probe.of_layer(edit, 0).of(tap)

    found = jax.eval_shape(made, jax.ShapeDtypeStruct(shape, jnp.float32), edit)
    if getattr(found, "shape", None) != shape:
        raise TapError(
            f"{name}.function gives {getattr(found, 'shape', type(found).__name__)} for a tap of "
            f"shape {list(shape)}: it must give an array of the same shape."
        )


def _check_some_expert_is_open(edit, cfg: ModelConfig) -> None:
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(edit))
    if not isinstance(edit, taps.Edit) or traced:
        return
    closed = np.asarray(edit.where) & (np.asarray(edit.value) == -np.inf)
    closed = np.broadcast_to(closed, np.broadcast_shapes(closed.shape, (1, 1, 1, cfg.experts)))
    layers = np.flatnonzero(closed.all(-1).any((1, 2)))
    if layers.size:
        raise TapError(
            f"router_logits of -inf for all {cfg.experts} experts of layer {layers[0]} is not "
            "possible: leave at least one open."
        )


def record_bytes(cfg: ModelConfig, shape: tuple[int, int], record) -> int:
    """The size of a record of some taps for [B, T] tokens."""
    sizes = taps.axis_sizes(cfg, shape)
    return sum(
        math.prod(sizes[axis] for axis in taps.TAPS[name].axes) * (1 if name == "selected" else 4)
        for name in set(record)
    )


def forward_bytes(cfg: ModelConfig, vocabulary: int, shape: tuple[int, int], grouped: bool) -> int:
    """About what `forward` computes on the way and keeps at one time: logits and one layer."""
    (B, T), D, F = shape, cfg.width, cfg.expert_width
    experts = cfg.top_k * (3 * F + 2 * D) if grouped else cfg.experts * (3 * F + D)
    attention = cfg.heads * T + 4 * D
    return 4 * B * T * (max(experts, attention) + vocabulary + 2 * D)
