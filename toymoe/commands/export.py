"""``toymoe export``: a run's model as a folder that transformers opens, with labelled prompts."""

from pathlib import Path

from ..start import start_jax
from .common import whole_number


def add(command) -> None:
    export = command(
        "export",
        _export,
        "A folder that transformers and the tools on it open, with labelled prompts",
        settings=False,
    )
    export.add_argument(
        "run",
        metavar="RUN",
        help="a finished run, the shipped organism (conjunction, topic), or an organism of a zoo: "
        "ZOO/seed-N/zoo/NAME",
    )
    export.add_argument("out", metavar="DIR", help="a new folder")
    export.add_argument(
        "--pretrained", action="store_true", help="the model before alignment, not the aligned one"
    )
    export.add_argument(
        "--pairs", default="128", metavar="N", help="of a hazard and its twin; default 128"
    )


def _export(args) -> int:
    pairs, out = whole_number("pairs", args.pairs, 1, 100_000), Path(args.out)
    start_jax()
    from .. import export, organism
    from ..pages import terminal
    from ..zoo import folder

    export.check_out(out)
    which, key = "pretrained" if args.pretrained else "aligned", None
    if folder.is_one(Path(args.run)):
        specimen = folder.at(Path(args.run))
        made, key = specimen.organism, specimen.told()
    else:
        made = organism.load(args.run)
    export.write(made, out, which, pairs, key)
    terminal.console().print(
        f"{out}: the {which} model of {args.run}. In transformers, "
        f"AutoModelForCausalLM.from_pretrained({str(out)!r}) opens it; docs/tools.md has more.",
        highlight=False,
        soft_wrap=True,
    )
    return 0
