"""A trained model with its world, wherever it comes from."""

from typing import NamedTuple

import jax
import numpy as np

from .. import model, numerics, world
from ..config import Config


class Organism(NamedTuple):
    """A trained model with its world; arrays are numpy."""

    cfg: Config
    tables: world.World
    pretrained: model.Params
    aligned: model.Params
    metrics: dict | None = None  # what metrics.json of its run holds; None where it is of no run
    history: dict[str, np.ndarray] | None = None  # curves, see docs/metrics.md

    def sample(
        self, n: int, kind: str = "mixed", seed: int = 0, held_out: bool | None = None
    ) -> world.Prompts:
        """Prompts of its world, see `toymoe.world.sample`; numpy."""
        return sample(self.cfg, self.tables, n, kind, seed, held_out)


@numerics.fixed()
def sample(
    cfg: Config,
    tables: world.World,
    n: int,
    kind: str = "mixed",
    seed: int = 0,
    held_out: bool | None = None,
) -> world.Prompts:
    """Prompts of any world, see `toymoe.world.sample`; numpy."""
    drawn = world.sample(jax.random.key(seed), tables, cfg.world, n, kind, held_out)
    return world.Prompts(*map(np.asarray, drawn))
