"""Evidence of a model that refuses, and of random parameters on the same prompts."""

import dataclasses

import jax
import pytest
from surgery import N

from toymoe.attribution import evidence


@pytest.fixture(scope="session")
def trained(taught):
    key = jax.random.key(1)
    return evidence.gather(taught.aligned, taught.tables, taught.cfg, key, N, taught.pretrained)


@pytest.fixture(scope="session")
def untrained(trained, taught):
    return dataclasses.replace(trained, params=taught.random(2), pretrained=taught.random(3))


@pytest.fixture(params=["trained", "untrained"])
def e(request):
    return request.getfixturevalue(request.param)
