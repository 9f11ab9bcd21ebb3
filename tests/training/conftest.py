"""A configuration whose two phases take a few steps, and its world."""

import dataclasses

import jax
import pytest

from toymoe import world
from toymoe.config import AlignConfig, Config, ModelConfig, PretrainConfig, TrainConfig
from toymoe.training import phases

SETTINGS = {
    "train": TrainConfig(batch=8, warmup=3, prompt_weight=0.25, balance=0.5, z_loss=0.25, chunk=5),
    "pretrain": PretrainConfig(steps=8, learning_rate=0.01, weight_decay=0.1),
    "align": AlignConfig(3, 0.003, 0.1, 0.25, attention=0.5, embeddings=1.0),
}


@pytest.fixture(scope="session")
def cfg(tiny) -> Config:
    """Two phases of a few steps, cut into chunks of 5 and 3 steps, and of 3."""
    shape = ModelConfig(1, 8, 2, 4, 4, 2, False)
    return dataclasses.replace(tiny, model=shape, **SETTINGS, seed=3)


@pytest.fixture(scope="session")
def tables(cfg) -> world.World:
    return jax.jit(world.make_world, static_argnums=1)(phases.keys(cfg.seed).world, cfg.world)
