"""``toymoe zoo``: organisms whose answer is known."""

from pathlib import Path

from ..start import start_jax
from .common import add_crew, check_crew, config_of, crew_of, folder, same_line, told, whole_number

HEAD = ("mechanism", "lesson", "kept", "do as taught", "others right", "parts set back", "the rest")


def add(command) -> None:
    zoo = command(
        "zoo",
        _zoo,
        "Write lessons into named parts of models, some of them shams: organisms whose answer is "
        "known, each verified by intervention.",
        goes_on=lambda args: same_line(args, where(args), "zoo.json"),
    )
    add_zoo(zoo)


def add_zoo(parser) -> None:
    """What says which zoo."""
    parser.add_argument("--seeds", default="0-4", help="such as 0-4 (the default) or 0,2,5-7")
    parser.add_argument(
        "--out", default=None, metavar="DIR", help="default runs/zoo; goes on there"
    )
    parser.add_argument(
        "--key", default="0", metavar="N", help="draws the organisms; another key, other organisms"
    )
    add_crew(parser)


def where(args) -> Path:
    """The folder of the zoo."""
    return folder(args, args.out or "runs/zoo")


def made(args):
    """Make the zoo that was asked for; see `toymoe.runs.jobs.Made`."""
    cfg = config_of(args)
    out, key = where(args), whole_number("key", args.key, 0, 2**31 - 1)
    check_crew(args, many=True)
    start_jax()
    from ..pages import terminal
    from ..runs import sweep
    from ..zoo import make

    seeds = sweep.parse_seeds(args.seeds)
    make.check(cfg, out, key)  # before the bars, so that an error is all that is said
    with crew_of(args) as crew, terminal.Steps(terminal.console()) as steps:
        return make.zoo(cfg, seeds, out, key, **told(steps), crew=crew)


def _zoo(args) -> int:
    found = made(args)
    from ..pages import terminal
    from ..zoo import make

    console, rows = terminal.console(), make.rows(found)
    console.print(terminal.table(HEAD, make.summary(rows)))
    kept = sum(row["holds"] for row in rows)
    console.print(
        f"{kept} of {len(rows)} organisms: their key held, and the rest is left out of every "
        f"score. Every number: {where(args) / 'zoo.csv'}.",
        highlight=False,
        soft_wrap=True,
    )
    return 1 if found.errors or not rows else 0
