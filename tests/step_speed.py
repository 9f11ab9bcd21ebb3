"""Where a training step's time goes, after compilation: ``python -m tests.step_speed [experts]``.

One worker's half of a batch at the default shape, on one thread, in milliseconds of processor time;
all parts in turns, so that whatever else the machine does disturbs them alike. The parts are
programs of their own, so they need not add up to the step.
"""

import os
import sys
import time
from functools import partial
from statistics import median

os.environ["PJRT_NPROC"] = "1"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=1"

import jax
import jax.numpy as jnp

from toymoe import numerics, start, world
from toymoe.config import build
from toymoe.machine import bench
from toymoe.model import moe, probe, taps, transformer
from toymoe.training import data, loop, objective, optimiser, phases

TURNS, CALLS, SQUARE = 15, 4, 1024


@numerics.fixed()
def main(experts: int) -> None:
    cfg = build(overrides={"model.experts": experts})
    keys, half = phases.keys(0), cfg.train.batch // 2
    tables = jax.jit(world.make_world, static_argnums=1)(keys.world, cfg.world)
    mix = data.mixture(tables, cfg, "pretrain")
    params = jax.jit(phases.fresh_params, static_argnums=1)(keys.init, phases.without_seed(cfg))
    draw = partial(data.batch, tables=tables, cfg=cfg, phase="pretrain", mix=mix, parts=2)
    loss = partial(objective.loss, cfg=cfg)
    tokens_BT = jax.jit(draw)(keys.pretrain)
    B, T = half, tokens_BT.shape[1] - 1
    x_ND = jax.random.normal(keys.init, (B * T, cfg.model.width))
    layer = jax.tree.map(lambda leaf: leaf[0], params["layers"])
    route = jax.jit(moe.route, static_argnums=2)(x_ND, layer["router"], cfg.model.top_k)

    def attention(x_ND, layer):
        tap = probe.Probe((B, T), taps.Edits())
        rotation = transformer.rotary(T, cfg.model.width // cfg.model.heads)
        return transformer.attention(x_ND, layer, cfg.model, (B, T), rotation, True, tap, 0).sum()

    def routing(x_ND, router):
        made = moe.route(x_ND, router, cfg.model.top_k)
        balance = moe.load_balance_loss(made.probs_NE, made.experts_NA)
        return balance + moe.router_z_loss(made.logits_NE) + made.gates_NA.sum()

    def apply(x_ND, experts, gates_NA):
        return (moe.grouped_moe(x_ND, experts, route.experts_NA, gates_NA) ** 2).sum()

    def moves(by):
        def update(grads, state):
            return by.update(grads, state, params)

        return update, (jax.tree.map(lambda leaf: 0.01 * leaf, params), by.init(params))

    muon, adam = optimiser.muon(cfg.pretrain.weight_decay), optimiser.adam(0.1)
    task = loop.Task(lambda at, worker: draw(jax.random.fold_in(keys.pretrain, at)), loss, muon)
    square = jnp.ones((SQUARE, SQUARE))
    L = cfg.model.layers
    parts = {  # times so many, a program, its arguments
        "step, whole": (1, partial(loop.step, task=task), (loop.start(params, muon), 0, 0.01)),
        "batch drawn": (1, draw, (keys.pretrain,)),
        "loss": (1, loss, (params, tokens_BT)),
        "loss and gradient": (1, jax.value_and_grad(loss), (params, tokens_BT)),
        "  attention, all layers": (L, jax.grad(attention, (0, 1)), (x_ND, layer)),
        "  routing and its losses": (L, jax.grad(routing, (0, 1)), (x_ND, layer["router"])),
        "  experts": (L, jax.grad(apply, (0, 1, 2)), (x_ND, layer["experts"], route.gates_NA)),
        "optimiser: Muon": (1, *moves(muon)),
        "optimiser: Adam for all": (1, *moves(adam)),
        "a square product": (1, jnp.matmul, (square, square)),
    }
    taken = milliseconds(parts)
    for name, each in taken.items():
        print(f"{name:26} median {median(each):7.2f} ms   least {min(each):7.2f} ms")
    rate = 2 * SQUARE**3 / median(taken["a square product"])  # operations per millisecond
    need = bench.flops_per_step(cfg) / 2 / rate
    share = need / median(taken["step, whole"])
    print(f"{'arithmetic at that rate':26}        {need:7.2f} ms, {share:.3f} of a step")


def milliseconds(parts: dict) -> dict[str, list[float]]:
    """Processor time of each, by turn."""
    programs = {
        name: jax.jit(function, compiler_options=start.training_options()).lower(*given).compile()
        for name, (_, function, given) in parts.items()
    }
    taken = {name: [] for name in parts}
    for turn in range(TURNS + 1):
        for name, (times, _, given) in parts.items():
            begin = time.process_time()
            for _ in range(CALLS):
                jax.block_until_ready(programs[name](*given))
            if turn:  # the first warms up
                taken[name].append(times * (time.process_time() - begin) / CALLS * 1e3)
    return taken


if __name__ == "__main__":
    start.start_jax()
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 18)
