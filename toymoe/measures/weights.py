"""How far one checkpoint's weights are from another's: what alignment, or an attack, has changed.

A light alignment changes weights by a few tenths of their size and keeps their direction (cf. Jain
et al., arXiv 2407.10264): only then can a part be set back without breaking what else it does.
"""

import numpy as np

from .. import checkpoint, model
from ..training.trainable import COMPONENTS


def change(before: model.Params, after: model.Params) -> dict[str, dict[str, float]]:
    """``relative`` change ‖after - before‖ / ‖before‖ and ``cosine`` of the two, Frobenius norms
    over all the numbers of a component, and of the whole model ("all")."""
    ours, theirs = checkpoint.flatten(before), checkpoint.flatten(after)
    parts = COMPONENTS | {"all": tuple(ours)}
    return {
        name: _change(*(_vector(x, paths) for x in (ours, theirs))) for name, paths in parts.items()
    }


def _vector(flat, paths):
    return np.concatenate([np.ravel(flat[path]).astype(float) for path in paths])


def _change(before_X, after_X):
    size, now = np.linalg.norm(before_X), np.linalg.norm(after_X)
    return {
        "relative": float(np.linalg.norm(after_X - before_X) / size),
        "cosine": float(before_X @ after_X / (size * now)),
    }
