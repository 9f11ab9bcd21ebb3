"""One mixture-of-experts layer: router, experts by two paths, balance losses.

The layer of OLMoE (arXiv 2409.02060): a linear router, softmax over all experts and *then* top-k,
SwiGLU experts, y = sum of gate times expert output over the selected experts, no token dropped.

The *reference* path computes every expert on every token, so it can say what each would have
answered. The *grouped* path computes only what was selected, and is what training uses. Both take

    experts = {"gate_up": [E, D, 2F] (gate first), "down": [E, F, D]}

Besides the letters of the package docstring: C selections (N * A), R rows of a block, M rows of the
grouped buffer (C + R); U gate and up side by side (2F); X, Y any axis.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

BLOCK = 48  # rows per block: fewer waste less at an expert's end, more make faster matmuls


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
    return jnp.where(experts_NA[..., None] == jnp.arange(n_experts), gates_NA[..., None], 0).sum(-2)


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
    """The selections as rows, sorted by expert, and a block of rows more, which say nothing."""

    choice_M: jax.Array  # which of the N * A selections each row is
    row_NA: jax.Array  # the row of each selection
    end_E: jax.Array  # the row after the last of each expert


def _layout(experts_NA, n_experts: int, block: int) -> _Layout:
    all_C = jnp.arange(experts_NA.size)
    choice_C = jnp.sort(experts_NA.ravel() * all_C.size + all_C) % all_C.size
    row_C = jnp.zeros_like(all_C).at[choice_C].set(all_C, unique_indices=True)
    end_E = (experts_NA.reshape(-1, 1) <= jnp.arange(n_experts)).sum(0)
    return _Layout(jnp.pad(choice_C, (0, block)), row_C.reshape(experts_NA.shape), end_E)


def grouped_moe(x_ND, experts, experts_NA, gates_NA, block: int = BLOCK):
    """The layer's output [N, D], computing only the selected experts.

    In blocks of rows, sorted by expert (MegaBlocks' idea, arXiv 2211.15841). Equal to
    ``reference_moe``, gradients too, but only backwards: `jax.jvp` needs the reference path.
    """
    layout = _layout(experts_NA, experts["down"].shape[0], block)
    return _grouped(x_ND, experts["gate_up"], experts["down"], gates_NA, layout)


def _forward(x_ND, gate_up_EDU, down_EFD, gates_NA, layout):
    x_MD = x_ND[layout.choice_M // gates_NA.shape[1]]
    gate_up_MU = _products(x_MD, gate_up_EDU, layout)
    out_MD = _products(_swiglu(gate_up_MU), down_EFD, layout)
    y_ND = (out_MD[layout.row_NA] * gates_NA[..., None]).sum(1)
    return y_ND, (x_MD, gate_up_MU, gate_up_EDU, down_EFD, gates_NA, layout)


def _backward(saved, dy_ND):
    """By hand, because the derivative of a gather is a scatter, which CPUs run one row at a time;
    knowing both directions of the permutation, every step backwards is a gather too."""
    x_MD, gate_up_MU, gate_up_EDU, down_EFD, gates_NA, layout = saved
    dy_MD = dy_ND[layout.choice_M // gates_NA.shape[1]]
    gate_M1 = gates_NA.reshape(-1, 1)[layout.choice_M]
    hidden_MF, swiglu_vjp = jax.vjp(_swiglu, gate_up_MU)
    # Before its gate, so that the gate's own gradient falls out: dy · (h W) = h · (dy Wᵀ).
    dhidden_MF, ddown_EFD = _products_vjp(gate_M1 * hidden_MF, dy_MD, down_EFD, layout)
    dgate_M = (hidden_MF * dhidden_MF).sum(-1)
    (dgate_up_MU,) = swiglu_vjp(gate_M1 * dhidden_MF)
    dx_MD, dgate_up_EDU = _products_vjp(x_MD, dgate_up_MU, gate_up_EDU, layout)
    return dx_MD[layout.row_NA].sum(1), dgate_up_EDU, ddown_EFD, dgate_M[layout.row_NA], None


_grouped = jax.custom_vjp(lambda *args: _forward(*args)[0])
_grouped.defvjp(_forward, _backward)


@jax.custom_batching.sequential_vmap
def _products(x_MX, weights_EXY, layout):
    """Each row times the weights of its expert, [M, Y]."""

    def block(expert, row, own_R, y_MY, x_RX):
        return jax.lax.dynamic_update_slice_in_dim(y_MY, x_RX @ weights_EXY[expert], row, 0)

    return _by_blocks(block, layout, jnp.zeros((len(x_MX), weights_EXY.shape[-1])), x_MX)


@jax.custom_batching.sequential_vmap
def _products_vjp(x_MX, dy_MY, weights_EXY, layout):
    """The gradients of the rows [M, X] and of the weights [E, X, Y]."""

    def block(expert, row, own_R, made, x_RX, dy_RY):
        dx_MX, d_EXY = made
        dx_MX = jax.lax.dynamic_update_slice_in_dim(dx_MX, dy_RY @ weights_EXY[expert].T, row, 0)
        d_XY = d_EXY[expert] + transposed(x_RX) @ jnp.where(own_R[:, None], dy_RY, 0)
        return dx_MX, jax.lax.dynamic_update_index_in_dim(d_EXY, d_XY, expert, 0)

    made = jnp.zeros_like(x_MX), jnp.zeros_like(weights_EXY)
    return _by_blocks(block, layout, made, x_MX, dy_MY)


def _by_blocks(block, layout, made, *arrays):
    """``made`` after ``block`` of one block of rows after another. Where an expert has fewer left,
    what is made of the next expert's rows is written over by the blocks that come later."""
    R = layout.choice_M.size - layout.row_NA.size

    def one(state):
        row, made = state
        expert = (layout.end_E <= row).sum()
        end = jnp.minimum(row + R, layout.end_E[expert])
        parts = (jax.lax.dynamic_slice_in_dim(array, row, R) for array in arrays)
        return end, block(expert, row, row + jnp.arange(R) < end, made, *parts)

    return jax.lax.while_loop(lambda state: state[0] < layout.row_NA.size, one, (0, made))[1]


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
    """Mean of log²(Σ_e exp z_e): keeps router logits small. ST-MoE, arXiv 2202.08906, eq. 5."""
    return (jax.nn.logsumexp(logits_NE, -1) ** 2).mean()
