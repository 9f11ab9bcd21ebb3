"""One mixture-of-experts layer: router, experts by two paths, balance losses.

The layer of OLMoE (arXiv 2409.02060): a linear router, softmax over all experts and *then* top-k,
SwiGLU experts, y = sum of gate times expert output over the selected experts, no token dropped.

The *reference* path computes every expert on every token, so it can say what each would have
answered. The *grouped* path computes only what was selected, and is what training uses. Both take

    experts = {"gate_up": [E, D, 2F] (gate first), "down": [E, F, D]}

Besides the letters of the package docstring: J blocks of the grouped buffer, R rows of a block, M
rows of the buffer (J * R); C selections (N * A); U gate and up side by side (2F); X, Y any axis.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

BLOCK = 32  # rows per block: fewer waste less padding, more make faster matmuls


class Route(NamedTuple):
    """Where each token goes."""

    logits_NE: jax.Array  # router logits
    probs_NE: jax.Array  # softmax over all experts
    experts_NA: jax.Array  # int, the selected experts, best first
    gates_NA: jax.Array  # their weights


# --- router -------------------------------------------------------------------------------------


def route(x_ND, router_DE, top_k: int, normalise: bool = False) -> Route:
    """Route tokens by ``x @ router``. See ``route_from_logits``."""
    return route_from_logits(x_ND @ router_DE, top_k, normalise)


def route_from_logits(logits_NE, top_k: int, normalise: bool = False) -> Route:
    """Select each token's ``top_k`` experts; of equal logits, the expert of lower index.

    The gates are the softmax probabilities of the selected experts, so they sum to less than 1,
    unless ``normalise`` makes them sum to 1 (OLMoE does not: ``norm_topk_prob`` false).
    """
    return route_from_probs(logits_NE, jax.nn.softmax(logits_NE, -1), top_k, normalise)


def route_from_probs(logits_NE, probs_NE, top_k: int, normalise: bool = False) -> Route:
    """``route_from_logits``, given the probabilities too."""
    _, experts_NA = jax.lax.top_k(jax.lax.stop_gradient(probs_NE), top_k)
    return Route(logits_NE, probs_NE, experts_NA, gates_of(probs_NE, experts_NA, normalise))


def gates_of(probs_NE, experts_NA, normalise: bool = False):
    """The gates [N, A] of the selected experts; where all are 0, they stay 0."""
    # Without a gather, whose derivative is a scatter, which CPUs run one row at a time.
    hit_NAE = experts_NA[..., None] == jnp.arange(probs_NE.shape[-1])
    gates_NA = jnp.where(hit_NAE, probs_NE[:, None], 0).sum(-1)
    if not normalise:
        return gates_NA
    return gates_NA / jnp.maximum(gates_NA.sum(-1, keepdims=True), jnp.finfo(jnp.float32).tiny)


def selected(experts_NA, n_experts: int):
    """Bool [N, E]: the selected experts."""
    return (experts_NA[..., None] == jnp.arange(n_experts)).any(-2)


def dense_gates(experts_NA, gates_NA, n_experts: int):
    """Gates [N, E], 0 where an expert was not selected."""
    hit_NAE = experts_NA[..., None] == jnp.arange(n_experts)
    return jnp.where(hit_NAE, gates_NA[..., None], 0).sum(-2)


# --- experts, reference path --------------------------------------------------------------------


def expert_outputs(x_ND, experts):
    """What every expert says about every token, before its gate: [N, E, D]."""
    hidden_NEF = _swiglu(jnp.einsum("nd,edu->neu", x_ND, experts["gate_up"]))
    return jnp.einsum("nef,efd->ned", hidden_NEF, experts["down"])


def reference_moe(x_ND, experts, experts_NA, gates_NA):
    """The layer's output [N, D] by way of every expert's: E / A times the work, all visible."""
    gates_NE = dense_gates(experts_NA, gates_NA, experts["down"].shape[0])
    return jnp.einsum("ne,ned->nd", gates_NE, expert_outputs(x_ND, experts))


def _swiglu(gate_up):
    gate, up = jnp.split(gate_up, 2, -1)
    return jax.nn.silu(gate) * up


# --- experts, grouped path ----------------------------------------------------------------------


class _Layout(NamedTuple):
    """A buffer of rows in blocks of one expert each, and where its rows come from and go to."""

    token_M: jax.Array  # the token in each row; where the row is padding, any token
    choice_M: jax.Array  # which of the N * A selections it is; where padding, N * A
    row_NA: jax.Array  # the row of each selection
    expert_J: jax.Array  # the expert of each block


def _layout(experts_NA, n_experts: int, block: int) -> _Layout:
    """Counting sort of the selections by expert, each expert padded to whole blocks.

    An expert wastes less than one block, so ceil(N A / block) + E blocks always suffice: the
    shapes are static and nothing is ever dropped.
    """
    N, A = experts_NA.shape
    blocks = -(-N * A // block) + n_experts
    hit_CE = experts_NA.reshape(-1, 1) == jnp.arange(n_experts)
    upto_CE = jnp.cumsum(hit_CE, 0)
    size_E = -(-upto_CE[-1] // block)
    end_E = jnp.cumsum(size_E)
    first_E = (end_E - size_E) * block
    row_C = jnp.where(hit_CE, upto_CE - 1 + first_E, 0).sum(-1)
    choice_M = jnp.full(blocks * block, N * A).at[row_C].set(jnp.arange(N * A), unique_indices=True)
    expert_J = (jnp.arange(blocks)[:, None] >= end_E).sum(-1)
    return _Layout(
        jnp.minimum(choice_M // A, N - 1),
        choice_M,
        row_C.reshape(N, A),
        jnp.minimum(expert_J, n_experts - 1),
    )


def grouped_moe(x_ND, experts, experts_NA, gates_NA, block: int = BLOCK):
    """The layer's output [N, D], computing only the selected experts.

    The selections are sorted into blocks of one expert each, gathered, multiplied as one batched
    matmul with the blocks' weights, and gathered back (MegaBlocks' idea, arXiv 2211.15841, with
    padding instead of a sparse kernel). Equal to ``reference_moe``, gradients too; only backwards,
    though: its derivative is written by hand, and `jax.jvp` needs the reference path.
    """
    layout = _layout(experts_NA, experts["down"].shape[0], block)
    return _grouped(x_ND, experts["gate_up"], experts["down"], gates_NA, layout)


@jax.custom_vjp
def _grouped(x_ND, gate_up_EDU, down_EFD, gates_NA, layout):
    return _grouped_fwd(x_ND, gate_up_EDU, down_EFD, gates_NA, layout)[0]


def _grouped_fwd(x_ND, gate_up_EDU, down_EFD, gates_NA, layout):
    J = layout.expert_J.shape[0]
    x_JRD = x_ND[layout.token_M].reshape(J, -1, x_ND.shape[-1])
    gate_up_JRU = jnp.einsum("jrd,jdu->jru", x_JRD, gate_up_EDU[layout.expert_J])
    out_JRD = jnp.einsum("jrf,jfd->jrd", _swiglu(gate_up_JRU), down_EFD[layout.expert_J])
    out_NAD = out_JRD.reshape(-1, x_ND.shape[-1])[layout.row_NA]
    y_ND = (out_NAD * gates_NA[..., None]).sum(1)
    return y_ND, (x_JRD, gate_up_JRU, gate_up_EDU, down_EFD, gates_NA, layout)


def _grouped_bwd(saved, dy_ND):
    """By hand, because the derivative of a gather is a scatter, which CPUs run one row at a time;
    knowing both directions of the permutation, every step backwards is a gather too."""
    x_JRD, gate_up_JRU, gate_up_EDU, down_EFD, gates_NA, layout = saved
    J, R, D = x_JRD.shape
    dy_JRD = dy_ND[layout.token_M].reshape(J, R, D)
    gate_JR1 = jnp.append(gates_NA.ravel(), 0)[layout.choice_M].reshape(J, R, 1)  # padding: 0
    hidden_JRF, swiglu_vjp = jax.vjp(_swiglu, gate_up_JRU)
    # Before its gate, so that the gate's own gradient falls out: dy · (h W) = h · (dy Wᵀ).
    dhidden_JRF = jnp.einsum("jrd,jfd->jrf", dy_JRD, down_EFD[layout.expert_J])
    dgate_M = (hidden_JRF * dhidden_JRF).sum(-1).ravel()
    (dgate_up_JRU,) = swiglu_vjp(gate_JR1 * dhidden_JRF)
    dx_JRD = jnp.einsum("jru,jdu->jrd", dgate_up_JRU, gate_up_EDU[layout.expert_J])
    owner_EJ = (jnp.arange(down_EFD.shape[0])[:, None] == layout.expert_J).astype(x_JRD.dtype)

    def weight_gradient(x_JRX, dy_JRY):
        return jnp.einsum("ej,jxy->exy", owner_EJ, transposed(x_JRX) @ dy_JRY)

    return (
        dx_JRD.reshape(-1, D)[layout.row_NA].sum(1),
        weight_gradient(x_JRD, dgate_up_JRU),
        weight_gradient(gate_JR1 * hidden_JRF, dy_JRD),
        dgate_M[layout.row_NA],
        None,
    )


_grouped.defvjp(_grouped_fwd, _grouped_bwd)


def transposed(x):
    """The last two axes swapped, in memory too: XLA would fold the transpose into the batched
    matmul that uses it, whose CPU kernel then runs at a third of the speed."""
    return jax.lax.optimization_barrier(jnp.swapaxes(x, -1, -2))


# --- losses -------------------------------------------------------------------------------------


def load_balance_loss(probs_NE, experts_NA):
    """E · Σ_e f_e P_e, with f the share of selections and P the mean router probability; 1 when
    both are uniform. Source: Switch Transformer, arXiv 2101.03961, eq. 4–6 (for top-1)."""
    E = probs_NE.shape[-1]
    share_E = selected(experts_NA, E).mean(0) / experts_NA.shape[-1]
    return E * (share_E * probs_NE.mean(0)).sum()


def route_divergence(before_NE, now_NE):
    """Mean KL(p_before ‖ p_now) of router probabilities over all axes but the last, in nats."""
    return (before_NE * (jnp.log(before_NE + 1e-9) - jnp.log(now_NE + 1e-9))).sum(-1).mean()


def router_z_loss(logits_NE):
    """Mean of log²(Σ_e exp z_e): keeps router logits small. Source: ST-MoE, arXiv 2202.08906,
    eq. 5."""
    return (jax.nn.logsumexp(logits_NE, -1) ** 2).mean()
