"""What the tests that hold a model against an independent one share: parameters, tolerances."""

import jax
import numpy as np

from toymoe import model

EPS = float(np.finfo(np.float32).eps)


def random_params(cfg, vocabulary, seed=0):
    """Norms are not one, and matrices are larger than at the start: everything shows."""
    rng = np.random.default_rng(seed)
    like = jax.eval_shape(lambda: model.init(jax.random.key(0), cfg, vocabulary))
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            rng.uniform(0.5, 1.5, leaf.shape)
            if path[-1].key.endswith("_norm")
            else 1.5 * rng.normal(size=leaf.shape) / leaf.shape[-2] ** 0.5
        ).astype(np.float32),
        like,
    )


def rounding(slow, params, draws=16):
    """How far float32 may be from ``slow(params)``, an array or a tree of arrays in float64.

    Every weight moves by half an ulp, up or down, and the farthest that this moves an entry of an
    array is what one rounding costs there. A model of two layers rounds some twenty times, one
    operation after the other: as a random walk that is sqrt(20) = 4.5 times as far, 8 with a
    margin. Nothing here knows which program, compiler or processor computed what is compared.
    Measured, float32 takes up to .22 of it. In test_taps, where it is 2e-5 for the whole model,
    gates wrong by one in 10,000 show as 4e-4, and an epsilon of 1e-6 instead of 1e-5 as 1.1e-4.
    """
    rng = np.random.default_rng(0)
    params = jax.tree.map(np.float64, params)
    expected = slow(params)

    def farthest():
        moved = jax.tree.map(lambda w: w * (1 + EPS / 2 * rng.choice([-1, 1], w.shape)), params)
        return jax.tree.map(lambda a, b: np.abs(np.float64(a) - b).max(), slow(moved), expected)

    return jax.tree.map(lambda *moves: 8 * max(moves), *(farthest() for _ in range(draws)))


def assert_close(found, expected, atol, what=""):
    """Within what float32 can promise there, as ``rounding`` has it."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=what)
