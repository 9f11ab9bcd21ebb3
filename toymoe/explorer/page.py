"""The page: one self-contained HTML file that runs an organism's own model in the browser.

Its policy (CSP) allows this script and this style, by their hashes, and workers made of it; nothing
is ever fetched. So it opens by double click, goes through mail, and stands on any static host.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import NamedTuple

from .. import checkpoint, organism
from ..config import ConfigError
from ..organism import Organism
from . import bundle, data

MARK = b'<meta name="generator" content="toymoe explorer">'
NAMELESS = "FOLDER"  # of the run of an organism that was not loaded by name
SLOT = re.compile(r"<!--(csp|title|style|data|blobs|script)-->")
SANDBOX = "allow-scripts allow-downloads"


class Subject(NamedTuple):
    """An organism, and where it is from."""

    organism: Organism
    source: str  # what `toymoe.organism.load` takes
    folder: Path | None = None  # of its run, where that is known


def subject(which: str | Path | Organism) -> Subject:
    """What a page is about.

    Raises:
      ConfigError, CheckpointError: see `toymoe.organism.load`.
    """
    if isinstance(which, Organism):
        return Subject(which, _source(which))
    made = organism.load(which)
    if isinstance(which, str) and which in organism.shipped.RULES:
        return Subject(made, which)
    folder = Path(which)
    # Where a folder is on this machine is nobody else's business.
    return Subject(made, folder.resolve().name if folder.is_absolute() else str(folder), folder)


def _source(made: Organism) -> str:
    """How a shipped organism is loaded; of another, a word to be replaced."""
    for rule in organism.shipped.RULES:
        if organism.shipped.world_of(rule)[0] == made.cfg:
            return rule
    return NAMELESS


def write(
    which: str | Path | Organism | Subject,
    out: str | Path,
    snapshots: int = 0,
    weights: str = "float16",
    tuned: bool = True,
    watch: Callable[[data.Progress], None] = lambda progress: None,
) -> Path:
    """Write the page of an organism; whole or not at all.

    Args:
      which: what `toymoe.organism.load` takes, or an organism.
      out: the file; an older page there is replaced, anything else is left alone.
      snapshots: how many checkpoints of training; 0: pretrained and aligned alone.
      weights: "float16", in which a page is half as large, or "float32", in which it is exact.
      tuned: with the models that RASET tunes, which take most of the time.
      watch: called with each `data.Progress`.

    Raises:
      ConfigError, CheckpointError: no finished run, a model that is too large, a file that is none
        of these pages, more snapshots than there are.
    """
    out = Path(out)
    check_out(out)
    checkpoint.write_atomic(out, make(which, snapshots, weights, tuned, watch).encode())
    return out


def check_out(out: Path) -> None:
    """Refuse a file that a page must not replace.

    Raises:
      ConfigError: a folder, a file in no folder, a file that is no such page.
    """
    if out.is_dir():
        raise ConfigError(f"{out} is a folder: name a file in it, such as {out / 'explorer.html'}.")
    if not out.parent.is_dir():
        raise ConfigError(f"{out} cannot be written: create the folder {out.parent} first.")
    if out.exists():
        with out.open("rb") as file:
            if MARK not in file.read(4096):
                raise ConfigError(f"{out} is not a page of the explorer: name another file.")


def make(
    which: str | Path | Organism | Subject,
    snapshots: int = 0,
    weights: str = "float16",
    tuned: bool = True,
    watch: Callable[[data.Progress], None] = lambda progress: None,
) -> str:
    """The page of an organism as text, see `write`."""
    about = which if isinstance(which, Subject) else subject(which)
    return render(data.gather(*about, snapshots, weights, tuned, watch))


def render(told: data.Told) -> str:
    """The page of what is told of an organism."""
    script, style = bundle.script(), bundle.style()
    stored = json.dumps(told.data, separators=(",", ":"), allow_nan=False)
    blobs = (
        f'<script type="text/plain" id="{escape(name)}">{text}</script>'
        for name, text in told.blobs.items()
    )
    slots = {
        "csp": policy(script, style),
        "title": escape(told.data["title"]),
        "style": style,
        "data": stored.replace("<", "\\u003c"),
        "blobs": "\n".join(blobs),
        "script": script,
    }
    return SLOT.sub(lambda found: slots[found[1]], bundle.read("page.html"))


def policy(script: str, style: str) -> str:
    """The content security policy under which only this script and this style work."""
    script_hash, style_hash = (
        "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (script, style)
    )
    return (
        f"default-src 'none'; script-src '{script_hash}' blob:; style-src '{style_hash}'; "
        "worker-src blob:; img-src data:; base-uri 'none'; form-action 'none'"
    )


class Shown:
    """A page for a notebook, which shows it as a frame of its own."""

    def __init__(self, html: str, height: int):
        self.html, self.height = html, height

    def _repr_html_(self) -> str:
        return (
            f'<iframe title="toymoe explorer" sandbox="{SANDBOX}" width="100%" '
            f'height="{self.height}" srcdoc="{escape(self.html)}"></iframe>'
        )

    def __repr__(self) -> str:
        size = len(self.html.encode()) / 1e6
        return (
            f"toymoe explorer, {size:.1f} MB: a notebook shows it; elsewhere write it by "
            "toymoe.explorer.write, and open the file in a browser."
        )


def show(
    which: str | Path | Organism = "conjunction", height: int = 900, tuned: bool = True
) -> Shown:
    """The page of an organism, as the last value of a notebook's cell.

    Args:
      which, tuned: see `write`.
      height: of the frame, in pixels.
    """
    return Shown(make(which, tuned=tuned), int(height))
