"""``toymoe raset`` and ``toymoe defend``: attacks on refusal, and what holds against them."""

from pathlib import Path

from ..config import ConfigError
from .common import config_of, start_jax


def add(command) -> None:
    raset = command(
        "raset",
        _raset,
        "Tune few experts, steer the router, …: which attack removes refusal and keeps the rest?",
    )
    raset.add_argument(
        "run", nargs="?", default=None, metavar="DIR", help="a finished run, or a sweep's folder"
    )
    raset.add_argument(
        "--seeds", default=None, help="many seeds, such as 0-9, trained where needed"
    )
    raset.add_argument("--out", default=None, metavar="DIR", help="the folder of --seeds")
    defend = command(
        "defend",
        _defend,
        "Align with a defence, attack again: how many experts until refusal breaks?",
        settings=False,
    )
    defend.add_argument("run", metavar="DIR", help="a finished run, or a sweep's folder")


def _raset(args) -> int:
    if args.seeds is None and args.run is None:
        raise ConfigError("name the folder of a finished run, or give --seeds 0-9 --out DIR.")
    if args.seeds is not None and (args.run is not None or args.out is None):
        raise ConfigError("--seeds needs --out DIR, and no other folder: its runs go there.")
    if args.seeds is None and (args.preset or args.set or args.out):
        raise ConfigError("a finished run has its settings: leave --preset, --set and --out away.")
    out = Path(args.run if args.seeds is None else args.out)
    if args.seeds is None and not out.is_dir():
        raise ConfigError(f"{out} is no folder: name that of a finished run.")
    cfg = config_of(args)
    start_jax()
    from .. import raset_report, raset_run, screen, studies, sweep

    console = screen.Console(markup=False)
    if args.seeds is None and not (out / "sweep.json").is_file():
        with screen.Steps(console) as steps:
            made = raset_run.study(out, watch=lambda p: steps.show(p.stage, p.done, p.total))
            steps.show("drawing", 0, 1)
            page = raset_report.write(made, out / "raset")
            raset_report.into_report(made, out / "report.html")
        console.print(screen.table(raset_report.SHORT, raset_report.short(made["rows"])))
        console.print(f"Open {page} in a browser.", highlight=False, soft_wrap=True)
        return 0
    if args.seeds is None:
        folders, fresh = studies.seeds_of(out), None
    else:
        folders = {seed: out / f"seed-{seed}" for seed in sweep.parse_seeds(args.seeds)}
        fresh = cfg
        sweep.claim(cfg, out)
    with screen.Steps(console) as steps:
        made = raset_run.many(folders, out, fresh, **_shown(steps))
    if made.studies:
        raset_report.write_seeds(made.summary, made.studies, out / "raset")
        console.print(screen.table(raset_report.SHORT, raset_report.short_of_seeds(made.summary)))
    return _end(console, made, out, "raset")


def _shown(steps) -> dict:
    """What `toymoe.studies.many` calls, on a progress bar."""

    def watch(seed, p):
        steps.show(f"seed {seed}: {p.stage}", p.done, p.total)

    def done(seed, error):
        steps.finish(f"seed {seed}: {error or 'done'}")

    return {"watch": watch, "done": done}


def _end(console, made, out: Path, name: str) -> int:
    """Say what many seeds left; the exit code."""
    failed = [row["seed"] for row in made.rows if row["error"]]
    console.print(
        f"{len(made.rows) - len(failed)} of {len(made.rows)} seeds; every number: "
        f"{out / name}.csv, {out / name}-summary.csv; figures in {out / name}.",
        highlight=False,
        soft_wrap=True,
    )
    return 1 if failed else 0


def _defend(args) -> int:
    out = Path(args.run)
    if not out.is_dir():
        raise ConfigError(f"{out} is no folder: name that of a finished run, or of a sweep.")
    start_jax()
    from .. import defences_report, defences_run, screen, studies

    console = screen.Console(markup=False)
    head = "\nExperts attacked until fewer than half of the hazards are refused:"
    if (out / "sweep.json").is_file():
        with screen.Steps(console) as steps:
            made = defences_run.many(studies.seeds_of(out), out, **_shown(steps))
        if made.studies:
            defences_report.write_seeds(made, out / "defences")
            rows = defences_report.short_of_seeds(made)
            console.print(head, screen.table(defences_report.SHORT, rows), sep="\n")
        return _end(console, made, out, "defences")
    with screen.Steps(console) as steps:
        made = defences_run.study(out, watch=lambda p: steps.show(p.stage, p.done, p.total))
        page = defences_report.write(made, out / "defences")
    rows = defences_report.short(made)
    console.print(head, screen.table(defences_report.SHORT, rows), sep="\n")
    console.print(f"Open {page} in a browser.", highlight=False, soft_wrap=True)
    return 0
