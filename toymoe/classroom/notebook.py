"""Notebooks as lists of cells: read from .ipynb or py:percent text, written as .ipynb text.

What is written depends on the cells alone: ids are hashes of the content, and nothing is dated.
"""

import hashlib
import json
import re
from typing import NamedTuple

from ..errors import ToymoeError

KINDS = ("markdown", "code")
_MARK = re.compile(r"# %%(?: \[(\w+)\])?\s*$")


class NotebookError(ToymoeError, ValueError):
    """One sentence for the reader: what was given, what is allowed, what to do."""


class Cell(NamedTuple):
    """A cell; ``source`` has no newline at its end."""

    kind: str  # of KINDS
    source: str


def read_percent(text: str) -> list[Cell]:
    """The cells of a py:percent file. What stands before the first ``# %%`` is for its editors.

    Raises:
      NotebookError: an unknown kind of cell, or text in a markdown cell that is not a comment.
    """
    cells: list[tuple[str, list[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if mark := _MARK.match(line):
            kind = mark[1] or "code"
            if kind not in KINDS:
                raise NotebookError(
                    f"line {number}: a cell of kind {kind!r} is not possible: write # %% or "
                    "# %% [markdown]."
                )
            cells.append((kind, []))
        elif cells:
            kind, lines = cells[-1]
            if kind == "markdown":
                if line.strip() and not line.startswith("#"):
                    raise NotebookError(f"line {number}: text in a markdown cell starts with '# '.")
                line = line.removeprefix("#").removeprefix(" ")
            lines.append(line)
    return [Cell(kind, "\n".join(lines).strip("\n")) for kind, lines in cells]


def read_ipynb(text: str) -> list[Cell]:
    """The markdown and code cells of a notebook of format 4.

    Raises:
      NotebookError: not JSON, or not a notebook.
    """
    try:
        cells = json.loads(text)["cells"]
        pairs = [(cell["cell_type"], cell["source"]) for cell in cells]
        found = [
            (kind, source if isinstance(source, str) else "".join(source)) for kind, source in pairs
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotebookError(f"not a notebook ({type(error).__name__}: {error}).") from error
    return [Cell(kind, source) for kind, source in found if kind in KINDS]


def write_ipynb(cells: list[Cell], outputs: list[list[dict]] | None = None) -> str:
    """A notebook of format 4.5. ``outputs`` holds for every cell what it printed and showed."""
    written, seen = [], {}
    for i, (kind, source) in enumerate(cells):
        digest = hashlib.sha256(f"{kind}\n{source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell = {
            "cell_type": kind,
            "id": digest if seen[digest] == 1 else f"{digest}-{seen[digest]}",
            "metadata": {},
            "source": source.splitlines(keepends=True),
        }
        if kind == "code":
            count = sum(cell.kind == "code" for cell in cells[: i + 1])
            cell["execution_count"] = None if outputs is None else count
            cell["outputs"] = [] if outputs is None else outputs[i]
        written.append(cell)
    book = {
        "cells": written,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
