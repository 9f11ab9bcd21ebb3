"""What several test modules share: one tiny run, whose every size is small or odd."""

import jax
import pytest

from toymoe import world
from toymoe.config import Config, EvalConfig, ModelConfig, TrainConfig, WorldConfig


@pytest.fixture(scope="session")
def tiny() -> Config:
    """A conjunction world whose words each belong to one topic, and a model of two layers."""
    return Config(
        WorldConfig(
            topics=4,
            hazardous_topics=2,
            context=5,
            words=4,
            overlap=0.0,
            verbs=4,
            hazardous_verbs=2,
            entities=5,
            hazardous_entities=2,
            answers=6,
            hazard_rule="conjunction",
            held_out=0.25,
            held_out_harmless=0.1,
            hazard_share=0.4,
            control_share=0.3,
        ),
        ModelConfig(2, 8, 2, 8, 4, 1, False),
        TrainConfig(),
        EvalConfig(2048, 2048),
        seed=0,
    )


@pytest.fixture(scope="session")
def tiny_world(tiny) -> world.World:
    """Its tables."""
    return world.make_world(jax.random.key(0), tiny.world)
