"""What several tests of attacks stand on: an organism of random parameters, and evidence of it."""

import jax
import pytest
from oracle import random_params

from toymoe import world
from toymoe.attribution import evidence
from toymoe.organism import Organism


@pytest.fixture(scope="module")
def organism(tiny, tiny_world):
    V = len(world.vocabulary(tiny.world))
    pretrained, aligned = (random_params(tiny.model, V, seed) for seed in (1, 2))
    return Organism(tiny, tiny_world, pretrained, aligned)


@pytest.fixture(scope="module")
def e(organism):
    return evidence.gather(organism.aligned, organism.tables, organism.cfg, jax.random.key(0), 24)
