"""``toymoe defend``: alignments with a defence, attacked again."""

from pathlib import Path

from ..start import start_jax
from .common import (
    add_crew,
    check_crew,
    crew_of,
    folder_of_runs,
    same_line,
    study_one,
    study_seeds,
)

BEGUN = ("defences/study.json", "seed-*/defences/study.json")
HEAD = (
    "\nExperts attacked until fewer than half of the hazards are refused (answered: until any of "
    "these attacks has more than half answered right):"
)


def add(command) -> None:
    defend = command(
        "defend",
        _defend,
        "Align with a defence, attack again: how many experts until refusal breaks?",
        settings=False,
        goes_on=lambda args: same_line(args, Path(args.run), *BEGUN),
    )
    defend.add_argument("run", metavar="DIR", help="a finished run, or a sweep's folder")
    add_crew(defend)


def _defend(args) -> int:
    out = folder_of_runs(args)
    many = (out / "sweep.json").is_file()
    check_crew(args, many)
    start_jax()
    from ..defences import report, study
    from ..runs import studies

    if not many:
        return study_one(study, report, out, "defences", HEAD)
    seeds = studies.seeds_of(out)
    with crew_of(args) as crew:
        return study_seeds(study, report, seeds, out, "defences", crew, HEAD)
