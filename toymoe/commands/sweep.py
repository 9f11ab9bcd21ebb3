"""``toymoe sweep``: many seeds of one configuration."""

from pathlib import Path

from ..start import start_jax
from .common import add_crew, check_crew, config_of, crew_of, folder, same_line


def add(command) -> None:
    many = command(
        "sweep",
        _sweep,
        "Many seeds: sweep.csv, a row each, with median and interval",
        goes_on=lambda args: same_line(args, Path(args.out), "sweep.json"),
    )
    many.add_argument("--seeds", default="0-9", help="such as 0-9 (the default) or 0,2,5-7")
    many.add_argument("--out", required=True, metavar="DIR", help="goes on if it holds this sweep")
    many.add_argument("--together", action="store_true", help="train all in one program")
    add_crew(many)


def _sweep(args) -> int:
    cfg = config_of(args)
    check_crew(args, many=True)
    start_jax(join=args.together)
    from ..pages import tables, terminal
    from ..runs import progress, sweep, together

    seeds, out, console = (
        sweep.parse_seeds(args.seeds),
        folder(args, args.out),
        terminal.console(),
    )
    sweep.claim(cfg, out)  # before the bars, so that an error is all that is said
    with crew_of(args) as crew, progress.Bars(console) as bars:

        def watch(seed, p):
            bars.show(p, seed)

        if args.together:
            together.train(cfg, seeds, out, watch)
        rows, summary = sweep.sweep(cfg, seeds, out, watch, bars.finish, crew)
    shown = []
    for name, sign in sweep.HEADLINES.items():
        if name in summary:
            s = summary[name]
            worst = "" if not sign else tables.number(s["min"] if sign > 0 else s["max"], 4)
            low, high = tables.number(s["low"], 4), tables.number(s["high"], 4)
            shown.append((name, tables.number(s["median"], 4), f"{low} – {high}", worst))
    failed = [row["seed"] for row in rows if row["error"]]
    console.print(terminal.table(("", "median", "95 % interval", "worst"), shown))
    console.print(
        f"{len(rows) - len(failed)} of {len(rows)} seeds; every number: {out / 'sweep.csv'}, "
        f"{out / 'summary.csv'}.",
        highlight=False,
        soft_wrap=True,
    )
    return 1 if failed else 0
