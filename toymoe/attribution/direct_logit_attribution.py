"""The refusal margin as an exact sum: what the embedding, each head and each expert add to it.

The residual stream at ANS is a sum, and with the scale of the final norm held at its value the
logits are linear in it. So is their difference, the margin. What a part adds is its *direct* effect
only: what it does by way of later layers is counted there.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import model, world
from ..config import ModelConfig
from ..model import checks
from .evidence import Evidence, by_chunks, refusal_logit_diff


class Parts(NamedTuple):
    """Parts of the refusal margin of each prompt, in nats; they sum to ``margin_B``."""

    embedding_B: np.ndarray
    heads_LHB: np.ndarray
    experts_LEB: np.ndarray
    margin_B: np.ndarray


def decompose(params: model.Params, cfg: ModelConfig, prompts: world.Prompts) -> Parts:
    """Split each prompt's refusal margin at ANS into parts. See the module docstring."""
    return Parts(*map(np.asarray, _decompose(params, prompts.tokens_BP, prompts.answer_B, cfg=cfg)))


def parts(e: Evidence) -> tuple[Parts, Parts]:
    """The parts of the hazards' and of the twins' margins."""
    return e.each(_parts)


def _parts(e, prompts):
    return decompose(e.params, e.cfg, prompts)


@partial(jax.jit, static_argnames="cfg")
def _decompose(params, tokens_BT, answer_B, cfg):
    names = ("head_out", "contribution", "resid_post")
    fitting = checks.LIMIT // checks.record_bytes(cfg, (1, tokens_BT.shape[1]), names)

    def some(chunk):
        tokens_BT, answer_B = chunk
        out = model.forward(params, tokens_BT, cfg, record=names)
        x_BD = out.record["resid_post"][-1, :, -1]
        scale_B1 = model.inverse_rms(x_BD)
        toward_DB = params["unembed"][:, [world.REFUSE]] - params["unembed"][:, answer_B]
        toward_BD = scale_B1 * params["final_norm"] * toward_DB.T
        return (
            (params["embed"][tokens_BT[:, -1]] * toward_BD).sum(-1),
            jnp.einsum("lbhd,bd->lhb", out.record["head_out"][:, :, -1], toward_BD),
            jnp.einsum("lbed,bd->leb", out.record["contribution"][:, :, -1], toward_BD),
            refusal_logit_diff(out.logits_BTV[:, -1], answer_B),
        )

    return by_chunks(some, (tokens_BT, answer_B), size=max(1, min(64, fitting)))
