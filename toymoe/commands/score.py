"""``toymoe score``: does a method find what was written into a zoo's organisms?"""

from pathlib import Path

from ..start import start_jax
from .common import add_crew, check_crew, crew_of, folder, same_line, told

BEGUN = "method.json"


def add(command) -> None:
    score = command(
        "score",
        _score,
        "Score a method of yours, or of the list, on the organisms of a zoo: which parts refuse "
        "hazards, beyond their twins?",
        settings=False,
        goes_on=lambda args: same_line(args, _folder(args), BEGUN),
    )
    score.add_argument(
        "method",
        metavar="METHOD",
        help="a file.py with one function (evidence -> scores [L, E], or names of parts), a "
        "scores.json, a name of the list, or all of it: all",
    )
    score.add_argument(
        "zoo",
        metavar="ZOO",
        nargs="?",
        default=None,
        help="a folder of `toymoe zoo`; without one, the few organisms that are shipped",
    )
    score.add_argument(
        "--out",
        default=None,
        metavar="DIR",
        help="default ZOO/scores/METHOD, or runs/scores/METHOD; goes on there",
    )
    add_crew(score)


def _folder(args) -> Path:
    return folder(args, args.out or folder_of(args.zoo, args.method))


def folder_of(zoo, method: str) -> Path:
    """Where the scores of a method on a zoo are, unless another folder is named."""
    return Path(zoo or "runs") / "scores" / Path(method).name


def _score(args) -> int:
    check_crew(args, many=True)
    start_jax()
    method = args.method
    if args.cluster is not None and Path(method).suffix:
        method = str(Path(method).resolve())
    from ..zoo.folder import FEW

    zoo = folder(args, args.zoo) if args.zoo else FEW
    return scored(method, zoo, _folder(args), args)


def scored(method: str, zoo: Path, out: Path, args) -> int:
    """Score, show it, and the exit code."""
    from ..pages import terminal
    from ..validation import report, study

    console = terminal.console()
    begun = study.begin(method, zoo, out)  # before the bars, so that an error is all that is said
    with crew_of(args) as crew, terminal.Steps(console) as steps:
        result = study.finish(begun, **told(steps), crew=crew)
    if result["methods"]:
        console.print(terminal.table(report.SHORT, report.short(result)))
        kinds = ", ".join(name.replace("_", " ") for name in report.KINDS)
        console.print(
            "first: the part named first is right; found: its score exceeds those of shuffled "
            f"pairs; alarms: found in shams ({kinds}); at 5 %: right, and above 95 % of each kind "
            "of sham, of other seeds.",
            highlight=False,
        )
    console.print(result["finding"], highlight=False)
    if result["left_out"]:
        console.print(f"{len(result['left_out'])} organisms left out: their key did not hold.")
    console.print(
        f"Open {out / 'score.html'} in a browser; every number: {out / 'score.json'}, "
        f"{out / 'score.csv'}.",
        highlight=False,
        soft_wrap=True,
    )
    return 1 if result["errors"] else 0
