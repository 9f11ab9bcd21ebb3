"""The command line, and the only module that prints.

JAX is imported by the commands that need it, so that --help answers at once.
"""

import argparse
import difflib
import json
import os
import re
import sys
from pathlib import Path

from . import __version__
from .config import PRESETS, Config, ConfigError, build, setting_names, to_dict

CACHE = "TOYMOE_CACHE"
COMMANDS = ("run", "sweep", "bench", "doctor")


def main(argv: list[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 (training failed), 2 (bad input) or 130 (Ctrl-C)."""
    args = argparse.Namespace()
    try:
        args = _parse(argv)
        return args.command(args)
    except KeyboardInterrupt:
        again = f": `toymoe run --resume --out {args.out}` goes on" if "resume" in args else ""
        return _fail(f"interrupted{again}.", 130)
    except BrokenPipeError:  # the reader of a pipe went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ConfigError as error:
        return _fail(error, 2)
    except OSError as error:  # no space left, no permission
        return _fail(error, 1)
    except Exception as error:
        # By name, because importing their modules would import JAX.
        if type(error).__name__ == "CheckpointError":
            return _fail(error, 2)
        if type(error).__name__ == "TrainingError":
            return _fail(error, 1)
        raise


def _fail(message, code: int) -> int:
    print("toymoe:", " ".join(str(message).splitlines()), file=sys.stderr)
    return code


# --- words --------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message):  # one line instead of the usage
        raise ConfigError(f"{message}: `{self.prog} --help` lists what there is.")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    argv = sys.argv[1:] if argv is None else argv
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        near = difflib.get_close_matches(argv[0], COMMANDS, 1, 0.0)[0]
        raise ConfigError(
            f"command {argv[0]!r} is not known: it must be one of {', '.join(COMMANDS)}; "
            f"did you mean {near!r}?"
        )
    args, extra = _parser().parse_known_args(argv)
    if extra:
        given = next((word for word in extra if word.startswith("-")), extra[0])
        near = difflib.get_close_matches(given, re.findall(r"--[a-z]+", args.usage()), 1, 0.0)
        hint = f"; did you mean {near[0]!r}?" if given.startswith("-") and near else "."
        raise ConfigError(f"{given!r} is not known here{hint}")
    return args


def _parser() -> argparse.ArgumentParser:
    defaults = build()
    lines = []
    for name in setting_names():
        part, _, key = name.partition(".")
        value = getattr(getattr(defaults, part), key) if key else getattr(defaults, part)
        if key:
            lines.append(
                f"  {name} = {value}".lower() if isinstance(value, bool) else f"  {name} = {value}"
            )
    parser = _Parser(
        prog="toymoe",
        description="A toy mixture-of-experts model: watch routing specialise and refusal "
        "localise. Start with `toymoe run --preset smoke`.",
    )
    parser.add_argument("--version", action="version", version=f"toymoe {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, function, text, settings=True):
        sub = commands.add_parser(
            name,
            help=text,
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog="settings and their defaults:\n" + "\n".join(lines) if settings else None,
        )
        sub.set_defaults(command=function, usage=sub.format_usage)
        if settings:
            sub.add_argument("--preset", default=None, help=f"{' or '.join(PRESETS)}")
            sub.add_argument(
                "--set",
                nargs="+",
                action="extend",
                default=[],
                metavar="NAME=VALUE",
                help="change settings, such as world.topics=12",
            )
        return sub

    run = command(
        "run", _run, "Train, measure and draw one model; writes a folder with report.html"
    )
    run.add_argument("--seed", default=None, metavar="N", help="default 0")
    run.add_argument("--out", default=None, metavar="DIR", help="default runs/PRESET-seed-N")
    how = run.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="go on with the run in --out")
    how.add_argument("--force", action="store_true", help="replace the run in --out")
    many = command("sweep", _sweep, "Many seeds: sweep.csv, a row each, with median and interval")
    many.add_argument("--seeds", default="0-9", help="such as 0-9 (the default) or 0,2,5-7")
    many.add_argument("--out", required=True, metavar="DIR", help="goes on if it holds this sweep")
    speed = command("bench", _bench, "Training speed, beside this machine's matmul rate")
    speed.add_argument("--json", action="store_true", help="one JSON object on standard output")
    command("doctor", _doctor, "Can this machine run toymoe, and how fast?", settings=False)
    return parser


def _config(args, seed="0") -> Config:
    overrides = {}
    for pair in args.set:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair!r} is not possible: write NAME=VALUE.")
        if name == "seed":
            raise ConfigError(
                "the seed is not set with --set: use --seed (run) or --seeds (sweep)."
            )
        overrides[name] = value
    if not str(seed).isdecimal() or len(str(seed)) > 10:
        raise ConfigError(f"--seed {seed} is not possible: it must be a whole number from 0 on.")
    return build(args.preset or "default", int(seed), overrides)


def _start_jax() -> None:
    """Quiet JAX, and let it keep compiled programs between starts."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import jax

    where = os.environ.get(CACHE, "")
    if where.lower() in ("off", "0", "no", "false"):
        return
    if where:
        folder = Path(where).expanduser()
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches" / "toymoe"
    elif os.name == "nt":
        folder = Path(os.environ.get("LOCALAPPDATA", Path.home())) / "toymoe"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "toymoe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # no cache is slower, not wrong
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


# --- commands -----------------------------------------------------------------------------------


def _run(args) -> int:
    from rich.console import Console

    if args.resume and args.out is None:
        raise ConfigError("--resume needs the folder of the run: add --out DIR.")
    out = Path(args.out or f"runs/{args.preset or 'default'}-seed-{args.seed or 0}")
    args.out = out
    cfg = _config(args, "0" if args.seed is None else args.seed)
    _start_jax()
    from . import report, runner

    console = Console(markup=False)
    if args.resume and not runner.is_startable(out):
        raise ConfigError(f"{out} holds no run: there is nothing to resume.")
    if args.resume and (out / "config.json").is_file():
        stored = runner.stored_config(out)
        given = args.preset or args.seed or args.set
        if given and to_dict(stored) != to_dict(cfg):
            raise ConfigError(
                f"{out} was started with other settings, which --resume keeps: leave --preset, "
                "--seed and --set away."
            )
        cfg = stored
    elif not args.resume:
        runner.prepare(out, args.force)
    if args.resume and runner.is_complete(out):
        console.print(f"{out} is complete already.", soft_wrap=True)
        metrics = runner.stored_metrics(out)
    else:
        with _Bars(console) as bars:
            metrics = runner.run(cfg, out, bars.show)
    console.print(_table(("", "this run", "paper"), report.summary(metrics)))
    seconds = metrics["timing"]["total_s"]
    end = f"{seconds:.0f} s. Open {out / 'report.html'} in a browser."
    console.print(end, highlight=False, soft_wrap=True)
    return 0


def _sweep(args) -> int:
    from rich.console import Console

    cfg = _config(args)
    _start_jax()
    from . import report, sweep

    seeds, out, console = sweep.parse_seeds(args.seeds), Path(args.out), Console(markup=False)
    sweep.claim(cfg, out)  # before the bars, so that an error is all that is said
    with _Bars(console) as bars:

        def done(seed, error):
            bars.finish(f"seed {seed}: {error or 'done'}")

        rows, summary = sweep.sweep(cfg, seeds, out, lambda seed, p: bars.show(p, seed), done)
    shown = []
    for name, sign in sweep.HEADLINES.items():
        if name in summary:
            s = summary[name]
            worst = "" if not sign else report.number(s["min"] if sign > 0 else s["max"], 4)
            low, high = report.number(s["low"], 4), report.number(s["high"], 4)
            shown.append((name, report.number(s["median"], 4), f"{low} – {high}", worst))
    failed = [row["seed"] for row in rows if row["error"]]
    console.print(_table(("", "median", "95 % interval", "worst"), shown))
    console.print(
        f"{len(rows) - len(failed)} of {len(rows)} seeds; every number: {out / 'sweep.csv'}, "
        f"{out / 'summary.csv'}.",
        highlight=False,
        soft_wrap=True,
    )
    return 1 if failed else 0


def _bench(args) -> int:
    from rich.console import Console

    cfg = _config(args)
    _start_jax()
    from . import bench

    console = Console(stderr=True)
    with console.status("compiling and measuring, about half a minute"):
        result = bench.measure(cfg)
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
    Console().print(_table(("", "median of windows"), rows))
    return 0


def _doctor(args) -> int:
    from rich.console import Console

    from . import doctor

    console = Console(markup=False)
    with console.status("looking and measuring, about three seconds"):
        found = doctor.examine()
    mark = {True: "ok", False: "PROBLEM", None: "?"}
    rows = [(row.name, row.value, mark[row.ok], row.advice) for row in found.rows]
    console.print(_table(("", "found", "", "what to do"), rows))
    if found.estimate:
        first, again = found.estimate["total_s"], found.estimate["again_s"]
        console.print(
            f"`toymoe run` will take about {first:.0f} s, and {again:.0f} s once compiled."
        )
    console.print("toymoe runs here." if found.ok else "toymoe does not run here yet.")
    return 0 if found.ok else 1


# --- on screen ----------------------------------------------------------------------------------


def _table(head, rows):
    from rich import box
    from rich.table import Table

    table = Table(*head, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(str, row))
    return table


STAGES = dict(pretrain="pretraining", align="alignment", analyse="measuring", draw="drawing")


class _Bars:
    """A progress bar per stage, with loss, accuracy, NMI and the time left."""

    def __init__(self, console):
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("{task.description:<20}"),
            BarColumn(24),
            TextColumn("{task.completed:>5.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}"),
            console=console,
        )
        self._task, self._stage = None, None

    def __enter__(self):
        self._bars.start()
        return self

    def __exit__(self, *_):
        self._end()
        self._bars.stop()

    def show(self, p, seed: int | None = None) -> None:
        """The progress of a run."""
        if (p.stage, seed) != self._stage:
            self._end()
            label = "" if seed is None else f"seed {seed}: "
            self._stage = (p.stage, seed)
            self._task = self._bars.add_task(
                label + STAGES[p.stage], total=p.total, completed=p.done, now=""
            )
        now = ""
        if p.loss is not None:
            now = f"loss {p.loss:.3f}  accuracy {p.accuracy:.3f}  NMI {p.nmi:.2f}"
        self._bars.update(self._task, completed=p.done, now=now)

    def finish(self, line: str) -> None:
        """Put a line in the place of a seed's bars."""
        for task in list(self._bars.task_ids):
            self._bars.remove_task(task)
        self._task, self._stage = None, None
        self._bars.console.print(line, highlight=False)

    def _end(self) -> None:
        if self._task is not None and self._stage[0] in ("analyse", "draw"):
            self._bars.update(self._task, completed=1)


if __name__ == "__main__":
    sys.exit(main())
