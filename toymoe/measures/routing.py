"""What the routes say: every routing quantity of the project, each defined once.

Pure functions of arrays; anything ``np.asarray`` takes will do, jax arrays included. Besides the
letters of the package docstring: X any row axis, G label values, C values of a conditioning
variable. In ``saturation``, S is the training step.

``gates`` are the selected gates, 0 outside the top-k, and ``selected = gates > 0``. Information and
divergence are in nats; everything else is a share unless it says otherwise.
"""

import numpy as np
from scipy.sparse import csr_array
from scipy.special import rel_entr


def _normalise(weights, axis):
    """Divide by the sum over ``axis``; where that sum is 0, leave zeros."""
    total = weights.sum(axis, keepdims=True)
    return weights / np.where(total == 0, 1, total)


# --- what an expert knows about a label ---------------------------------------------------------


def label_counts(selected_LNE, labels_N, n_labels):
    """How often tokens with each label selected each expert.

    Args:
        selected_LNE: bool, the experts each token selected.
        labels_N: int in ``0..n_labels - 1``, one label (topic, token, intent) per token.
        n_labels: the number of labels, G.

    Returns:
        counts_LGE, float64. A token that selects k experts counts k times.

    Raises:
        ValueError: a label out of range, or not one label per token.
    """
    selected_LNE, labels_N = np.asarray(selected_LNE, bool), np.asarray(labels_N)
    L, N, E = selected_LNE.shape
    if labels_N.shape != (N,):
        raise ValueError(f"expected one label per token, shape ({N},); got {labels_N.shape}")
    if N and not (0 <= labels_N.min() and labels_N.max() < n_labels):
        raise ValueError(
            f"labels must lie in 0..{n_labels - 1}; got {labels_N.min()}..{labels_N.max()}"
            " (drop the tokens that have no label)"
        )
    # Sparse, because conditioning on the token makes for thousands of labels.
    onehot_GN = csr_array((np.ones(N), (labels_N, np.arange(N))), shape=(n_labels, N))
    counts_GX = onehot_GN @ selected_LNE.swapaxes(0, 1).reshape(N, L * E).astype(float)
    return counts_GX.reshape(n_labels, L, E).swapaxes(0, 1)


def mutual_information(counts_XGE):
    """I = Σ p(g,e) log[p(g,e) / (p(g) p(e))] of count tables [..., G, E], in nats: [...].

    The plug-in estimate: with few counts it is biased upwards, so hold it against shuffled labels.
    A table without counts gives 0. Source: Cover & Thomas, eq. 2.28.
    """
    p_XGE = _normalise(np.asarray(counts_XGE, float), (-2, -1))
    independent_XGE = p_XGE.sum(-1, keepdims=True) * p_XGE.sum(-2, keepdims=True)
    return np.maximum(rel_entr(p_XGE, independent_XGE).sum((-2, -1)), 0)  # rounding, not negative


def nmi(counts_LGE):
    """I(expert; label) / log(G), a share from 0 to 1: [...] for counts [..., G, E].

    1 needs G equally frequent labels, none of which shares an expert with another (so E >= G).
    A single label carries no information: 0. Not symmetric in the two, unlike
    the usual NMI: the label is what one asks about.
    """
    return mutual_information(counts_LGE) / np.log(max(np.shape(counts_LGE)[-2], 2))


def label_nmi(selected_LNE, labels_N, n_labels):
    """``nmi`` of the experts and the labels of the same tokens: [L]. See ``label_counts``."""
    return nmi(label_counts(selected_LNE, labels_N, n_labels))


def conditional_information(selected_LNE, labels_N, given_N):
    """I(expert; label | given) = Σ_c p(c) I(expert; label | given = c), in nats: [L].

    p(c) is the share of selections made by tokens with ``given == c``. Does the router read the
    token or its context? I(expert; topic | token) is what the token alone cannot explain.

    Args:
        selected_LNE: bool, the experts each token selected.
        labels_N: one label per token, any integers.
        given_N: the value conditioned on, one per token, any integers.

    Source: Cover & Thomas, eq. 2.60; control: shuffle the labels within each given value.
    """
    labels, label_N = np.unique(np.asarray(labels_N), return_inverse=True)
    given, c_N = np.unique(np.asarray(given_N), return_inverse=True)
    C, G = len(given), len(labels)
    counts_LXE = label_counts(selected_LNE, c_N * G + label_N, C * G)
    counts_LCGE = counts_LXE.reshape(len(counts_LXE), C, G, -1)
    share_LC = _normalise(counts_LCGE.sum((-2, -1)), -1)
    return (share_LC * mutual_information(counts_LCGE)).sum(-1)


# --- how alike two prompts are routed -----------------------------------------------------------


def routing_vectors(gates_LBTE):
    """Each prompt's mean selected-gate vector, normalised to sum 1: [L, B, E].

    Args:
        gates_LBTE: selected gates, 0 outside the top-k.

    Raises:
        ValueError: a prompt without a single gate to average, as its vector would be 0 / 0.
    """
    total_LBE = np.asarray(gates_LBTE, float).sum(2)
    empty_B = ~(total_LBE.sum(-1) > 0).all(0)
    if empty_B.any():
        raise ValueError(
            f"prompts {np.flatnonzero(empty_B).tolist()} have no position with a positive gate;"
            " leave them out"
        )
    return _normalise(total_LBE, -1)


def jensen_shannon(p, q):
    """Jensen-Shannon divergence ½ KL(p‖m) + ½ KL(q‖m), m = ½(p + q), in nats: [...].

    ``p`` and ``q`` are distributions over the last axis and sum to 1; other axes broadcast.
    0 for equal, ln 2 for disjoint ones. Source: Lin 1991, eq. 4.1 with equal weights.
    """
    p, q = np.asarray(p, float), np.asarray(q, float)
    mean = (p + q) / 2
    return np.maximum((rel_entr(p, mean) + rel_entr(q, mean)).sum(-1) / 2, 0)


def _top(p_LBE, k):
    """Bool, the k largest entries of the last axis; of equal ones, those of lower index."""
    p_LBE = np.asarray(p_LBE, float)
    if not 1 <= k <= p_LBE.shape[-1]:
        raise ValueError(f"k must lie in 1..{p_LBE.shape[-1]}, the number of experts; got {k}")
    top_LBE = np.zeros(p_LBE.shape, bool)
    np.put_along_axis(top_LBE, np.argsort(-p_LBE, -1, kind="stable")[..., :k], True, -1)
    return top_LBE


def top_overlap(p_LBE, q_LBE, k):
    """Share of the k largest entries two routing vectors have in common, over prompts: [L].

    Chance level (two independent uniform choices): k / E. Ties go to the lower index, so vectors
    with fewer than k positive entries agree on their zeros more often than chance.
    """
    return (_top(p_LBE, k) & _top(q_LBE, k)).sum(-1).mean(-1) / k


def _token_mean_of_ratio(part_LBT, whole_LBT):
    """Mean over tokens of part / whole; a token with an empty whole counts as 0."""
    return (part_LBT / np.maximum(whole_LBT, 1)).mean((-2, -1))


def _selections(a_LBTE, b_LBTE):
    a_LBTE, b_LBTE = np.asarray(a_LBTE), np.asarray(b_LBTE)
    if a_LBTE.shape != b_LBTE.shape or not a_LBTE.dtype == b_LBTE.dtype == bool:
        raise ValueError(
            "expected two bool arrays of equal shape [L, B, T, E]; got "
            f"{a_LBTE.shape} {a_LBTE.dtype} and {b_LBTE.shape} {b_LBTE.dtype}"
        )
    return a_LBTE, b_LBTE


def selected_overlap(a_LBTE, b_LBTE):
    """Token by token, shared selected experts / k, averaged over tokens: [L]. Chance: k / E.

    k is read off the tokens; should two differ in it, their mean is taken (Dice's coefficient).
    Raises ValueError unless both are bool arrays of the same shape.
    """
    a, b = _selections(a_LBTE, b_LBTE)
    return _token_mean_of_ratio(2 * (a & b).sum(-1), a.sum(-1) + b.sum(-1))


def selected_jaccard(a_LBTE, b_LBTE):
    """Token by token |a ∩ b| / |a ∪ b| of the selected experts, averaged over tokens: [L].

    Raises ValueError unless both are bool arrays of the same shape. Source: Jaccard 1912.
    """
    a, b = _selections(a_LBTE, b_LBTE)
    return _token_mean_of_ratio((a & b).sum(-1), (a | b).sum(-1))


def saturation(selected_SLBTE, final_LBTE):
    """Router saturation: each step's ``selected_overlap`` with the final routes: [S, L].

    The same fixed prompts throughout; chance level k / E. Source: OLMoE, arXiv 2409.02060,
    "Router Saturation".
    """
    return np.stack([selected_overlap(step, final_LBTE) for step in np.asarray(selected_SLBTE)])


def contrast(gates_a_LBTE, gates_b_LBTE, k):
    """Compare the routes of paired prompts: prompt b of one set with prompt b of the other.

    Args:
        gates_a_LBTE, gates_b_LBTE: selected gates; T may differ between the two.
        k: how many of the largest entries of each routing vector to compare.

    Returns:
        dict of ``js`` [L], mean Jensen-Shannon divergence in nats, and ``overlap`` [L], the share
        of ``top_overlap`` (chance level k / E).
    """
    p_LBE, q_LBE = routing_vectors(gates_a_LBTE), routing_vectors(gates_b_LBTE)
    if p_LBE.shape != q_LBE.shape:
        raise ValueError(f"pairs need equal [L, B, E]; got {p_LBE.shape} and {q_LBE.shape}")
    return dict(js=jensen_shannon(p_LBE, q_LBE).mean(-1), overlap=top_overlap(p_LBE, q_LBE, k))


# --- the experts among themselves ---------------------------------------------------------------


def coactivation(selected_LNE):
    """P(j selected | i selected), row i, column j: [L, E, E].

    The diagonal is 1; the row of an expert that is never selected is 0. Chance level off the
    diagonal: (k - 1) / (E - 1). Source: OLMoE, arXiv 2409.02060, "Expert Co-activation".
    """
    selected_LNE = np.asarray(selected_LNE, bool).astype(float)
    both_LEE = selected_LNE.swapaxes(-2, -1) @ selected_LNE
    count_LE = np.diagonal(both_LEE, axis1=-2, axis2=-1)
    return both_LEE / np.maximum(count_LE, 1)[..., None]


def load_share(selected_LNE):
    """Each expert's share of its layer's selections: [L, E], summing to 1; the fair one is 1/E."""
    return _normalise(np.asarray(selected_LNE, bool).sum(-2).astype(float), -1)


def load_cv(share_LE):
    """Coefficient of variation of the load, std / mean over experts: [L].

    0 when balanced; sqrt(E/k - 1) when the same k experts take everything. Source: Shazeer et al.,
    arXiv 1701.06538, section 4 (which squares it).
    """
    share_LE = np.asarray(share_LE, float)
    return share_LE.std(-1) / share_LE.mean(-1)


def dead_experts(share_LE):
    """Number of experts with less than a quarter of the fair share 1/E: int [L]."""
    share_LE = np.asarray(share_LE, float)
    return (share_LE < 0.25 / share_LE.shape[-1]).sum(-1)
