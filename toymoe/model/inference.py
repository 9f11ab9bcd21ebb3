"""A model reading prompts: its routes, and what it says after the last position.

Whatever is measured of prompts of one length, and however many chunks they fill, one compiled
program reads them.
"""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from .. import model
from ..config import ModelConfig
from . import moe

CHUNK = 256  # prompts read at a time: few enough to stay in cache


class Prediction(NamedTuple):
    """A model reading some tokens; numpy arrays."""

    gates_LBTE: np.ndarray  # selected gates, 0 outside the top-k
    predicted_B: np.ndarray  # the most probable next token after the last position


def predict(params: model.Params, tokens_BT, cfg: ModelConfig) -> Prediction:
    """What the model routes and says on some tokens."""
    gates_LBTE, logits_BV = read(params, tokens_BT, cfg)
    return Prediction(gates_LBTE, logits_BV.argmax(-1))


def read(params: model.Params, tokens_BT, cfg: ModelConfig) -> tuple[np.ndarray, np.ndarray]:
    """The selected gates [L, B, T, E], and the logits after the last position [B, V]."""
    tokens_BT = np.asarray(tokens_BT)
    B = len(tokens_BT)
    size = min(B, CHUNK)
    rows = np.arange(-(-B // size) * size).reshape(-1, size) % B  # the last chunk starts over
    parts = [_read(params, tokens_BT[some], cfg=cfg) for some in rows]
    gates, logits = zip(*parts, strict=True)
    return np.concatenate(gates, 1)[:, :B], np.concatenate(logits)[:B]


@partial(jax.jit, static_argnames="cfg")
def _read(params, tokens_BT, cfg):
    out = model.forward(params, tokens_BT, cfg, grouped=True)
    gates = moe.dense_gates(out.routes.experts_LBTA, out.routes.gates_LBTA, cfg.experts)
    return gates, out.logits_BTV[:, -1]
