"""``toymoe explore``: a page that runs the run's own model in the browser."""

from pathlib import Path

from ..start import start_jax
from .common import whole_number


def add(command) -> None:
    explore = command(
        "explore",
        _explore,
        "One page that runs the run's own model in the browser: ask it, look into it, edit it",
        settings=False,
    )
    explore.add_argument(
        "run", nargs="?", default="conjunction", metavar="RUN",
        help="a finished run; default the shipped organism, conjunction (topic: the other rule)",
    )  # fmt: skip
    explore.add_argument(
        "--out", default=None, metavar="FILE", help="default explorer.html in the run's folder"
    )
    explore.add_argument(
        "--snapshots", default="0", metavar="N", help="checkpoints of training; default none"
    )
    explore.add_argument(
        "--weights", default="float16", metavar="KIND", help="float16 (default) or float32, exact"
    )


def _explore(args) -> int:
    snapshots = whole_number("snapshots", args.snapshots, 0, 1000)
    start_jax()
    from ..explorer import data, page
    from ..pages import terminal

    about = page.subject(args.run)
    data.chosen(about.organism, about.folder, snapshots, args.weights)
    out = Path(args.out or (about.folder or Path()) / "explorer.html")
    page.check_out(out)
    console = terminal.console()
    with terminal.Steps(console) as steps:
        page.write(
            about,
            out,
            snapshots,
            args.weights,
            watch=lambda p: steps.show(p.stage, p.done, p.total),
        )
    size = out.stat().st_size / 1e6
    console.print(f"{out}: {size:.1f} MB. Open it in a browser.", highlight=False, soft_wrap=True)
    return 0
