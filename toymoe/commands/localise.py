"""``toymoe localise``: is the same seat found again, by a second alignment and in a sham?"""

from pathlib import Path

from ..start import start_jax
from .common import add_crew, alone, check_crew, crew_of, folder_of_runs, same_line, told

BEGUN = ("seed-*/realigned/study.json",)
HEAD = ("", "refuses", "hazards refused", "m50", "m50 of the first", "rank corr.", "top in common")
SHOWN = ("refusal", "hazards_refused", "m50", "m50_of_first", "correlation", "shared")


def add(command) -> None:
    localise = command(
        "localise",
        _localise,
        "Align once more, and to another lesson: are the same experts found?",
        settings=False,
        goes_on=lambda args: same_line(args, Path(args.run), *BEGUN),
    )
    localise.add_argument("run", metavar="DIR", help="a finished run, or a sweep's folder")
    add_crew(localise)


def _localise(args) -> int:
    out = folder_of_runs(args)
    many = (out / "sweep.json").is_file()
    check_crew(args, many)
    start_jax()
    from ..pages import tables, terminal
    from ..runs import studies
    from ..validation import realigned

    console = terminal.console()
    if many:
        with crew_of(args) as crew, terminal.Steps(console) as steps:
            made = realigned.many(studies.seeds_of(out), out, **told(steps), crew=crew)
    else:
        with alone(out, console) as (watch, _):
            one = realigned.study(out, watch)

    def shown(ranking, name):
        if many:
            return tables.interval(made.summary.get(f"{ranking}.{name}"), 2)
        return tables.number(one["rankings"][ranking][name], 2)

    rows = [(r, *(shown(r, name) for name in SHOWN)) for r in ("first", "second", "sham")]
    console.print(terminal.table(HEAD, rows))
    where = f"{out / 'realigned.csv'}" if many else f"{out / 'realigned' / 'study.json'}"
    console.print(f"Every number: {where}.", highlight=False, soft_wrap=True)
    return 1 if many and any(row["error"] for row in made.rows) else 0
