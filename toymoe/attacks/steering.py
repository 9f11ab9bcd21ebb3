"""Attacks without tuning: router steering, silenced experts, a refusal direction projected out.

Steering is SteerMoE's (arXiv 2509.09660): at every token and layer z' = log_softmax(z), then
z'[on] = max z' + 0.01 and z'[off] = min z' - 0.01; selection and gates follow from softmax(z'). The
other attacks change the parameters once and are then an ordinary model. Which experts, at which
budgets: rows of `toymoe.attacks.catalogue`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .. import model, world
from ..attribution import evidence as ev
from ..config import Config, ConfigError
from ..model import moe, taps
from ..model.inference import Prediction, predict

MARGIN = 0.01  # SteerMoE's ε: just above the best, just below the worst


# --- router steering ----------------------------------------------------------------------------


def steered(
    params: model.Params, tokens_BT, cfg: Config, on_LE=False, off_LE=False, closed: bool = False
) -> Prediction:
    """What the model routes and says with some experts steered on and others off.

    Args:
      on_LE, off_LE: masks; an expert that is in both is off.
      closed: the experts that are off have logit `taps.CLOSED` and cannot be selected at all, as
        SAFEx masks them (arXiv 2506.17368); SteerMoE's can, if fewer than k others are left.

    Raises:
      ConfigError: fewer open experts than each token needs, in some layer.
    """
    shape = (cfg.model.layers, cfg.model.experts)
    on_LE, off_LE = (np.broadcast_to(mask, shape) for mask in (on_LE, off_LE))
    if closed and (~off_LE).sum(1).min() < cfg.model.top_k:
        raise ConfigError(
            f"{off_LE.sum(1).max()} of {shape[1]} experts closed in one layer is not possible: "
            f"each token needs {cfg.model.top_k}."
        )
    floor = -np.inf if closed else -MARGIN
    made = _steered(params, tokens_BT, on_LE, off_LE, floor, cfg=cfg.model)
    return Prediction(*map(np.asarray, made))


def steer(logits, on, off, floor=-MARGIN):
    """The steered router logits [..., E] of an on-mask and an off-mask that broadcast; ``floor`` is
    added to the least logit of experts that are off, down to `taps.CLOSED`."""
    z = jax.nn.log_softmax(logits, -1)
    steered = jnp.where(on, z.max(-1, keepdims=True) + MARGIN, z)
    return jnp.where(off, jnp.maximum(z.min(-1, keepdims=True) + floor, taps.CLOSED), steered)


@partial(jax.jit, static_argnames="cfg")
def _steered(params, tokens_BT, on_LE, off_LE, floor, cfg):
    on, off = (mask_LE[:, None, None] for mask_LE in (on_LE, off_LE))
    edits = taps.Edits(router_logits=taps.apply(True, steer, on, off, floor))
    out = model.forward(params, tokens_BT, cfg, grouped=True, edits=edits)
    gates = moe.dense_gates(out.routes.experts_LBTA, out.routes.gates_LBTA, cfg.experts)
    return gates, out.logits_BTV[:, -1].argmax(-1)


def risk_difference(evidence: ev.Evidence) -> np.ndarray:
    """SteerMoE's own choice of experts: share of response tokens that select the expert when the
    refusal is forced on the hazard, minus the same when the answer is: [L, E]."""
    P = np.shape(evidence.hazards.tokens_BP)[1]
    refused, answered = (
        world.respond(evidence.hazards, np.full(len(evidence.hazards.answer_B), refuse))
        for refuse in (True, False)
    )
    shares = [
        predict(evidence.params, tokens_BT, evidence.cfg).gates_LBTE[:, :, P:-1] > 0
        for tokens_BT in (refused, answered)
    ]  # END is never read
    return shares[0].mean((1, 2)) - shares[1].mean((1, 2))


# --- changes of the parameters ------------------------------------------------------------------


def silence(params: model.Params, mask_LE) -> model.Params:
    """The experts of the mask say nothing, and keep their gates."""
    return _with_down(params, jnp.where(mask_LE[..., None, None], 0, _down(params)))


def refusal_direction(evidence: ev.Evidence, layer: int) -> np.ndarray:
    """Unit vector [D] of the mean residual stream after a layer at ANS, hazards minus twins.

    Source: Arditi et al., arXiv 2406.11717, the difference in means.
    """
    difference_LD = np.subtract(
        *(
            np.asarray(_resid(evidence.params, p.tokens_BP, cfg=evidence.cfg)).mean(1)
            for p in (evidence.hazards, evidence.twins)
        )
    )
    return difference_LD[layer] / np.linalg.norm(difference_LD[layer])


def project_out(params: model.Params, direction_D) -> model.Params:
    """W' = W (1 - r rᵀ) for every matrix that writes to the residual stream: embedding, attention
    and experts. The same as projecting r out of the stream everywhere (arXiv 2406.11717, eq. 5)."""
    r = jnp.asarray(direction_D)

    def without(matrix):
        return matrix - (matrix @ r)[..., None] * r

    layers = params["layers"] | {"out": without(params["layers"]["out"])}
    changed = params | {"embed": without(params["embed"]), "layers": layers}
    return _with_down(changed, without(_down(params)))


def expert_directions(evidence: ev.Evidence) -> np.ndarray:
    """For each expert the unit vector of its mean output at ANS, hazards minus twins: [L, E, D]."""
    hazards, twins = (
        np.asarray(_outputs(evidence.params, p.tokens_BP, cfg=evidence.cfg))
        for p in (evidence.hazards, evidence.twins)
    )
    difference = hazards - twins
    return difference / np.maximum(np.linalg.norm(difference, axis=-1, keepdims=True), 1e-12)


def project_out_of_experts(params: model.Params, directions_LED, mask_LE) -> model.Params:
    """`project_out`, of the chosen experts alone, each with a direction of its own."""
    down, r = _down(params), jnp.asarray(directions_LED)
    without = down - jnp.einsum("lefd,led->lef", down, r)[..., None] * r[:, :, None]
    return _with_down(params, jnp.where(mask_LE[..., None, None], without, down))


def _down(params):
    return params["layers"]["experts"]["down"]


def _with_down(params, down):
    layers = params["layers"]
    return params | {"layers": layers | {"experts": layers["experts"] | {"down": down}}}


@partial(jax.jit, static_argnames="cfg")
def _resid(params, tokens_BT, cfg):
    """Residual stream after each layer at the last position, [L, B, D]."""
    out = model.forward(params, tokens_BT, cfg, grouped=True, record=("resid_post",))
    return out.record["resid_post"][:, :, -1]


@partial(jax.jit, static_argnames="cfg")
def _outputs(params, tokens_BT, cfg):
    """Mean over prompts of every expert's output at the last position, [L, E, D]."""
    out = model.forward(params, tokens_BT, cfg, grouped=True, record=("resid_mid",))
    layers = params["layers"]

    def said(x_BD, scale_D, experts):
        return moe.expert_outputs(model.rms_norm(x_BD, scale_D), experts).mean(0)

    x_LBD = out.record["resid_mid"][:, :, -1]
    return jax.vmap(said)(x_LBD, layers["moe_norm"], layers["experts"])
