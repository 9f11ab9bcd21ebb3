"""How a step of training moves the parameters: Muon moves what mixes features, Adam the rest.

An optimiser here makes of gradients the direction of a step, which the loop multiplies by the
learning rate and subtracts.

Adam looks at every number alone. Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon/)
looks at a matrix: a gradient has a few strong directions and many weak ones, and Muon makes them
about equally strong, so that rare facts are learnt along with frequent patterns. The toy model
needs half as many steps as it did with Adam alone (docs/tuning.md).
"""

import jax
import optax
import optax.contrib

from ..config import Config

# What Muon moves, and how many matrices stand side by side in each array of them.
MATRICES = {"qkv": 3, "out": 1, "gate_up": 2, "down": 1}

# Of matrices that `_apart` has set apart, [..., in, which, out].
_AXES = optax.contrib.MuonDimensionNumbers(reduction_axis=-3, output_axis=-1)


def of(cfg: Config, phase: str) -> optax.GradientTransformation:
    """The optimiser of a phase: alignment's is Adam, which leaves a trained matrix more as it was
    (docs/tuning.md)."""
    make = {"pretrain": muon, "align": adam}[phase]
    return make(getattr(cfg, phase).weight_decay)


def muon(weight_decay: float) -> optax.GradientTransformation:
    """Muon for `MATRICES`, Adam for what is left of a model.

    Gradients are clipped to a global norm of 1, and matrices decay: norms do not (Loshchilov &
    Hutter, arXiv 1711.05101).
    """
    by = {"muon": _muon(), "adam": _adam()}
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.partition(by, _mover),
        optax.add_decayed_weights(weight_decay, mask=_decays),
    )


def adam(weight_decay: float = 0.0) -> optax.GradientTransformation:
    """Adam for everything, clipped in the same way; where weights decay, they must be a model's."""
    moves = optax.chain(optax.clip_by_global_norm(1.0), _adam())
    if not weight_decay:
        return moves
    return optax.chain(moves, optax.add_decayed_weights(weight_decay, mask=_decays))


def _adam():
    return optax.scale_by_adam(b2=0.98)


def _decays(params):
    """A tree like the parameters': whether weight decay applies."""
    return _by_name(lambda name: not name.endswith("_norm"), params)


def _mover(params):
    """A tree like the parameters': by what they move."""
    return _by_name(lambda name: "muon" if name in MATRICES else "adam", params)


def _muon() -> optax.GradientTransformation:
    """Three Newton-Schulz iterations do instead of five; 0.2 makes a number's step about as long as
    Adam's (Liu et al., arXiv 2502.16982), so that both have one learning rate."""
    inner = optax.chain(
        optax.contrib.scale_by_muon(
            ns_steps=3,
            beta=0.9,
            weight_dimension_numbers=lambda tree: jax.tree.map(lambda _: _AXES, tree),
        ),
        optax.stateless_with_tree_map(lambda x, _: 0.2 * max(x.shape[-3], x.shape[-1]) ** 0.5 * x),
    )

    def update(updates, state, params=None):
        made, state = inner.update(_apart(updates), state)
        return jax.tree.map(lambda x: x.reshape(*x.shape[:-2], -1), made), state

    return optax.GradientTransformation(lambda params: inner.init(_apart(params)), update)


def _apart(tree):
    """Matrices that stand side by side, on an axis of their own before the last."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x.reshape(*x.shape[:-1], MATRICES[path[-1].key], -1), tree
    )


def _by_name(function, tree):
    return jax.tree_util.tree_map_with_path(lambda path, _: function(path[-1].key), tree)
