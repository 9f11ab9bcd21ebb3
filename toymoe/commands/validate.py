"""``toymoe validate``: do attribution methods find what was planted?"""

from pathlib import Path

from ..start import start_jax
from .common import add_crew, check_crew, config_of, crew_of, folder, same_line, told, whole_number


def add(command) -> None:
    validate = command(
        "validate",
        _validate,
        "Plant refusal in known places: which attribution methods find it, and which raise false "
        "alarms?",
        goes_on=lambda args: same_line(args, _folder(args), "sweep.json"),
    )
    validate.add_argument("--seeds", default="0-2", help="such as 0-2 (the default) or 0,2,5-7")
    validate.add_argument(
        "--out", default=None, metavar="DIR", help="default runs/validate; goes on there"
    )
    add_crew(validate)
    validate.add_argument(
        "--seats", default="10", metavar="N", help="single experts planted per seed, default 10"
    )


def _folder(args) -> Path:
    return folder(args, args.out or "runs/validate")


def _validate(args) -> int:
    cfg = config_of(args)
    out, seats = _folder(args), whole_number("seats", args.seats, 0, 10**6)
    check_crew(args, many=True)
    start_jax()
    from .. import checkpoint
    from ..pages import style, terminal
    from ..runs import sweep
    from ..validation import plots, study

    console, seeds = terminal.console(), sweep.parse_seeds(args.seeds)
    study.check(cfg, out, seats)  # before the bar, so that an error is all that is said
    with crew_of(args) as crew, terminal.Steps(console) as steps:
        result = study.validate(cfg, seeds, out, seats, **told(steps), crew=crew)
    if result["counts"]:
        image = style.png(plots.validation(result))
        checkpoint.write_atomic(out / "validate.png", image)
    _show(console, result)
    console.print(f"Every number: {out / 'validate.json'}, {out / 'organisms.csv'}.")
    return 1 if result["errors"] else 0


def _show(console, result: dict) -> None:
    from ..pages import tables, terminal

    rows = [
        (
            row["method"].replace("_", " "),
            _percent(row["hit"], True),
            *(_percent(row[name]) for name in ("found", "pair")),
            _percent(row["alarms"], True),
            tables.number(row["correlation"]["median"], 2),
            tables.number(row["earned"], 2),
        )
        for row in result["methods"]
    ]
    head = ("%", "named first", "found", "pair", "false alarms", "rank corr.", "earned")
    console.print(terminal.table(head, rows))
    for kind, count in result["counts"].items():
        little = result["too_little"].get(kind, 0)
        apart = f", {little} of them refuse too little to count" if little else ""
        console.print(f"{count} {kind}{apart}", highlight=False)
    for name, rate in result["swaps"].items():
        named = f"component named by weight swaps where the seat is in {name}"
        console.print(f"{named}: {_percent(rate, True)} %", highlight=False)


def _percent(rate: dict, interval: bool = False) -> str:
    if not rate["n"]:
        return "–"
    shown, low, high = (f"{100 * rate[key]:.0f}" for key in ("rate", "low", "high"))
    return f"{shown} ({low}–{high})" if interval else shown
