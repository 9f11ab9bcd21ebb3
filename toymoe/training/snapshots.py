"""What is recorded while a model trains: routes and predictions on fixed prompts, models now and then."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import model
from ..config import Config
from ..model import inference
from . import loop


class Snapshot(NamedTuple):
    """What a model does with fixed prompts, enough to compute any routing measure afterwards."""

    experts_LBPA: jax.Array  # uint8, the selected experts
    predicted_B: jax.Array  # the most probable token at ANS


def record_steps(total: int) -> list[int]:
    """Steps after which routing is recorded: 0, 1, 2, 4, 5, 8, 11, 16, … crowding early, and the
    last, at most ``total / 16`` apart (rounded up)."""
    at = {0, total}
    step = 1.0
    while step < total:
        at.add(int(step))
        step = min(step * 2**0.5, step + total / 16)
    return sorted(at)


def kept_steps(total: int, chunk: int, n: int) -> list[int]:
    """The ends of chunks of a phase at which the model is kept, at most ``n`` of them, crowding
    early; its last step is none of them."""
    if chunk >= total:
        return []
    at = chunk * np.round(np.geomspace(1, total / chunk, n + 1)[:n])
    return sorted({int(step) for step in at if step < total})


def snapshot(params: model.Params, tokens_BP, cfg: Config) -> Snapshot:
    """By one worker."""
    out = model.forward(params, tokens_BP, cfg.model, grouped=True)
    return Snapshot(
        out.routes.experts_LBTA.astype(jnp.uint8), jnp.argmax(out.logits_BTV[:, -1], -1)
    )


def shared_snapshot(params: model.Params, tokens_BP, cfg: Config, workers: int) -> Snapshot:
    """By several, of which each takes a part of the prompts where the parts are equal."""
    size, rest = divmod(len(tokens_BP), workers)
    if rest or workers == 1:
        return snapshot(params, tokens_BP, cfg)
    first = jax.lax.axis_index(loop.AXIS) * size
    shot = snapshot(params, jax.lax.dynamic_slice_in_dim(tokens_BP, first, size), cfg)
    gather = partial(jax.lax.all_gather, axis_name=loop.AXIS, tiled=True)
    return Snapshot(gather(shot.experts_LBPA, axis=1), gather(shot.predicted_B))


def final_snapshot(params: model.Params, tokens_BP, cfg: Config) -> Snapshot:
    """By the program that all measures have in common."""
    gates_LBPE, predicted_B = inference.predict(
        jax.tree.map(np.asarray, params), tokens_BP, cfg.model
    )
    best_first = np.argsort(-gates_LBPE, -1, kind="stable")
    return Snapshot(best_first[..., : cfg.model.top_k].astype(np.uint8), predicted_B)
