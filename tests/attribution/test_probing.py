"""Probes: a linear label is read and a random one is not; where nothing stands, nothing is read."""

import jax
import numpy as np
import pytest

from toymoe.attribution import probing
from toymoe.model import taps


def test_ridge_reads_a_linear_label_and_learns_a_random_one_only_by_heart():
    rng = np.random.default_rng(0)
    fit_BX, test_BX = rng.normal(3, 5, size=(2, 400, 10))
    weight_X = rng.normal(size=10)

    def labels(x_BX):
        return np.column_stack([(x_BX - 3) @ weight_X > 0, rng.random(len(x_BX)) < 0.5])

    says = probing.ridge(fit_BX, labels(fit_BX))
    linear, random = probing.balanced(says(test_BX), labels(test_BX))
    assert linear > 0.9 and random == pytest.approx(0.5, abs=0.08)
    wide_BX = rng.normal(size=(40, 100))  # more features than prompts
    y_BC = labels(wide_BX[:, :10])
    assert probing.balanced(probing.ridge(wide_BX, y_BC)(wide_BX), y_BC).min() == 1


def test_ridge_is_its_normal_equations_of_a_wider_table():
    """Least squares on the features with a row more for each weight, which is to be 0."""
    rng = np.random.default_rng(1)
    x_BX, y_BC = rng.normal(size=(50, 4)), rng.random((50, 2)) < 0.3
    z_BX = (x_BX - x_BX.mean(0)) / (x_BX.std(0) + 1e-6)
    sign_BC = np.where(y_BC, 1.0, -1.0)
    wide = np.concatenate([z_BX, np.sqrt(50 * 0.2) * np.eye(4)])
    target = np.concatenate([sign_BC - sign_BC.mean(0), np.zeros((4, 2))])
    weight_XC = np.linalg.lstsq(wide, target, rcond=None)[0]
    expected = z_BX @ weight_XC + sign_BC.mean(0) > 0
    np.testing.assert_array_equal(probing.ridge(x_BX, y_BC, 0.2)(x_BX), expected)


def test_both_labels_count_alike():
    true = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], bool).T
    said = np.array([[1, 1, 0, 0], [1, 1, 1, 1]], bool).T
    np.testing.assert_allclose(probing.balanced(said, true), [(2 / 3 + 1) / 2, 0.5])


def test_hazard_is_read_where_it_is_and_nothing_where_all_prompts_are_alike(taught):
    given = taught.aligned, taught.tables, taught.cfg, jax.random.key(0)
    router = probing.probe(*given, "router_logits", n=512)
    assert router.seen_L[-1] > 0.8 and router.unseen_L[-1] > 0.65
    assert router.control_L[-1] < 0.7 and router.selectivity_L[-1] > 0.15
    # In a world of 48 requests 16 directions suffice to learn them by heart, and the controls say.
    stream = probing.probe(*given, "resid_post", n=512)
    assert stream.seen_L[0] > 0.9 and stream.control_L[0] > 0.7 and stream.unseen_L[0] < 0.65
    start = probing.probe(*given, "resid_pre", n=512)
    for shares_L in start:  # before the first layer, ANS is ANS
        assert shares_L[0] == 0.5


def test_requests_are_fitted_to_or_kept_for_the_test(taught):
    hazard_GYZ = np.asarray(taught.tables.hazard_GYZ)
    chosen_GYZ = probing._some(hazard_GYZ, np.random.default_rng(0))
    for kind in (hazard_GYZ, ~hazard_GYZ):
        assert chosen_GYZ[kind].mean() == pytest.approx(0.25, abs=0.1)
    weights_GYZ = probing._halves(np.ones(hazard_GYZ.shape), hazard_GYZ)
    assert np.asarray(weights_GYZ)[hazard_GYZ].sum() == pytest.approx(1, rel=1e-5)
    assert np.asarray(weights_GYZ).sum() == pytest.approx(2, rel=1e-5)


def test_what_is_no_vector_per_token_cannot_be_probed(taught):
    given = taught.aligned, taught.tables, taught.cfg, jax.random.key(0)
    with pytest.raises(taps.TapError, match="head_out cannot be probed: it must be one of resid_p"):
        probing.probe(*given, "head_out")
    with pytest.raises(taps.TapError, match="did you mean 'resid_post'"):
        probing.probe(*given, "resid_posts")
