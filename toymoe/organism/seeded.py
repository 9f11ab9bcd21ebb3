"""What follows from a seed alone: the world of a run, and its parameters before training."""

import jax

from .. import model, numerics, world
from ..config import Config
from ..training import phases

_tables = jax.jit(world.make_world, static_argnames="cfg")
_params = jax.jit(phases.fresh_params, static_argnames="cfg")


@numerics.fixed()
def tables(cfg: Config) -> world.World:
    """The world of a run."""
    return _tables(phases.keys(cfg.seed).world, cfg=cfg.world)


@numerics.fixed()
def params(cfg: Config) -> model.Params:
    """The untrained parameters of a run."""
    return _params(phases.keys(cfg.seed).init, cfg=phases.without_seed(cfg))
