"""How fast this machine trains, and what share of its matmul rate that is.

Two rates are measured in turns, so that a machine that warms up, or is shared, disturbs both alike:
training steps of the configuration, and large square float32 matmuls, the most that JAX gets out
of this machine. Their ratio says how well training uses the machine, and hardly depends on it.
"""

import time
from functools import partial
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np

from .. import model, world
from ..config import Config
from ..start import training_options
from ..training import data, loop, phases

SIZES = (1024, 2048)  # of the square matmuls; the faster one counts
STEPS = 10  # training steps in one call of the compiled program


def shape(cfg: Config) -> dict:
    """The sizes that decide how much a training step computes.

    ``positions`` are those the model reads: the last token of a response is only predicted.
    """
    positions = len(world.roles(cfg.world)) - 1
    params = jax.eval_shape(lambda: phases.fresh_params(jax.random.key(0), cfg))
    return {
        "parameters": model.count(params),
        "layers": cfg.model.layers,
        "width": cfg.model.width,
        "heads": cfg.model.heads,
        "experts": cfg.model.experts,
        "expert_width": cfg.model.expert_width,
        "top_k": cfg.model.top_k,
        "vocabulary": len(world.vocabulary(cfg.world)),
        "prompts_per_step": cfg.train.batch,
        "positions": positions,
        "tokens_per_step": cfg.train.batch * positions,
    }


def flops_per_step(cfg: Config) -> int:
    """Floating-point operations that a training step cannot do without.

    Only matmuls count, each of them twice its multiplications, and three times for the forward and
    the two backward products. With N tokens, in sequences of T positions:

        3 · N · (L · (8 D² + 2 D (T + 1) + 2 D E + 6 A D F) + 2 D V)

    in a layer queries, keys, values and output; scores and mixing, of the (T + 1) / 2 positions
    that a query sees on average; the router; the A selected experts. Then the unembedding. Not
    counted, though they take time: padding, masked scores, norms, softmax, the optimiser, drawing
    the prompts.
    """
    s = shape(cfg)
    D, T, E, F = s["width"], s["positions"], s["experts"], s["expert_width"]
    layer = 8 * D * D + 2 * D * (T + 1) + 2 * D * E + 6 * s["top_k"] * D * F
    return 3 * s["tokens_per_step"] * (s["layers"] * layer + 2 * D * s["vocabulary"])


def measure(cfg: Config, progress=None, windows: int = 7, window_s: float = 0.7) -> dict:
    """Measure both rates of this machine, after compilation; some 20 s at the default shape.

    Args:
      progress: called with the number of windows done and of all windows.
      windows: windows of each kind; medians over them are returned.
      window_s: seconds of a window of training; matmuls get half of it for each size.

    Returns:
      tokens_per_s: tokens through the model in training, forward and backward.
      matmul_gflops: billions of operations per second in a float32 matmul.
      model_gflops: the same in training, counting only `flops_per_step`.
      fraction: model_gflops / matmul_gflops.
      shape: see `shape`.
      windows: dict of tokens_per_s, matmul_gflops: the single windows behind the medians.

    Raises:
      ValueError: fewer than one window.
      ConfigError: there is no memory here for such a model.
      TrainingError: the loss is not finite any more.
    """
    if windows < 1:
        raise ValueError(f"windows = {windows!r} is not possible: it must be at least 1")
    model.check_size(cfg.model, len(world.vocabulary(cfg.world)))
    size = shape(cfg)
    steps = _training(cfg)
    matmuls = {n: _matmul(n) for n in SIZES}
    for call in (steps, *matmuls.values()):
        call()  # compiles
    calls_per_s, square = [], {n: [] for n in SIZES}
    for done in range(windows):
        for n, matmul in matmuls.items():
            square[n].append(2 * n**3 * rate(matmul, window_s / 2) / 1e9)
        calls_per_s.append(rate(steps, window_s))
        if progress is not None:
            progress(done + 1, windows)
    matmul_windows = max(square.values(), key=median)
    tokens_windows = [STEPS * size["tokens_per_step"] * per_s for per_s in calls_per_s]
    tokens_per_s, matmul_gflops = median(tokens_windows), median(matmul_windows)
    model_gflops = flops_per_step(cfg) * tokens_per_s / size["tokens_per_step"] / 1e9
    return {
        "tokens_per_s": tokens_per_s,
        "matmul_gflops": matmul_gflops,
        "model_gflops": model_gflops,
        "fraction": model_gflops / matmul_gflops,
        "shape": size,
        "windows": {"tokens_per_s": tokens_windows, "matmul_gflops": matmul_windows},
    }


def rate(call, seconds: float) -> float:
    """Calls per second, over whole calls that take at least the given time together."""
    calls, begin = 0, time.perf_counter()
    while (taken := time.perf_counter() - begin) < seconds or not calls:
        call()
        calls += 1
    return calls / taken


def _training(cfg: Config):
    """A function that trains `STEPS` steps further, as `run_phase` does between snapshots."""

    rate_S = np.full(STEPS, cfg.pretrain.learning_rate, np.float32)

    @jax.jit
    def set_up(seed):
        keys = phases.keys(seed)
        params = phases.fresh_params(keys.init, cfg)
        tables = world.make_world(keys.world, cfg.world)
        mix = data.mixture(tables, cfg, "pretrain")
        return (keys.pretrain, tables, mix, None), phases.start(params, cfg, "pretrain")

    @partial(jax.jit, compiler_options=training_options())
    def train(state, given, first):
        at_S = first + jnp.arange(STEPS)
        return loop.train(state, phases.task(*given, cfg, "pretrain"), at_S, rate_S)

    (given, state), first = set_up(cfg.seed), 0
    state = loop.shared(state, loop.workers(cfg.train.batch))

    def further():
        nonlocal state, first
        state, losses, _ = jax.block_until_ready(train(state, given, first))
        phases.check_finite(np.asarray(losses), first, cfg, "pretrain")
        first += STEPS

    return further


def _matmul(n: int):
    """A function that multiplies two n × n matrices."""
    a, b = jax.random.normal(jax.random.key(0), (2, n, n), jnp.float32)
    product = jax.jit(jnp.matmul)
    return lambda: product(a, b).block_until_ready()
