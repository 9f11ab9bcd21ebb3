"""What several tests of defences stand on: a short alignment, random parameters, some prompts."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from oracle import random_params

from toymoe import world
from toymoe.config import AlignConfig, TrainConfig


@pytest.fixture(scope="module")
def cfg(tiny):
    short = AlignConfig(steps=6, learning_rate=1e-2)
    return dataclasses.replace(tiny, train=TrainConfig(batch=16, warmup=2), align=short)


@pytest.fixture(scope="module")
def params(cfg):
    return jax.tree.map(jnp.asarray, random_params(cfg.model, len(world.vocabulary(cfg.world))))


@pytest.fixture(scope="module")
def prompts(tiny_world, cfg):
    return world.sample(jax.random.key(0), tiny_world, cfg.world, 16, "mixed", False)
