"""The JAX settings that numbers depend on, the same whatever yours are; and the versions at work.

What is stored is always made and read with 32-bit numbers, and drawn by one generator: under
``JAX_ENABLE_X64`` the same keys would draw another world.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version

import jax

from . import __version__

FIXED = {
    "jax_enable_x64": (jax.enable_x64, False),
    "jax_default_prng_impl": (jax.default_prng_impl, "threefry2x32"),
    "jax_threefry_partitionable": (jax.threefry_partitionable, True),
    # What a processor does anyway; a GPU would take TF32 and a TPU bfloat16.
    "jax_default_matmul_precision": (jax.default_matmul_precision, "highest"),
    "jax_numpy_dtype_promotion": (jax.numpy_dtype_promotion, "standard"),
    "jax_numpy_rank_promotion": (jax.numpy_rank_promotion, "allow"),
    "jax_disable_jit": (jax.disable_jit, False),  # a run of two steps would take ten minutes
}
OFFSET = "jax_random_seed_offset"  # the one without a context manager
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


@contextmanager
def fixed() -> Iterator[None]:
    """Settings as results are made with, in this thread; ``@fixed()`` for a whole function."""
    with ExitStack() as stack:
        for name, (context, value) in FIXED.items():
            if getattr(jax.config, name) != value:
                stack.enter_context(context(value))
        if offset := getattr(jax.config, OFFSET):
            jax.config.update(OFFSET, 0)
            stack.callback(jax.config.update, OFFSET, offset)
        yield


def versions() -> dict[str, str]:
    """Of toymoe, and of the packages that its numbers come from."""
    found = {"toymoe": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # built by hand, without metadata
            found[name] = "unknown"
    return found
