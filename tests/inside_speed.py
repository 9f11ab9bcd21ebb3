"""How long looking inside takes, after compilation: ``python -m tests.inside_speed``.

At the default shape: ablating every expert over 4,096 prompts (2,048 hazards and their twins, both
routes, margins and accuracies), and recording every tap of 256 prompts. Trained parameters, since
the balance of the load matters; a few steps of them suffice.
"""

import time
from dataclasses import replace
from functools import partial
from statistics import median

import jax
import numpy as np

from toymoe import model, start, world
from toymoe.attribution import ablation, methods
from toymoe.attribution.evidence import gather
from toymoe.config import build
from toymoe.model import taps
from toymoe.training import phases

REPEATS = 5


def seconds(call) -> list[float]:
    """The first call compiles and does not count."""
    call()
    taken = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return taken


def trained(cfg, tables):
    """The parameters before and after alignment."""
    params, made = phases.fresh_params(phases.keys(0).init, cfg), []
    probe_BP = world.sample(phases.keys(0).measure, tables, cfg.world, 2).tokens_BP
    for phase in phases.PHASES:
        *_, last = phases.run_phase(
            phases.start(params, cfg, phase), 0, tables, probe_BP, cfg, phase
        )
        params = jax.tree.map(np.asarray, last.state.params)
        made.append(params)
    return made


def main():
    cfg = build(overrides={"pretrain.steps": 200, "align.steps": 50})
    tables = world.make_world(phases.keys(0).world, cfg.world)
    pretrained, params = trained(cfg, tables)
    e = gather(params, tables, cfg, jax.random.key(0), 2048, pretrained)
    record = jax.jit(partial(model.forward, cfg=cfg.model, record=tuple(taps.TAPS)))
    tokens_BT = np.asarray(e.hazards.tokens_BP[:256])
    calls = {
        f"ablation, {value}": lambda v=value: ablation.ablate(replace(e), v)
        for value in ablation.VALUES
    } | {
        "record of every tap": lambda: jax.block_until_ready(record(params, tokens_BT)),
        "gate sensitivity": lambda: methods.gate_sensitivities(replace(e)),
    }
    for name, call in calls.items():
        taken = seconds(call)
        print(f"{name:24} median {median(taken):6.2f} s   best {min(taken):6.2f} s")


if __name__ == "__main__":
    start.start_jax()
    main()
