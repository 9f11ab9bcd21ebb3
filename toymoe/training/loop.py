"""The loop behind all training: batches, a loss, an optimiser, rates, and what may change.

A step may be shared by several workers (data parallelism): each draws its share of the batch, finds
its gradient, and takes the mean of all of them. On CPU every worker is a device of its own, which
JAX simulates and a core runs (`toymoe.start` asks for them); on a machine with fewer devices, one
device works for all, to the same result but for rounding.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

WORKERS = 2  # at most: they must divide the batch
AXIS = "worker"
ALIKE = jax.sharding.PartitionSpec()  # every worker has the same


class State(NamedTuple):
    """What a step changes."""

    params: Any  # of a model, or a delta to them: a tree of arrays
    optimiser: optax.OptState


class Task(NamedTuple):
    """What is learnt, from what, how, and where.

    All randomness follows from the step's number, so a run cut anywhere and continued ends with the
    same parameters, bit for bit.
    """

    batch: Callable  # of a step's number and a worker's: anything that the loss takes
    loss: Callable  # of the parameters and a batch
    optimiser: optax.GradientTransformation  # the direction of a step, without its learning rate
    factors: Any = None  # `Trainable.factors`; None trains everything
    workers: int = 1


def start(params, optimiser: optax.GradientTransformation) -> State:
    """The state before the first step."""
    return State(params, optimiser.init(params))


def step(state: State, at, rate, task: Task) -> tuple[State, jax.Array]:
    """Step number ``at`` of gradient descent, with learning rate ``rate``; returns the loss too.

    Where a factor is zero, the gradient counts as zero, in the clipping as well.
    """
    several = task.workers > 1
    batch = task.batch(at, jax.lax.axis_index(AXIS) if several else 0)
    value_grads = jax.value_and_grad(task.loss)(state.params, batch)
    value, grads = jax.lax.pmean(value_grads, AXIS) if several else value_grads
    grads = _each(lambda factor, grad: (factor > 0) * grad, task.factors, grads)
    updates, memory = task.optimiser.update(grads, state.optimiser, state.params)
    updates = _each(jnp.multiply, task.factors, updates)
    params = jax.tree.map(lambda param, move: param - rate * move, state.params, updates)
    return State(params, memory), value


def train(state: State, task: Task, at_S, rate_S, record_S=None, record=None):
    """Steps ``at_S`` at the rates ``rate_S``.

    Args:
      record_S: flags the steps before which ``record``, a function of the parameters, is called by
        every worker; they must agree on the result.

    Returns:
      the state, the losses [S], and what was recorded [S, …], zeros where nothing was.
    """

    def nothing(params):
        return jax.tree.map(jnp.zeros_like, jax.eval_shape(record, params))

    def one(state, now):
        at, rate, flag = now
        seen = record and jax.lax.cond(flag, record, nothing, state.params)
        state, value = step(state, at, rate, task)
        return state, (value, seen)

    def run(state, at_S, rate_S, record_S):
        state, (losses_S, seen) = jax.lax.scan(one, state, (at_S, rate_S, record_S))
        return state, losses_S, seen

    return together(run, task.workers)(state, at_S, rate_S, record_S)


def _each(function, factors, tree):
    """``function`` of each factor and all the arrays that it is for."""
    if factors is None:
        return tree
    return jax.tree.map(
        lambda factor, part: jax.tree.map(partial(function, factor), part), factors, tree
    )


# --- workers ------------------------------------------------------------------------------------


def workers(batch: int) -> int:
    """How many share a batch of this size."""
    return math.gcd(batch, WORKERS)


def together(function, n: int):
    """What ``n`` workers run, as one function: given the same arguments, they must agree on the
    results."""
    if n == 1:
        return function
    mesh = _mesh(n)
    if mesh is None:
        return jax.vmap(function, in_axes=None, out_axes=None, axis_name=AXIS, axis_size=n)
    return jax.shard_map(function, mesh=mesh, in_specs=ALIKE, out_specs=ALIKE, check_vma=False)


def shared(state: State, n: int) -> State:
    """The state, on the devices of all workers."""
    mesh = _mesh(n)
    return state if mesh is None else jax.device_put(state, jax.sharding.NamedSharding(mesh, ALIKE))


def _mesh(n):
    """A device for each worker; None where there are too few, or each is at work on other seeds."""
    devices = np.array(jax.local_devices()[:n])
    free = devices.size == n and jax.sharding.get_abstract_mesh().empty
    return jax.sharding.Mesh(devices, (AXIS,)) if free else None
