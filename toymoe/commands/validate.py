"""``toymoe validate``: do the attribution methods find what is there, and nothing in shams?"""

from pathlib import Path

from ..start import start_jax
from .common import add_crew, check_crew, config_of, crew_of, folder, same_line, told, whole_number
from .score import folder_of, scored


def add(command) -> None:
    validate = command(
        "validate",
        _validate,
        "Make a zoo of organisms whose answer is known, and shams: which attribution methods find "
        "it, and which raise false alarms?",
        goes_on=lambda args: same_line(args, _folder(args), "zoo.json"),
    )
    validate.add_argument("--seeds", default="0-4", help="such as 0-4 (the default) or 0,2,5-7")
    validate.add_argument(
        "--out", default=None, metavar="DIR", help="a zoo, default runs/zoo; goes on there"
    )
    validate.add_argument(
        "--key", default="0", metavar="N", help="draws the organisms; another key, other organisms"
    )
    add_crew(validate)


def _folder(args) -> Path:
    return folder(args, args.out or "runs/zoo")


def _validate(args) -> int:
    cfg = config_of(args)
    out, key = _folder(args), whole_number("key", args.key, 0, 2**31 - 1)
    check_crew(args, many=True)
    start_jax()
    from ..pages import terminal
    from ..runs import sweep
    from ..validation.asked import ALL
    from ..zoo import make

    seeds = sweep.parse_seeds(args.seeds)
    make.check(cfg, out, key)  # before the bar, so that an error is all that is said
    with crew_of(args) as crew, terminal.Steps(terminal.console()) as steps:
        made = make.zoo(cfg, seeds, out, key, **told(steps), crew=crew)
    if not made.of:
        return 1
    code = scored(ALL, out, folder_of(out, ALL), args)
    return 1 if made.errors else code
