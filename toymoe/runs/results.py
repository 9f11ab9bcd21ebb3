"""What is told of a run: its settings, its numbers, its history."""

from typing import NamedTuple

import numpy as np

from ..config import Config


class Run(NamedTuple):
    """What a sentence is made of."""

    cfg: Config
    metrics: dict
    curves: dict[str, np.ndarray]

    @property
    def experts(self) -> int:
        """Of all layers."""
        return self.cfg.model.layers * self.cfg.model.experts


def name_of(layer, expert) -> str:
    """An expert in a sentence."""
    return f"expert {expert} of layer {layer}"
