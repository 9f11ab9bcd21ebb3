"""``toymoe bench``: training speed, beside this machine's matmul rate."""

import json

from ..start import start_jax
from .common import config_of


def add(command) -> None:
    speed = command("bench", _bench, "Training speed, beside this machine's matmul rate")
    speed.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _bench(args) -> int:
    cfg = config_of(args)
    start_jax()
    from ..machine import bench
    from ..pages import terminal

    console, what = terminal.console(stderr=True), "compiling and measuring, about half a minute"
    with console.status(what) as status:
        result = bench.measure(cfg, lambda done, of: status.update(f"{what}: {done} of {of}"))
    if args.json:
        print(json.dumps(result))
        return 0
    rows = [
        ("training, tokens per second", f"{result['tokens_per_s']:,.0f}"),
        ("training, GFLOP/s", f"{result['model_gflops']:.1f}"),
        ("this machine's float32 matmul, GFLOP/s", f"{result['matmul_gflops']:.1f}"),
        ("fraction", f"{result['fraction']:.1%}"),
        *((name.replace("_", " "), f"{value:,}") for name, value in result["shape"].items()),
    ]
    terminal.console().print(terminal.table(("", "median of windows"), rows))
    return 0
