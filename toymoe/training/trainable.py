"""Where a model may change, and how fast: one factor of the learning rate for each component.

The same five numbers say what alignment learns in, where a planted organism's refusal sits, and
what an attacker may tune. They become arrays (`Trainable.factors`) before a program is compiled, so
one compiled program serves every choice.
"""

from typing import Any, NamedTuple

import numpy as np

from .. import checkpoint, model
from ..config import AlignConfig, ConfigError, ModelConfig

# Every parameter belongs to one component.
COMPONENTS = {
    "experts": ("layers/experts/gate_up", "layers/experts/down"),
    "router": ("layers/router",),
    "attention": ("layers/qkv", "layers/out"),
    "embeddings": ("embed", "unembed"),
    "norms": (
        "layers/attention_norm",
        "layers/query_norm",
        "layers/key_norm",
        "layers/moe_norm",
        "final_norm",
    ),
}


class Trainable(NamedTuple):
    """Factors of the learning rate: 0 (False) is frozen, 1 (True) as fast as the rate says."""

    experts: Any = 0  # [L, E], or one number for all
    router: Any = 0
    attention: Any = 0
    embeddings: Any = 0
    norms: Any = 0

    @classmethod
    def of(cls, align: AlignConfig) -> "Trainable":
        """Where alignment may write, by its settings."""
        return cls(*(getattr(align, name) for name in cls._fields))

    def factors(self, params: model.Params) -> model.Params:
        """A tree like the parameters', broadcastable to them: float32 numbers, [L, E, 1, 1] for
        experts."""
        experts_LE = np.shape(params["layers"]["experts"]["down"])[:2]
        made = {}
        for name, paths in COMPONENTS.items():
            factor = np.float32(getattr(self, name))
            if name == "experts":
                factor = np.broadcast_to(factor, experts_LE)[:, :, None, None]
            made |= dict.fromkeys(paths, factor)
        return checkpoint.unflatten(made)


EVERYTHING = Trainable(*[1] * len(COMPONENTS))


def only(part, cfg: ModelConfig) -> Trainable:
    """Nothing but one part of a model.

    Args:
      part: a name of `COMPONENTS`, or experts, given as pairs (layer, expert).

    Raises:
      ConfigError: a component or an expert that does not exist, no expert at all.
    """
    if isinstance(part, str):
        if part not in COMPONENTS:
            raise ConfigError(
                f"part {part!r} is not known: it must be one of {', '.join(COMPONENTS)}, or "
                "(layer, expert) pairs."
            )
        return Trainable(**{part: 1})
    if not len(part):
        raise ConfigError("a part without experts is not possible: name at least one.")
    return Trainable(mask_of(part, (cfg.layers, cfg.experts)))


def mask_of(experts, shape: tuple[int, int]) -> np.ndarray:
    """The mask [L, E], of this shape, of experts given as pairs (layer, expert).

    Raises:
      ConfigError: an expert that does not exist.
    """
    mask_LE = np.zeros(shape, bool)
    for layer, expert in experts:
        if not (0 <= layer < shape[0] and 0 <= expert < shape[1]):
            raise ConfigError(
                f"expert {expert} of layer {layer} does not exist: there are {shape[0]} layers of "
                f"{shape[1]} experts, numbered from 0."
            )
        mask_LE[layer, expert] = True
    return mask_LE
