"""Every parameter has the factor of its component, and only what exists may be named."""

import jax
import numpy as np
import pytest
from oracle import random_params

from toymoe import checkpoint
from toymoe.config import ConfigError, ModelConfig
from toymoe.training import trainable
from toymoe.training.trainable import COMPONENTS, EVERYTHING, Trainable

pytestmark = pytest.mark.core

CFG = ModelConfig(layers=2, width=8, heads=2, experts=5, expert_width=3, top_k=2)


@pytest.fixture(scope="module")
def params():
    return random_params(CFG, 11)


def test_components_share_the_parameters_out(params):
    paths = [path for paths in COMPONENTS.values() for path in paths]
    assert sorted(paths) == sorted(checkpoint.flatten(params)) and Trainable._fields == (
        *COMPONENTS,
    )


def test_factors_are_those_of_the_components_and_broadcast(params):
    experts_LE = np.arange(10).reshape(2, 5) / 8
    made = Trainable(experts_LE, router=True, attention=0.25, norms=0.5).factors(params)
    expected = {"router": 1.0, "attention": 0.25, "embeddings": 0.0, "norms": 0.5}
    flat = checkpoint.flatten(made)
    for name, factor in expected.items():
        assert [flat[path] for path in COMPONENTS[name]] == [factor] * len(COMPONENTS[name])
    product = checkpoint.flatten(jax.tree.map(np.multiply, params, made))
    for path in COMPONENTS["experts"]:
        for layer, expert in np.ndindex(2, 5):
            mine = checkpoint.flatten(params)[path][layer, expert]
            np.testing.assert_allclose(
                product[path][layer, expert], mine * (layer * 5 + expert) / 8
            )
    assert {x.dtype for x in flat.values()} == {np.dtype("f4")}


def test_everything_and_nothing_are_whole_numbers(params):
    for what, factor in ((EVERYTHING, 1), (Trainable(), 0)):
        leaves = jax.tree.leaves(what.factors(params))
        assert all((leaf == factor).all() for leaf in leaves)


def test_only_what_is_named_learns(params):
    assert trainable.only("norms", CFG) == Trainable(norms=1)
    some = trainable.only(((0, 3), (1, 0)), CFG)
    assert np.argwhere(some.experts).tolist() == [[0, 3], [1, 0]]
    assert some._replace(experts=0) == Trainable()


BAD = {
    "expert": "part 'expert' is not known: it must be one of experts, router, attention",
    ((0, 5),): "expert 5 of layer 0 does not exist: there are 2 layers of 5 experts",
    ((-1, 0),): "expert 0 of layer -1 does not exist",
    (): "name at least one",
}


@pytest.mark.parametrize("part", BAD)
def test_a_part_that_does_not_exist_is_an_error(part):
    with pytest.raises(ConfigError, match=BAD[part]):
        trainable.only(part, CFG)
