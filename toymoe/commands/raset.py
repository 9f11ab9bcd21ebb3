"""``toymoe raset``: every attack on refusal, measured alike."""

from pathlib import Path

from ..config import ConfigError
from ..start import start_jax
from .common import config_of, end_of_seeds, watched_by


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
    from ..attacks import report, study
    from ..pages import terminal
    from ..runs import studies, sweep

    console = terminal.console()
    if args.seeds is None and not (out / "sweep.json").is_file():
        with terminal.Steps(console) as steps:
            made = study.study(out, watch=lambda p: steps.show(p.stage, p.done, p.total))
            steps.show("drawing", 0, 1)
            page = report.write(made, out / "raset")
            report.into_report(made, out / "report.html")
        console.print(terminal.table(report.SHORT, report.short(made["rows"])))
        console.print(f"Open {page} in a browser.", highlight=False, soft_wrap=True)
        return 0
    if args.seeds is None:
        folders, fresh = studies.seeds_of(out), None
    else:
        folders = {seed: out / f"seed-{seed}" for seed in sweep.parse_seeds(args.seeds)}
        fresh = cfg
        sweep.claim(cfg, out)
    with terminal.Steps(console) as steps:
        made = study.many(folders, out, fresh, **watched_by(steps))
    if made.studies:
        report.write_seeds(made.summary, made.studies, out / "raset")
        console.print(terminal.table(report.SHORT, report.short_of_seeds(made.summary)))
    return end_of_seeds(console, made, out, "raset")
