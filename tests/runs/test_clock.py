"""Seconds by stage, compilation apart."""

import time

import jax
import jax.numpy as jnp
import pytest

from toymoe.runs.clock import STAGES, Clock


@pytest.fixture
def clock():
    made = Clock()
    yield made
    made.close()


def test_spans_that_overlap_or_contain_others_count_once(clock):
    clock._compiling = [(3.0, 4.0), (1.0, 2.0), (1.5, 3.5), (1.6, 1.8), (6.0, 7.0)]
    assert clock._compiled_since(0.0) == pytest.approx(3 + 1)
    assert clock._compiled_since(3.75) == pytest.approx(0.25 + 1)  # begun before, ended after
    assert clock._compiled_since(7.0) == 0


def test_compiling_is_apart_and_heard_of_until_it_is_closed(clock):
    with clock("align_s"):
        jax.jit(lambda x: x * 3.14159 + 2)(jnp.ones(7)).block_until_ready()
        time.sleep(0.02)
    assert clock.seconds["compile_s"] > 0 and clock.seconds["align_s"] >= 0.02
    assert sum(clock.seconds.values()) == pytest.approx(clock.timing(10)["total_s"])
    assert clock.timing(10)["tokens_per_s"] == pytest.approx(10 / clock.seconds["align_s"])
    heard = len(clock._compiling)
    clock.close()
    jax.jit(lambda x: x * 2.71828 - 2)(jnp.ones(7)).block_until_ready()
    assert len(clock._compiling) == heard > 0
    jax.monitoring.register_event_duration_secs_listener(clock._note)  # for the fixture to close


def test_stages_begin_at_nothing(clock):
    assert clock.seconds == dict.fromkeys(STAGES, 0.0)
