"""``toymoe lessons``: the exercise notebooks, copied to where you want to work."""

import json
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

from ..config import ConfigError
from .common import whole_number


def add(command) -> None:
    copy = command(
        "lessons", _lessons, "Copy the exercise notebooks to where you want to work", settings=False
    )
    copy.add_argument("folder", metavar="DIR")
    copy.add_argument("--seed", default=None, metavar="N", help="an exam variant: other prompts")


def _lessons(args) -> int:
    from ..checkpoint import make_folder, write_atomic
    from ..classroom import lesson

    seed = None if args.seed is None else whole_number("seed", args.seed, 0, 2**31 - 1)
    folder, books = Path(args.folder), lesson.notebooks()
    if not books:
        raise ConfigError("this installation holds no notebooks: install toymoe again.")
    make_folder(folder)
    for book in books:
        target = folder / book.name
        if target.exists():
            print(f"{target} is there already and was left as it is.")
        else:
            write_atomic(target, variant(book.read_text("utf-8"), seed).encode("utf-8"))
            print(target)
    print(how_to_open(folder))
    return 0


def how_to_open(folder: Path) -> str:
    """The command that opens the notebooks here, after the one that is missing for it, if any."""
    python = shlex.quote(sys.executable)
    open_them = f"{python} -m jupyterlab {shlex.quote(str(folder))}"
    if find_spec("jupyterlab"):
        return f"Open them: {open_them}\nVS Code opens them too, and Colab one that you upload."
    return (
        "JupyterLab, which opens them, is not installed here. Install it and open them:\n"
        f"{python} -m pip install jupyterlab\n{open_them}\n"
        "VS Code opens them without it, and Colab one that you upload."
    )


def variant(text: str, seed: int | None) -> str:
    """A notebook with another seed in its cell `SEED = 0`."""
    if seed is None:
        return text
    book = json.loads(text)
    for cell in book["cells"]:
        cell["source"] = [re.sub(r"^SEED = \d+", f"SEED = {seed}", x) for x in cell["source"]]
    return json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
