"""Is the route the seat? Hazards on the route of their harmless twin, and twins on their hazard's.

Selection and gates of every layer and position are the other prompt's; everything else is the
prompt's own. If the route carried refusal, hazards would be answered on their twin's route, and
twins refused on their hazard's.
"""

from functools import partial

import jax
import numpy as np

from .. import model, world
from ..model import taps
from .evidence import Evidence, answers_from, by_chunks


def exchanged(e: Evidence) -> dict[str, dict[str, float]]:
    """Of ``hazards`` and of ``twins``, on the route of the other: the share refused and the share
    answered right; ``own`` says the same on their own route."""
    pairs = {"hazards": (e.hazards, e.twins), "twins": (e.twins, e.hazards)}
    return {
        name: _rates(e, prompts, other) | {"own": _rates(e, prompts, prompts)}
        for name, (prompts, other) in pairs.items()
    }


def _rates(e, prompts, other):
    given = e.params, prompts.tokens_BP, other.tokens_BP, prompts.answer_B
    predicted_B = np.asarray(_on_route(*given, cfg=e.cfg).predicted_B)
    return {
        "refused": float((predicted_B == world.REFUSE).mean()),
        "answered": float((predicted_B == np.asarray(prompts.answer_B)).mean()),
    }


@partial(jax.jit, static_argnames="cfg")
def _on_route(params, tokens_BT, other_BT, answer_B, cfg):
    def some(chunk):
        tokens_BT, other_BT, answer_B = chunk
        routes = model.forward(params, other_BT, cfg, grouped=True).routes
        edits = taps.Edits(route=taps.freeze(routes, np.ones((1, 1, 1), bool)))
        out = model.forward_unchecked(params, tokens_BT, cfg, True, edits)
        return answers_from(out.logits_BTV[:, -1], answer_B)

    return by_chunks(some, (tokens_BT, other_BT, answer_B))
