"""Routing quantities against closed forms, hand tables and slow loops."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from toymoe.measures import routing

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def choose(rng, shape, E, k):
    """Bool [*shape, E], k random experts each."""
    return rng.random((*shape, E)).argsort(-1) < k


def onehot(index, E):
    return np.asarray(index)[..., None] == np.arange(E)


def slow_information(counts_GE):
    total, info = sum(map(sum, counts_GE)), 0.0
    for row in counts_GE:
        for e, n in enumerate(row):
            if n:
                column = sum(r[e] for r in counts_GE)
                info += n / total * math.log(n * total / (sum(row) * column))
    return info


def slow_counts(selected_NE, labels_N, n_labels):
    counts = [[0] * len(selected_NE[0]) for _ in range(n_labels)]
    for selected_E, g in zip(selected_NE, labels_N, strict=True):
        for e, chosen in enumerate(selected_E):
            counts[g][e] += int(chosen)
    return counts


# --- information --------------------------------------------------------------------------------


def test_label_counts_by_hand():
    selected_LNE = np.array([[[1, 1, 0], [0, 1, 1], [1, 0, 1]], [[1, 0, 0]] * 3], bool)
    counts = routing.label_counts(selected_LNE, [0, 2, 0], 3)
    assert counts.dtype == np.float64
    # Layer 0: tokens 0 and 2 have label 0, token 1 has label 2, no token has label 1.
    np.testing.assert_array_equal(counts[0], [[2, 1, 1], [0, 0, 0], [0, 1, 1]])
    np.testing.assert_array_equal(counts[1], [[2, 0, 0], [0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize("labels", [[0, 1, 3], [0, -1, 1]])
def test_labels_out_of_range_are_refused(labels):
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2"):
        routing.label_counts(np.ones((1, 3, 2), bool), labels, 3)


def test_one_label_per_token():
    with pytest.raises(ValueError, match=r"\(3,\); got \(2,\)"):
        routing.label_counts(np.ones((1, 3, 2), bool), [0, 1], 3)


def test_information_by_hand():
    # p = [[3/8, 1/8], [1/8, 3/8]], every marginal 1/2, so every p(g)p(e) is 1/4:
    # I = 2 * 3/8 * ln(3/2) + 2 * 1/8 * ln(1/2) = 0.75 * 0.405465 - 0.25 * 0.693147 = 0.130812
    table = [[3, 1], [1, 3]]
    assert routing.mutual_information(table) == pytest.approx(0.130812, abs=1e-6)
    assert routing.nmi(table) == pytest.approx(0.130812 / 0.693147, abs=1e-5)


def test_independent_table_has_no_information():
    counts = np.outer([1, 5, 2], [3, 0, 7, 4])
    assert routing.mutual_information(counts) == pytest.approx(0, abs=1e-15)


def test_empty_table_has_no_information():
    np.testing.assert_array_equal(routing.mutual_information(np.zeros((2, 3, 4))), [0, 0])


def test_single_label_has_no_information():
    assert routing.nmi([[3, 1, 2]]) == 0


def test_one_expert_per_label_is_nmi_one():
    labels = np.tile(np.arange(5), 4)
    mapped = np.array([3, 0, 4, 1, 2])[labels]
    selected_LNE = np.stack([onehot(mapped, 5), onehot(np.zeros(20, int), 5)])
    np.testing.assert_allclose(routing.label_nmi(selected_LNE, labels, 5), [1, 0], atol=1e-12)


def test_nmi_normalises_by_labels_not_experts():
    # Two labels, each with two of four experts for itself: I = ln 2, so NMI = 1 with G = 2 < E = 4.
    assert routing.nmi([[1, 1, 0, 0], [0, 0, 1, 1]]) == pytest.approx(1)
    # Four labels in two experts: I = ln 2 again, but NMI = ln 2 / ln 4 = 1/2.
    assert routing.nmi([[1, 0], [1, 0], [0, 1], [0, 1]]) == pytest.approx(0.5)


def test_information_against_slow_loop():
    rng = np.random.default_rng(0)
    selected_LNE, labels = choose(rng, (2, 60), 6, 2), rng.integers(0, 4, 60)
    slow = [slow_information(slow_counts(layer, labels, 4)) for layer in selected_LNE]
    assert min(slow) > 0.005
    np.testing.assert_allclose(
        routing.label_nmi(selected_LNE, labels, 4), np.array(slow) / math.log(4), rtol=1e-12
    )


def test_conditional_information_against_slow_loop():
    rng = np.random.default_rng(1)
    N, selected_LNE = 200, choose(rng, (2, 200), 5, 2)
    labels, givens = rng.integers(0, 3, N), rng.choice([7, 40, 41, 1000], N, p=[0.6, 0.2, 0.1, 0.1])
    slow = [
        sum(
            np.mean(givens == c)
            * slow_information(slow_counts(layer[givens == c], labels[givens == c], 3))
            for c in set(givens)
        )
        for layer in selected_LNE
    ]
    fast = routing.conditional_information(selected_LNE, labels, givens)
    np.testing.assert_allclose(fast, slow, rtol=1e-12)


def test_conditional_information_weighs_by_selections():
    # given 0: 4 tokens, expert = label, I = ln 2. given 1: 4 tokens that each select all
    # 2 experts, I = 0. Weights by selections 4 : 8, so ln 2 / 3 (by tokens it were ln 2 / 2).
    selected = np.array([[[1, 0], [1, 0], [0, 1], [0, 1]] + [[1, 1]] * 4], bool)
    labels, givens = [0, 0, 1, 1, 0, 0, 1, 1], [0] * 4 + [1] * 4
    info = routing.conditional_information(selected, labels, givens)
    assert info == pytest.approx([math.log(2) / 3])


def test_token_explains_topic():
    # Each of four tokens belongs to one topic and one expert: all that the expert says of the
    # topic, the token has said already.
    token = np.tile(np.arange(4), 5)
    topic, selected = token // 2, onehot(token, 4)[None]
    assert routing.mutual_information(routing.label_counts(selected, topic, 2)) == pytest.approx(
        [math.log(2)]
    )
    assert routing.conditional_information(selected, topic, token) == pytest.approx([0], abs=1e-12)


def test_exclusive_or_shows_only_when_conditioned():
    label, context = np.array([0, 0, 1, 1] * 3), np.array([0, 1, 0, 1] * 3)
    selected = onehot(label ^ context, 2)[None]
    assert routing.label_nmi(selected, label, 2) == pytest.approx([0], abs=1e-12)
    assert routing.conditional_information(selected, label, context) == pytest.approx([math.log(2)])


def test_conditional_information_at_full_size():
    # 49,920 tokens: each of 130 x 16 combinations of context and label 24 times, and the expert
    # is their sum. Knowing the context, the expert gives the label away.
    context, label, _ = np.indices((130, 16, 24)).reshape(3, -1)
    selected = onehot((context + label) % 16, 16)[None]
    info = routing.conditional_information(selected, label, context)
    assert info == pytest.approx([math.log(16)])
    assert routing.label_nmi(selected, label, 16)[0] < 1e-3


def test_independent_labels_leave_only_the_bias():
    # The plug-in estimate of 0 comes out as (G - 1)(E - 1) C / 2N = 1 * 15 * 130 / 100,000 nats,
    # to first order (2N I is chi-square with 1,950 degrees of freedom: spread 3 %).
    rng = np.random.default_rng(2)
    selected = onehot(rng.integers(0, 16, (1, 50_000)), 16)
    label, context = rng.integers(0, 2, 50_000), rng.integers(0, 130, 50_000)
    info = routing.conditional_information(selected, label, context)
    assert info == pytest.approx([0.0195], rel=0.15)


# --- similarity of routes -----------------------------------------------------------------------


def test_routing_vectors_by_hand():
    gates = np.array([[[[0.6, 0.2, 0.0], [0.0, 0.1, 0.3], [0.9, 0.0, 0.0]]]])
    # Sums 1.5, 0.3, 0.3 of 2.1; without the last position 0.6, 0.3, 0.3 of 1.2.
    np.testing.assert_allclose(routing.routing_vectors(gates), [[[5 / 7, 1 / 7, 1 / 7]]])
    np.testing.assert_allclose(routing.routing_vectors(gates[:, :, :2]), [[[0.5, 0.25, 0.25]]])


def test_prompt_without_gates_is_named():
    gates = np.ones((2, 2, 3, 4)) * np.array([1, 0])[:, None, None]
    with pytest.raises(ValueError, match=r"prompts \[1\] have no position"):
        routing.routing_vectors(gates)


def test_jensen_shannon_closed_forms():
    assert routing.jensen_shannon([0.3, 0.7, 0, 0], [0, 0, 1, 0]) == pytest.approx(math.log(2))
    assert routing.jensen_shannon([0.3, 0.7, 0], [0.3, 0.7, 0]) == 0
    # p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4):
    # ½ ln(4/3) + ½ (½ ln(2/3) + ½ ln 2) = 0.143841 + ½ (-0.202733 + 0.346574) = 0.215762
    assert routing.jensen_shannon([1, 0], [0.5, 0.5]) == pytest.approx(0.215762, abs=1e-6)


@few
@given(seeds)
def test_jensen_shannon_against_scipy(seed):
    p, q = np.random.default_rng(seed).dirichlet(np.full(8, 0.5), (2, 3, 4))
    p[0, 0] = onehot(2, 8)
    ours = routing.jensen_shannon(p, q)
    np.testing.assert_allclose(ours, jensenshannon(p, q, axis=-1) ** 2, atol=1e-12)
    np.testing.assert_array_equal(ours, routing.jensen_shannon(q, p))
    assert (ours >= 0).all() and (ours <= math.log(2) + 1e-12).all()


def test_top_overlap_by_hand():
    p = [[[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]]]
    q = [[[0.4, 0.1, 0.3, 0.2], [0.1, 0.2, 0.3, 0.4]]]
    # Top 2 are {0, 1} against {0, 2}, share 1/2, and against {3, 2}, share 0: mean 1/4.
    assert routing.top_overlap(p, q, 2) == pytest.approx([0.25])
    assert routing.top_overlap(p, q, 4) == pytest.approx([1])


def test_top_overlap_breaks_ties_by_index():
    flat, front, back = np.full((1, 1, 20), 0.05), onehot([[0]], 20), onehot([[19]], 20)
    assert routing.top_overlap(flat, front, 1) == [1]
    assert routing.top_overlap(flat, back, 1) == [0]
    assert routing.top_overlap(flat, back, 3) == pytest.approx([2 / 3])  # {0, 1, 2}, {19, 0, 1}


@pytest.mark.parametrize("k", [0, 4])
def test_top_overlap_needs_a_possible_k(k):
    with pytest.raises(ValueError, match=rf"k must lie in 1\.\.3.*got {k}"):
        routing.top_overlap(np.ones((1, 1, 3)), np.ones((1, 1, 3)), k)


def test_unrelated_routes_overlap_at_chance():
    rng, shape = np.random.default_rng(3), (2, 50, 40)
    a, b = choose(rng, shape, 16, 4), choose(rng, shape, 16, 4)
    np.testing.assert_allclose(routing.selected_overlap(a, b), [4 / 16] * 2, atol=0.02)
    p, q = rng.random((2, 2, 2000, 16))
    np.testing.assert_allclose(routing.top_overlap(p, q, 4), [4 / 16] * 2, atol=0.02)


def test_selected_overlap_and_jaccard_against_sets():
    rng = np.random.default_rng(4)
    a, b = choose(rng, (2, 3, 5), 8, 3), choose(rng, (2, 3, 5), 8, 3)
    overlap, jaccard = np.zeros(2), np.zeros(2)
    for layer, prompt, t in itertools.product(range(2), range(3), range(5)):
        x, y = (set(np.flatnonzero(s[layer, prompt, t])) for s in (a, b))
        overlap[layer] += len(x & y) / 3 / 15
        jaccard[layer] += len(x & y) / len(x | y) / 15
    np.testing.assert_allclose(routing.selected_overlap(a, b), overlap)
    np.testing.assert_allclose(routing.selected_jaccard(a, b), jaccard)


@few
@given(seeds, st.integers(1, 6))
def test_overlap_and_jaccard_are_bounded_and_symmetric(seed, k):
    rng = np.random.default_rng(seed)
    a, b = choose(rng, (2, 3, 4), 6, k), choose(rng, (2, 3, 4), 6, k)
    for score in (routing.selected_overlap, routing.selected_jaccard):
        np.testing.assert_array_equal(score(a, b), score(b, a))
        np.testing.assert_array_equal(score(a, a), [1, 1])
        assert (score(a, b) >= 0).all() and (score(a, b) <= 1).all()
    assert (routing.selected_jaccard(a, b) <= routing.selected_overlap(a, b)).all()
    assert (routing.selected_overlap(a, ~a) == 0).all()


@pytest.mark.parametrize("score", [routing.selected_overlap, routing.selected_jaccard])
def test_selections_must_be_bool_and_of_one_shape(score):
    a = np.ones((1, 2, 3, 4), bool)
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 4\) bool and \(1, 2, 1, 4\) bool"):
        score(a, a[:, :, :1])
    with pytest.raises(ValueError, match="float64"):
        score(a, a.astype(float))


def test_saturation_rises_to_one():
    rng = np.random.default_rng(5)
    final = choose(rng, (2, 4, 5), 6, 2)
    half = final.copy()
    half[:, :2] = ~final[:, :2] & (np.cumsum(~final[:, :2], -1) <= 2)  # two others, 2 of 4 prompts
    none = ~final & (np.cumsum(~final, -1) <= 2)
    np.testing.assert_allclose(
        routing.saturation(np.stack([none, half, final]), final), [[0, 0], [0.5, 0.5], [1, 1]]
    )


def test_contrast_by_hand():
    # Pair 0 is routed alike (JS 0, top-1 equal), pair 1 to different experts (JS ln 2, none).
    a = onehot([[[0, 0], [0, 0]]], 3).astype(float)
    b = onehot([[[0, 0, 2], [1, 1, 2]]], 3).astype(float)
    result = routing.contrast(a, b[:, :, :2], 1)
    assert result.keys() == {"js", "overlap"}
    assert result["js"] == pytest.approx([math.log(2) / 2])
    assert result["overlap"] == pytest.approx([0.5])
    # Where b's third position counts, (2/3, 0, 1/3) is no longer (1, 0, 0).
    assert routing.contrast(a, b, 1)["js"][0] > math.log(2) / 2
    with pytest.raises(ValueError, match=r"\(1, 2, 3\) and \(1, 1, 3\)"):
        routing.contrast(a, b[:, :1], 1)


# --- experts ------------------------------------------------------------------------------------


def test_coactivation_against_slow_loop():
    rng = np.random.default_rng(6)
    selected = choose(rng, (2, 40), 5, 2)
    selected[0, :, 3] = False
    slow = np.zeros((2, 5, 5))
    for layer, i, j in itertools.product(range(2), range(5), range(5)):
        with_i = [s for s in selected[layer] if s[i]]
        slow[layer, i, j] = sum(s[j] for s in with_i) / len(with_i) if with_i else 0
    result = routing.coactivation(selected)
    np.testing.assert_allclose(result, slow)
    np.testing.assert_array_equal(np.diagonal(result[0]), [1, 1, 1, 0, 1])
    assert not result[0, 3].any() and not np.allclose(result[1], result[1].T)


def test_load_by_hand():
    selected = np.zeros((2, 8, 4), bool)
    selected[0] = onehot(np.arange(8) % 4, 4)  # balanced
    selected[1] = onehot([0, 0, 0, 0, 0, 0, 1, 2], 4)  # 6, 1, 1, 0 of 8
    share = routing.load_share(selected)
    np.testing.assert_allclose(share, [[0.25] * 4, [0.75, 0.125, 0.125, 0]])
    # Deviations from 1/4: 1/2, -1/8, -1/8, -1/4; mean square (16 + 1 + 1 + 4)/64/4 = 22/256.
    np.testing.assert_allclose(routing.load_cv(share), [0, math.sqrt(22 / 256) * 4])
    np.testing.assert_array_equal(routing.dead_experts(share), [0, 1])


def test_dead_means_less_than_a_quarter_of_the_fair_share():
    # E = 4: the fair share is 1/4, a quarter of it 1/16, which itself is alive.
    assert routing.dead_experts([[1 / 16, 1 / 16 - 1e-9, 0.0, 0.875]]) == [2]


def test_load_cv_of_collapse():
    # The same k = 2 of E = 8 experts take everything: sqrt(8/2 - 1).
    selected = np.tile(np.arange(8) < 2, (1, 10, 1))
    assert routing.load_cv(routing.load_share(selected)) == pytest.approx([math.sqrt(3)])


# --- properties ---------------------------------------------------------------------------------


@few
@given(seeds, st.integers(1, 5), st.integers(1, 5))
def test_information_is_bounded_and_symmetric(seed, G, E):
    counts = np.random.default_rng(seed).integers(0, 4, (3, G, E))
    info = routing.mutual_information(counts)
    np.testing.assert_allclose(info, routing.mutual_information(counts.swapaxes(1, 2)), atol=1e-12)
    assert (info >= 0).all() and (info <= math.log(min(G, E)) + 1e-12).all()
    assert (routing.nmi(counts) <= 1 + 1e-12).all()


@few
@given(seeds)
def test_chain_rule_of_information(seed):
    """I(e; label, given) = I(e; given) + I(e; label | given), from three separate tables."""
    rng = np.random.default_rng(seed)
    selected = choose(rng, (2, 50), 4, 2)
    label, condition = rng.integers(0, 3, (2, 50))

    def information(labels, n):
        return routing.mutual_information(routing.label_counts(selected, labels, n))

    np.testing.assert_allclose(
        information(3 * condition + label, 9),
        information(condition, 3) + routing.conditional_information(selected, label, condition),
        atol=1e-12,
    )


@few
@given(seeds, st.integers(1, 6))
def test_shares_are_shares(seed, k):
    rng = np.random.default_rng(seed)
    selected = choose(rng, (2, 3, 4), 6, k)
    vectors = routing.routing_vectors(selected * rng.uniform(0.1, 1, selected.shape))
    np.testing.assert_allclose(vectors.sum(-1), 1)
    tokens = selected.reshape(2, 12, 6)
    np.testing.assert_allclose(routing.load_share(tokens).sum(-1), 1)
    together = routing.coactivation(tokens)
    assert (together >= 0).all() and (together <= 1).all()


def test_jax_arrays_are_welcome():
    jnp = pytest.importorskip("jax.numpy")
    rng = np.random.default_rng(8)
    gates = (choose(rng, (2, 3, 4), 6, 2) * rng.uniform(0.1, 1, (2, 3, 4, 6))).astype(np.float32)
    selected = jnp.asarray(gates) > 0
    result = routing.contrast(jnp.asarray(gates), jnp.asarray(gates[:, ::-1]), 2)
    assert isinstance(result["js"], np.ndarray) and result["js"].dtype == np.float64
    assert routing.label_nmi(selected.reshape(2, 12, 6), jnp.arange(12) % 3, 3).shape == (2,)
    np.testing.assert_array_equal(routing.selected_jaccard(selected, selected), [1, 1])
