"""``toymoe defend``: alignments with a defence, attacked again."""

from pathlib import Path

from ..config import ConfigError
from ..start import start_jax
from .common import end_of_seeds, watched_by


def add(command) -> None:
    defend = command(
        "defend",
        _defend,
        "Align with a defence, attack again: how many experts until refusal breaks?",
        settings=False,
    )
    defend.add_argument("run", metavar="DIR", help="a finished run, or a sweep's folder")


def _defend(args) -> int:
    out = Path(args.run)
    if not out.is_dir():
        raise ConfigError(f"{out} is no folder: name that of a finished run, or of a sweep.")
    start_jax()
    from ..defences import report, study
    from ..pages import terminal
    from ..runs import studies

    console = terminal.console()
    head = "\nExperts attacked until fewer than half of the hazards are refused:"
    if (out / "sweep.json").is_file():
        with terminal.Steps(console) as steps:
            made = study.many(studies.seeds_of(out), out, **watched_by(steps))
        if made.studies:
            report.write_seeds(made, out / "defences")
            rows = report.short_of_seeds(made)
            console.print(head, terminal.table(report.SHORT, rows), sep="\n")
        return end_of_seeds(console, made, out, "defences")
    with terminal.Steps(console) as steps:
        made = study.study(out, watch=lambda p: steps.show(p.stage, p.done, p.total))
        page = report.write(made, out / "defences")
    rows = report.short(made)
    console.print(head, terminal.table(report.SHORT, rows), sep="\n")
    console.print(f"Open {page} in a browser.", highlight=False, soft_wrap=True)
    return 0
