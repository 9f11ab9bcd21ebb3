"""``toymoe bench`` and ``toymoe doctor``."""

import json
import os

from .common import config_of, start_jax


def add(command) -> None:
    speed = command("bench", _bench, "Training speed, beside this machine's matmul rate")
    speed.add_argument("--json", action="store_true", help="one JSON object on standard output")
    command("doctor", _doctor, "Can this machine run toymoe, and how fast?", settings=False)


def _bench(args) -> int:
    cfg = config_of(args)
    start_jax()
    from .. import bench, screen

    console, what = screen.Console(stderr=True), "compiling and measuring, about half a minute"
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
    screen.Console().print(screen.table(("", "median of windows"), rows))
    return 0


def _doctor(args) -> int:
    # As in start_jax, without importing JAX, which may be what is broken.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from .. import doctor

    mark = {True: "ok", False: "PROBLEM", None: "?"}
    try:
        from .. import screen
    except ImportError:  # rich is what is missing
        for row in doctor.examine().rows:
            print(f"{row.name}: {row.value}, {mark[row.ok]}. {row.advice}")
        return 1
    console = screen.Console(markup=False)
    with console.status("looking and measuring, about three seconds"):
        found = doctor.examine()
    rows = [(row.name, row.value, mark[row.ok], row.advice) for row in found.rows]
    console.print(screen.table(("", "found", "", "what to do"), rows))
    if found.estimate:
        first, again = found.estimate["total_s"], found.estimate["again_s"]
        console.print(
            f"`toymoe run` will take about {first:.0f} s, and {again:.0f} s once compiled."
        )
        from .. import lesson

        rows = lesson.expected(found.estimate["compile_s"] / doctor.RUN["compile_s"])
        shown = [(n, title, f"{m} min", "" if s is None else f"{s} s") for n, title, m, s in rows]
        console.print(screen.table(("lesson", "", "your time", "of it computing"), shown))
    console.print("toymoe runs here." if found.ok else "toymoe does not run here yet.")
    return 0 if found.ok else 1
