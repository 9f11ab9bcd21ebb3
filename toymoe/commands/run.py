"""``toymoe run``: one model, trained, measured and drawn."""

import shlex
from pathlib import Path

from ..config import ConfigError, to_dict
from ..start import start_jax
from .common import config_of

EXPLORER = "explorer.html"  # the page that `toymoe explore` writes, without the models RASET tunes


def add(command) -> None:
    run = command(
        "run",
        _run,
        "Train, measure and draw one model; writes a folder with report.html and explorer.html",
        goes_on=_goes_on,
    )
    run.add_argument("--seed", default=None, metavar="N", help="default 0")
    run.add_argument("--out", default=None, metavar="DIR", help="default runs/PRESET-seed-N")
    how = run.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="go on with the run in --out")
    how.add_argument("--force", action="store_true", help="replace the run in --out")


def _folder(args) -> Path:
    return Path(args.out or f"runs/{args.preset or 'default'}-seed-{args.seed or 0}")


def _goes_on(args) -> str:
    out = _folder(args)
    there = (out / "config.json").is_file()
    return f"toymoe run --resume --out {shlex.quote(str(out))}" if there else ""


def _run(args) -> int:
    if args.resume and args.out is None:
        raise ConfigError("--resume needs the folder of the run: add --out DIR.")
    out = _folder(args)
    cfg = config_of(args, "0" if args.seed is None else args.seed)
    start_jax()
    from .. import model, world
    from ..organism import stored
    from ..pages import terminal
    from ..runs import folder, jobs, progress, report, runner

    console = terminal.console()
    if args.resume:
        begun = stored.config(out)
        given = args.preset or args.seed or args.set
        if given and to_dict(begun) != to_dict(cfg):
            raise ConfigError(
                f"{out} was started with other settings, which --resume keeps: leave --preset, "
                "--seed and --set away."
            )
        cfg = begun
    complete, too_large = args.resume and stored.is_complete(out), ""
    if complete:
        metrics = stored.metrics(out)
    else:
        model.check_size(cfg.model, len(world.vocabulary(cfg.world)))  # before an old run goes
        with jobs.alone(out) as say:
            if not args.resume:
                folder.prepare(out, args.force)
            with progress.Bars(console) as bars:

                def watch(p):
                    say(p)
                    bars.show(p)

                metrics = runner.run(cfg, out, watch)
                too_large = _explorer(out, bars)
    try:
        rows = report.summary(metrics)
        end = f"{metrics['timing']['total_s']:.0f} s."
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{out / 'metrics.json'} is damaged or of another version of toymoe: delete {out} and "
            "run again."
        ) from error
    if complete:
        console.print(f"{out} is complete already.", soft_wrap=True)
    console.print(terminal.table(("", "this run", "beside it"), rows))
    if too_large:
        console.print(f"No {EXPLORER} was written: {too_large}", highlight=False, soft_wrap=True)
    pages = [str(out / name) for name in ("report.html", EXPLORER) if (out / name).is_file()]
    if pages:  # a run of a sweep has none
        end += f" Open {' and '.join(pages)} in a browser."
    console.print(end, highlight=False, soft_wrap=True)
    return 0


def _explorer(out: Path, bars) -> str:
    """Write the page beside the report; or say why it cannot be written."""
    from .. import explorer
    from ..runs.progress import Progress

    bars.show(Progress("explore", 0, 1))
    try:
        explorer.write(out, out / EXPLORER, tuned=False)
    except ConfigError as error:
        return str(error)
    return ""
