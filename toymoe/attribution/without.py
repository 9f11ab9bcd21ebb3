"""What a model says with some experts set back, silenced or masked: any sets of them, one program.

    set_back   their weights as before alignment
    silenced   their output zero, the route as it was
    masked     their router logits so low that others are chosen in their stead

Besides the letters of the package docstring: M sets of experts.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .. import model, world
from ..model import taps
from .evidence import Answers, Evidence, answers_from

SIZE = 20  # sets at a time, so that one program serves all


def answers(e: Evidence, prompts: world.Prompts, out_MLE, way: str) -> Answers:
    """What the model says to some prompts without the experts of each mask, [M, B].

    Raises:
      EvidenceError: ``way`` is "set_back", and there is no pretrained checkpoint.
    """
    mine = e.params["layers"]["experts"]
    other = mine
    if way == "set_back":
        other = e.before["layers"]["experts"]
    if way == "silenced":
        other = jax.tree.map(np.zeros_like, mine)
    said = [
        _sweep(
            e.params, other, some, way == "masked", prompts.tokens_BP, prompts.answer_B, cfg=e.cfg
        )
        for some in np.resize(out_MLE, (-(-len(out_MLE) // SIZE), SIZE, *out_MLE.shape[1:]))
    ]
    return jax.tree.map(lambda *x: np.concatenate(x)[: len(out_MLE)], *said)


@partial(jax.jit, static_argnames="cfg")
def _sweep(params, other, out_MLE, masked, tokens_BT, answer_B, cfg):
    """``other`` is what stands in for the experts' weights, and ``masked`` closes them instead."""

    def without(out_LE):
        changed = exchanged(params, other, out_LE & ~masked)
        closed_L11E = (out_LE & masked)[:, None, None]
        edits = taps.Edits(router_logits=taps.replace(closed_L11E, taps.CLOSED))
        out = model.forward_unchecked(changed, tokens_BT, cfg, True, edits)
        return answers_from(out.logits_BTV[:, -1], answer_B)

    return jax.lax.map(without, out_MLE)


def exchanged(params: model.Params, others, out_LE) -> model.Params:
    """The parameters with the experts of a mask taken from others, like ``layers/experts``."""
    layers = params["layers"]
    experts = jax.tree.map(partial(jnp.where, out_LE[:, :, None, None]), others, layers["experts"])
    return params | {"layers": layers | {"experts": experts}}
