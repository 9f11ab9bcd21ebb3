"""What the tests that hold a model against an independent one share."""

import jax
import numpy as np

from toymoe import model


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
