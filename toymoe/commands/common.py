"""What several commands share: the settings given, progress and the end of many seeds."""

from contextlib import contextmanager, nullcontext
from pathlib import Path

from ..config import Config, ConfigError, build


def config_of(args, seed="0") -> Config:
    """The configuration that ``--preset``, ``--set`` and a seed ask for.

    Raises:
      ConfigError: a pair without "=", the seed among them, no whole number as seed; and what
        `toymoe.config.build` refuses.
    """
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


def folder_of_runs(args) -> Path:
    """The folder of a finished run, or of a sweep."""
    out = folder(args, args.run)
    if not out.is_dir():
        raise ConfigError(f"{out} is no folder: name that of a finished run, or of a sweep.")
    return out


def study_one(study, report, out: Path, name: str, head: str = "", **settings) -> int:
    """Make the study of one finished run, in its folder ``name``; the exit code.

    Args:
      study, report: the modules of an attack's or defence's room.
      head: a line above the table.
      settings: more for ``study.study``.
    """
    from ..pages import terminal

    console = terminal.console()
    with alone(out, console) as (watch, steps):
        made = study.study(out, watch=watch, **settings)
        steps.show("drawing", 0, 1)
        page = report.write(made, out / name)
    console.print(*filter(None, (head, terminal.table(report.SHORT, report.short(made)))), sep="\n")
    console.print(f"Open {page} in a browser.", highlight=False, soft_wrap=True)
    return 0


@contextmanager
def alone(out: Path, console):
    """What shows the progress of a study of one run, `toymoe.pages.terminal.Steps`, after what is
    to be called with it; others are kept from the run meanwhile, see `toymoe.runs.jobs.alone`."""
    from ..pages import terminal
    from ..runs import jobs

    with jobs.alone(out) as say, terminal.Steps(console) as steps:

        def watch(p):
            say(p)
            steps.show(p.stage, p.done, p.total)

        yield watch, steps


def study_seeds(
    study, report, seeds, out: Path, name: str, crew, head: str = "", **settings
) -> int:
    """`study_one` of every seed's run, and the medians over them; the exit code.

    Args:
      crew: see `crew_of`.
      settings: more for ``study.many``.
    """
    from ..pages import terminal

    console = terminal.console()
    with terminal.Steps(console) as steps:
        made = study.many(seeds, out, **told(steps), crew=crew, **settings)
    if made.studies:
        report.write_seeds(made, out / name)
        table = terminal.table(report.SHORT, report.short_of_seeds(made))
        console.print(*filter(None, (head, table)), sep="\n")
    failed = [row["seed"] for row in made.rows if row["error"]]
    console.print(
        f"{len(made.rows) - len(failed)} of {len(made.rows)} seeds; every number: "
        f"{out / name}.csv, {out / name}-summary.csv; figures in {out / name}.",
        highlight=False,
        soft_wrap=True,
    )
    return 1 if failed else 0


# --- many seeds at once ---------------------------------------------------------------------------


def add_crew(parser) -> None:
    """The options that `crew_of` reads."""
    parser.add_argument(
        "--jobs", default=None, metavar="N", help="so many seeds at once; default 1"
    )
    parser.add_argument("--cluster", default=None, metavar="ADDRESS", help="of a Dask scheduler")


def check_crew(args, many: bool) -> None:
    """Raise a ConfigError where the options are not possible."""
    if args.jobs is not None and args.cluster is not None:
        raise ConfigError("--jobs and --cluster exclude each other: the cluster says how many.")
    if args.jobs is not None:
        whole_number("jobs", args.jobs, 1, 1000)
    if not many and (args.jobs, args.cluster) != (None, None):
        raise ConfigError("--jobs and --cluster are for many seeds: name the folder of a sweep.")


def crew_of(args):
    """What works on the seeds, in a ``with``: None where this process does."""
    from ..runs import crew

    if args.cluster is not None:
        return crew.cluster(args.cluster)
    n = int(args.jobs or 1)
    return crew.Processes(n) if n > 1 else nullcontext()


def folder(args, given: str) -> Path:
    """Where the seeds are; with its whole path where it goes to other machines."""
    return Path(given).resolve() if args.cluster else Path(given)


def told(bars) -> dict:
    """What `toymoe.runs.jobs.make` calls, so that bars show it."""
    return {
        "watch": lambda seed, p: bars.show(p.stage, p.done, p.total, seed),
        "done": bars.finish,
    }


def same_line(args, out: Path, *begun: str) -> str:
    """The line given, which goes on if one of these files (patterns) is in ``out``; else ""."""
    return args.line if any(any(out.glob(pattern)) for pattern in begun) else ""


def whole_number(name: str, given: str, low: int, high: int) -> int:
    """The number that ``--name`` gives.

    Raises:
      ConfigError: it is none, or not from ``low`` to ``high``.
    """
    if not given.isdecimal() or len(given) > 12 or not low <= int(given) <= high:
        raise ConfigError(
            f"--{name} {given:.40} is not possible: it must be a whole number from {low} to {high}."
        )
    return int(given)
