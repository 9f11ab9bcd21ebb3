"""``toymoe raset``: every attack on refusal, measured alike."""

from pathlib import Path

from ..config import ConfigError
from ..start import start_jax
from .common import (
    add_crew,
    check_crew,
    config_of,
    crew_of,
    folder,
    folder_of_runs,
    same_line,
    study_one,
    study_seeds,
)

BEGUN = ("raset/study.json", "seed-*/raset/study.json", "seed-*/state.npz")


def add(command) -> None:
    raset = command(
        "raset",
        _raset,
        "Tune few experts, steer the router, …: which attack removes refusal and keeps the rest?",
        goes_on=lambda args: same_line(args, _folder(args), *BEGUN),
    )
    raset.add_argument(
        "run", nargs="?", default=None, metavar="DIR", help="a finished run, or a sweep's folder"
    )
    raset.add_argument(
        "--seeds", default=None, help="many seeds, such as 0-9, trained where needed"
    )
    raset.add_argument("--out", default=None, metavar="DIR", help="the folder of --seeds")
    raset.add_argument(
        "--each", action="store_true", help="tune each expert alone as well, a minute more"
    )
    add_crew(raset)


def _folder(args) -> Path:
    return folder(args, args.run if args.seeds is None else args.out)


def _raset(args) -> int:
    if args.seeds is None and args.run is None:
        raise ConfigError("name the folder of a finished run, or give --seeds 0-9 --out DIR.")
    if args.seeds is not None and (args.run is not None or args.out is None):
        raise ConfigError("--seeds needs --out DIR, and no other folder: its runs go there.")
    if args.seeds is None and (args.preset or args.set or args.out):
        raise ConfigError("a finished run has its settings: leave --preset, --set and --out away.")
    out = folder_of_runs(args) if args.seeds is None else _folder(args)
    cfg = config_of(args)
    many = args.seeds is not None or (out / "sweep.json").is_file()
    check_crew(args, many)
    start_jax()
    from ..attacks import report, study
    from ..runs import studies, sweep

    if not many:
        return study_one(study, report, out, "raset", each=args.each)
    settings = {"each": args.each}
    if args.seeds is None:
        seeds = studies.seeds_of(out)
    else:
        seeds = sweep.parse_seeds(args.seeds)
        settings["cfg"] = cfg
        sweep.claim(cfg, out)
    with crew_of(args) as crew:
        return study_seeds(study, report, seeds, out, "raset", crew, **settings)
