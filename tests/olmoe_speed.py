"""Training speed beside OlmoeForCausalLM of Hugging Face transformers, same shape, same batches.

    python tests/olmoe_speed.py [--threads 1] [--only grouped_mm]

Needs the dependency group ``oracle``, and a C++ compiler for torch.compile. Every contender is a
process of its own, all stay ready, and they take turns of one second each, so that whatever else
the machine does disturbs all of them alike. A step is forward, backward, clipping and AdamW, which
toymoe takes here instead of Muon: torch's Muon knows no stacks of matrices, as experts are. Its
step also draws its batch and computes the router's two losses, which torch is spared.

Two threads need two idle cores: where others use them too, torch's threads wait for each other and
its figures collapse. Then take one thread, and tokens per second of its own processor time.
"""

import argparse
import itertools
import os
import platform
import subprocess
import sys
import time
from statistics import median

ROUNDS = 7
SECONDS = 1.0
TOYMOE = "toymoe"
TORCH = [
    " ".join(choice)
    for choice in itertools.product(
        ("eager", "batched_mm", "grouped_mm"), ("sdpa", "eager"), ("plain", "compiled")
    )
]


# --- contenders, each in its own process --------------------------------------------------------


def toymoe_call():
    """A function that takes some steps and returns how many tokens went through the model."""
    import dataclasses

    from toymoe import start, world
    from toymoe.config import Config
    from toymoe.training import optimiser, phases

    start.set_flags()
    optimiser.of = lambda cfg, phase: optimiser.adam(cfg.pretrain.weight_decay)
    cfg = Config()
    cfg = dataclasses.replace(
        cfg,
        train=dataclasses.replace(cfg.train, chunk=10),
        pretrain=dataclasses.replace(cfg.pretrain, steps=1_000_000),
    )
    keys = phases.keys(0)
    tables = world.make_world(keys.world, cfg.world)
    probe_BP = world.sample(keys.measure, tables, cfg.world, 1).tokens_BP
    state = phases.start(phases.fresh_params(keys.init, cfg), cfg, "pretrain")
    chunks = phases.run_phase(state, 0, tables, probe_BP, cfg, "pretrain")
    tokens = cfg.train.chunk * cfg.train.batch * (len(world.roles(cfg.world)) - 1)

    def call():
        next(chunks)
        return tokens

    return call


def batches(n=8):
    """Some of toymoe's own pretraining batches, and the default configuration."""
    import jax
    import numpy as np

    from toymoe import world
    from toymoe.config import Config
    from toymoe.training import data, phases

    cfg = Config()
    keys = phases.keys(0)
    tables = world.make_world(keys.world, cfg.world)
    mix = data.mixture(tables, cfg, "pretrain")
    draw = jax.jit(lambda key: data.batch(key, tables, cfg, "pretrain", mix))
    return [np.array(draw(key)) for key in jax.random.split(keys.pretrain, n)], cfg


def torch_call(threads, experts, attention, how):
    """The same, by torch."""
    tokens, cfg = batches()
    import torch
    import transformers
    from transformers import OlmoeConfig, OlmoeForCausalLM

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    shape = cfg.model
    olmoe = OlmoeForCausalLM._from_config(
        OlmoeConfig(
            vocab_size=len(vocabulary(cfg)),
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_experts=shape.experts,
            intermediate_size=shape.expert_width,
            num_experts_per_tok=shape.top_k,
            norm_topk_prob=shape.norm_topk_prob,
            bos_token_id=0,
            eos_token_id=6,
            pad_token_id=None,
            use_cache=False,
        ),
        attn_implementation=attention,
        experts_implementation=experts,
    ).train()
    assert olmoe.config._attn_implementation == attention
    assert olmoe.config._experts_implementation == experts
    decay = [p for p in olmoe.parameters() if p.ndim > 1]
    rest = [p for p in olmoe.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW(
        [
            {"params": decay, "weight_decay": cfg.pretrain.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ],
        lr=1e-3,
        betas=(0.9, 0.98),
        fused=True,
    )

    def loss(tokens_BT):
        logits = olmoe(input_ids=tokens_BT[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens_BT[:, 1:].flatten())

    if how == "compiled":
        loss = torch.compile(loss)
    tokens = itertools.cycle([torch.tensor(tokens_BT, dtype=torch.long) for tokens_BT in tokens])

    def call():
        tokens_BT = next(tokens)
        optimiser.zero_grad(set_to_none=True)
        loss(tokens_BT).backward()
        torch.nn.utils.clip_grad_norm_(olmoe.parameters(), 1.0)
        optimiser.step()
        return tokens_BT[:, 1:].numel()

    return call


def vocabulary(cfg):
    from toymoe import world

    return world.vocabulary(cfg.world)


def work(name, threads):
    """One line when ready; then, for each line read, one with tokens per second, by the clock and
    by processor time."""
    try:
        call = toymoe_call() if name == TOYMOE else torch_call(threads, *name.split())
        for _ in range(10):  # compiles, warms up
            call()
    except Exception as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:70]}", flush=True)
        return
    print("ready", flush=True)
    for _ in sys.stdin:
        tokens, begin, cpu = 0, time.perf_counter(), time.process_time()
        while (taken := time.perf_counter() - begin) < SECONDS:
            tokens += call()
        print(tokens / taken, tokens / (time.process_time() - cpu), flush=True)


# --- the race -----------------------------------------------------------------------------------


def race(names, threads):
    """{name: tokens per second in each round, by the clock and by processor time}, without those
    that could not start."""
    workers = {}
    for name in names:
        workers[name] = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, "--work", name, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if (first := workers[name].stdout.readline().strip()) != "ready":
            print(f"{name}: {first or 'died'}")
            workers.pop(name).communicate()
    rates = {name: [] for name in workers}
    for _, (name, worker) in itertools.product(range(ROUNDS), workers.items()):
        worker.stdin.write("go\n")
        worker.stdin.flush()
        rates[name].append([float(word) for word in worker.stdout.readline().split()])
    for worker in workers.values():
        worker.communicate()
    return rates


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2, help="cores and threads for each")
    parser.add_argument("--only", default="", help="only rivals whose name has this in it")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return work(args.work, args.threads)
    if hasattr(os, "sched_setaffinity"):  # for jax, which takes all the cores it may
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-args.threads :])
    rates = race([TOYMOE, *(name for name in TORCH if args.only in name)], args.threads)
    clock, cpu = ({name: [r[i] for r in rates[name]] for name in rates} for i in (0, 1))
    order = sorted(rates, key=lambda name: -median(clock[name]))
    print("tokens/s: median   slowest   fastest   of cpu time   experts, attention, torch")
    for name in order:
        low, high = min(clock[name]), max(clock[name])
        middle, own = median(clock[name]), median(cpu[name])
        print(f"{middle:16,.0f} {low:9,.0f} {high:9,.0f} {own:13,.0f}   {name}")
    for kind, by in {"clock": clock, "cpu time": cpu}.items():
        best = max((name for name in by if name != TOYMOE), key=lambda name: median(by[name]))
        ratios = [a / b for a, b in zip(by[TOYMOE], by[best], strict=True)]
        print(
            f"by {kind}: toymoe / best torch ({best}) = {median(ratios):.2f}, "
            f"{min(ratios):.2f} to {max(ratios):.2f} over {ROUNDS} rounds"
        )
    print(f"{args.threads} threads, {platform.machine()}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
