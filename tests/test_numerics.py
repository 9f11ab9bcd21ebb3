"""The same draws whatever JAX is set to, and the user's settings as they were."""

import threading
from importlib.metadata import version

import jax
import numpy as np
import pytest

from toymoe import __version__, model, numerics, world
from toymoe.organism import seeded, stored
from toymoe.runs import runner

OTHERS = {
    "jax_enable_x64": True,
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_default_matmul_precision": "bfloat16",
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_random_seed_offset": 7,
    "jax_disable_jit": True,
}


def drawn(cfg):
    with numerics.fixed():
        prompts = world.sample(jax.random.key(3), seeded.tables(cfg), cfg.world, 32)
        return [np.asarray(x) for x in jax.tree.leaves((prompts, *made(cfg)))]


def made(cfg):
    return seeded.tables(cfg), seeded.params(cfg)


def same(left, right):
    return all(
        (x.dtype, x.tobytes()) == (y.dtype, y.tobytes()) for x, y in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("name", OTHERS)
def test_draws_are_the_same_whatever_jax_is_set_to(small, name):
    expected, before = drawn(small), getattr(jax.config, name)
    jax.config.update(name, OTHERS[name])
    try:
        assert same(drawn(small), expected)
        assert getattr(jax.config, name) == OTHERS[name]  # the user's again
    finally:
        jax.config.update(name, before)
    assert same(drawn(small), expected)


@pytest.mark.parametrize("name", ["jax_enable_x64", "jax_default_prng_impl"])
def test_without_it_they_are_others(small, name):
    # So that the test above shows something: these settings do change what the same key draws.
    def bare():
        return np.asarray(world.make_world(jax.random.key(0), small.world).chain_GWW)

    expected, before = bare(), getattr(jax.config, name)
    jax.config.update(name, OTHERS[name])
    try:
        assert not np.allclose(bare(), expected, atol=1e-3)
    finally:
        jax.config.update(name, before)


@pytest.mark.parametrize("yours", [None, "bfloat16"])
def test_products_are_asked_for_in_full_precision(small, yours):
    """Which the processor gives anyway; a GPU would take TF32, a TPU bfloat16."""

    def asked():  # of all products of the model, in what XLA is given
        params, tokens_BT = seeded.params(small), np.zeros((1, 4), np.int32)
        forward = jax.jit(model.forward, static_argnums=2)
        text = forward.lower(params, tokens_BT, small.model).as_text()
        return [line.count("HIGHEST") for line in text.splitlines() if "dot_general" in line]

    before = jax.config.jax_default_matmul_precision
    jax.config.update("jax_default_matmul_precision", yours)
    try:
        with numerics.fixed():
            inside = asked()
        outside = asked()
    finally:
        jax.config.update("jax_default_matmul_precision", before)
    assert len(inside) > 5 and set(inside) == {2}
    assert len(outside) == len(inside) and set(outside) == {0}


def test_it_holds_for_its_thread_and_its_time_only():
    seen = {}
    with jax.enable_x64(True):
        with numerics.fixed():
            thread = threading.Thread(target=lambda: seen.update(other=jax.config.jax_enable_x64))
            thread.start()
            thread.join()
            seen["inside"] = jax.numpy.arange(2.0).dtype
        seen["after"] = jax.numpy.arange(2.0).dtype
    assert seen == {"other": False, "inside": np.float32, "after": np.float64}


def test_versions_are_those_installed():
    assert numerics.versions() == {"toymoe": __version__} | {
        name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")
    }


@pytest.mark.core
def test_a_run_is_the_same_to_the_bit_whatever_jax_is_set_to(small, small_run, tmp_path):
    chosen = {name: OTHERS[name] for name in OTHERS if "matmul" not in name}
    before = {name: getattr(jax.config, name) for name in chosen}
    for name, value in chosen.items():
        jax.config.update(name, value)
    try:
        metrics = runner.run(small, tmp_path, pictures=False)
        assert same(
            jax.tree.leaves(stored.load(tmp_path)[1:4]),
            jax.tree.leaves(stored.load(small_run.out)[1:4]),
        )
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
    for name in ("tables.npz", "pretrained.npz", "aligned.npz", "history.npz"):
        assert (tmp_path / name).read_bytes() == (small_run.out / name).read_bytes()
    assert metrics["behaviour"] == small_run.metrics["behaviour"]
    assert metrics["routing"] == small_run.metrics["routing"]
    assert metrics["inside"] == small_run.metrics["inside"]
