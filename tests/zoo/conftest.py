"""A world, and a model that nobody trained, which what is written does not mind."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from oracle import random_params

from toymoe import world
from toymoe.config import build
from toymoe.zoo import lessons, mechanisms, parts


@pytest.fixture(scope="session")
def fresh(small_settings):
    """A small configuration with its tables, two models of random parameters, and lessons."""
    wide = {"model.width": 24, "model.expert_width": 11}  # what is asked can be told in them
    small = build("smoke", 0, small_settings | wide)
    tables = jax.tree.map(np.asarray, world.make_world(jax.random.key(0), small.world))
    V = len(world.vocabulary(small.world))
    before, base = (random_params(small.model, V, seed) for seed in (0, 1))
    taught = {
        name: lessons.taught(name, tables, small, np.random.default_rng(0))
        for name in lessons.LESSONS
    }
    return SimpleNamespace(cfg=small, tables=tables, before=before, base=base, taught=taught)


@pytest.fixture(scope="session")
def keys_of(fresh):
    """A key for each mechanism, drawn where everything is selected."""
    cfg = fresh.cfg.model
    everywhere_LBE = np.ones((cfg.layers, 8, cfg.experts), bool)
    return {
        name: row.draw(everywhere_LBE, cfg, np.random.default_rng(1))
        for name, row in mechanisms.MECHANISMS.items()
    }


@pytest.fixture(scope="session")
def assert_nothing_else():
    """Two models are the same, to the bit, but for the places of some parts."""

    def check(made, base, names, cfg):
        back = parts.exchanged(made, base, parts.mask(names, base, cfg))
        jax.tree.map(np.testing.assert_array_equal, back, base)

    return check
