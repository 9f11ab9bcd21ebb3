"""What several commands share: the settings given, progress and the end of many seeds."""

from pathlib import Path

from ..config import Config, ConfigError, build


def config_of(args, seed="0") -> Config:
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


def folder_of_runs(given: str) -> Path:
    """The folder of a finished run, or of a sweep."""
    out = Path(given)
    if not out.is_dir():
        raise ConfigError(f"{out} is no folder: name that of a finished run, or of a sweep.")
    return out


def study_one(study, report, out: Path, name: str, head: str = "") -> int:
    """Make the study of one finished run, in its folder ``name``; the exit code.

    Args:
      study, report: the modules of an attack's or defence's room.
      head: a line above the table.
    """
    from ..pages import terminal

    console = terminal.console()
    with terminal.Steps(console) as steps:
        made = study.study(out, watch=lambda p: steps.show(p.stage, p.done, p.total))
        steps.show("drawing", 0, 1)
        page = report.write(made, out / name)
    console.print(*filter(None, (head, terminal.table(report.SHORT, report.short(made)))), sep="\n")
    console.print(f"Open {page} in a browser.", highlight=False, soft_wrap=True)
    return 0


def study_seeds(study, report, folders, out: Path, name: str, head: str = "", **settings) -> int:
    """`study_one` of every seed's run, and the medians over them; the exit code.

    Args:
      folders: the run of each seed.
      settings: more for ``study.many``.
    """
    from ..pages import terminal

    console = terminal.console()
    with terminal.Steps(console) as steps:

        def watch(seed, p):
            steps.show(f"seed {seed}: {p.stage}", p.done, p.total)

        def done(seed, error):
            steps.finish(f"seed {seed}: {error or 'done'}")

        made = study.many(folders, out, watch=watch, done=done, **settings)
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


def same_line(args, out: Path, *begun: str) -> str:
    """The line given, which goes on if one of these files (patterns) is in ``out``; else ""."""
    return args.line if any(any(out.glob(pattern)) for pattern in begun) else ""


def whole_number(name: str, given: str, low: int, high: int) -> int:
    if not given.isdecimal() or len(given) > 12 or not low <= int(given) <= high:
        raise ConfigError(
            f"--{name} {given:.40} is not possible: it must be a whole number from {low} to {high}."
        )
    return int(given)
