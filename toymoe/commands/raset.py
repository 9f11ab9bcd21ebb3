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
    defend.add_argument("run", metavar="DIR", help="a finished run")


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
    from .. import raset_report, raset_run, screen, sweep

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
        folders = raset_run.seeds_of(out)
    else:
        folders = {seed: out / f"seed-{seed}" for seed in sweep.parse_seeds(args.seeds)}
        sweep.claim(cfg, out)
    with screen.Steps(console) as steps:

        def watch(seed, p):
            steps.show(f"seed {seed}: {p.stage}", p.done, p.total)

        def done(seed, error):
            steps.finish(f"seed {seed}: {error or 'done'}")

        fresh = cfg if args.seeds is not None else None
        rows, summary, studies = raset_run.many(folders, out, fresh, watch=watch, done=done)
    failed = [row["seed"] for row in rows if row["error"]]
    if studies:
        raset_report.write_seeds(summary, studies, out / "raset")
        console.print(screen.table(raset_report.SHORT, raset_report.short_of_seeds(summary)))
    console.print(
        f"{len(rows) - len(failed)} of {len(rows)} seeds; every number: {out / 'raset.csv'}, "
        f"{out / 'raset-summary.csv'}; figures in {out / 'raset'}.",
        highlight=False,
        soft_wrap=True,
    )
    return 1 if failed else 0


def _defend(args) -> int:
    out = Path(args.run)
    if not out.is_dir():
        raise ConfigError(f"{out} is no folder: name that of a finished run.")
    start_jax()
    from .. import defences_run, screen

    console = screen.Console(markup=False)
    with screen.Steps(console) as steps:
        made = defences_run.study(out, watch=lambda p: steps.show(p.stage, p.done, p.total))
        page = defences_run.write(made, out / "defences")
    console.print("\nExperts attacked until fewer than half of the hazards are refused:")
    console.print(screen.table(defences_run.SHORT, defences_run.short(made)))
    console.print(f"Open {page} in a browser.", highlight=False, soft_wrap=True)
    return 0
