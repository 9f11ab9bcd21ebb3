"""What a student handed in: the statements of a notebook or a Python file.

Jupyter's own syntax (%magic, !command, name?) is IPython's to translate where that is installed.
"""

import ast
import io
import json
import re
import stat
import textwrap
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import ToymoeError

try:
    from IPython.core.inputtransformer2 import TransformerManager
except Exception:  # not installed, or broken
    TransformerManager = None

LARGEST = 20 * 2**20  # bytes of a file
LONGEST = 10_000  # lines of a cell that IPython translates; it takes seconds for more
PYTHON_CELLS = ("time", "timeit", "capture", "prun", "memit", "mprun", "debug")


class SubmissionError(ToymoeError, ValueError):
    """A file that nothing can be found in, in one line for the teacher."""


@dataclass
class Submission:
    """The statements of a file that could be read, in order."""

    statements: list[ast.stmt] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)  # what is no Python: why, the text
    prose: str = ""  # of cells that are not code


def read(path: Path) -> Submission:
    """Read a notebook or a Python file, whatever its name ends in.

    Raises:
      SubmissionError: no such file, not an ordinary one, too large, not text, or no Python at all.
    """
    text = _text(path)
    found, cells = Submission(), _cells(text)
    if cells is None:
        if ".ipynb" in path.name.lower():
            raise SubmissionError("is not a notebook.")
        sources = [("the file", text)]
    else:
        found.prose = "\n".join(source for kind, source in cells if kind != "code")
        code = [source for kind, source in cells if kind == "code"]
        sources = [(f"code cell {i}", source) for i, source in enumerate(code, 1)]
    for where, source in sources:
        try:
            found.statements += _parse(source).body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = getattr(error, "lineno", None)
            at = f", line {line}" if line else ""
            why = f"{where} is not valid Python{at}: {getattr(error, 'msg', error)}"
            found.broken.append((why, source))
    if not found.statements:
        raise SubmissionError(found.broken[0][0] if found.broken else "holds no Python code.")
    return found


def _text(path: Path) -> str:
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise SubmissionError("is not an ordinary file.")
        if about.st_size > LARGEST:
            raise SubmissionError(f"the file is larger than {LARGEST // 2**20} MB.")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise SubmissionError(f"cannot be read ({error.strerror}).") from error
    if len(data) > LARGEST:
        raise SubmissionError(f"it has no end within {LARGEST // 2**20} MB.")
    try:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):  # some editors of Windows
            return data.decode("utf-16")
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding)
    except (SyntaxError, ValueError, LookupError) as error:
        raise SubmissionError("is not a text file.") from error


def _cells(text: str) -> list[tuple[str, str]] | None:
    """Kind and source of a notebook's cells; None if it is none."""
    try:
        held = json.loads(text)
        held = held["cells"] if "cells" in held else held["worksheets"][0]["cells"]  # of format 3
        pairs = [(one["cell_type"], one.get("source", one.get("input")) or "") for one in held]
        return [(kind, s if isinstance(s, str) else "".join(s)) for kind, s in pairs]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _parse(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:
        if not re.search(r"[%!?]|^[ \t]", source, re.MULTILINE):  # nothing that is Jupyter's
            raise
    magic = None
    while start := re.match(r"\s*%%(\w*).*\n?", source):
        source, magic = source[start.end() :], start[1]
    try:
        return ast.parse(_translated(source))
    except SyntaxError:
        if magic is None or magic in PYTHON_CELLS:
            raise
        return ast.Module([], [])  # %%bash, %%html and the like


def _translated(source: str) -> str:
    if TransformerManager is None or source.count("\n") > LONGEST:
        return plain(source)
    return TransformerManager().transform_cell(textwrap.dedent(source))


_COMMAND = re.compile(r"([ \t]*)((?:[A-Za-z_][\w.,\[\] \t]*=)?)[ \t]*[%!](?!=)")
_HELP = re.compile(r"([ \t]*)()(?:\?{1,2}[\w.*%]+|[\w.*%\[\]]+\?{1,2})[ \t;]*$")


def plain(source: str) -> str:
    """A cell without Jupyter's own syntax, for where there is no IPython; what it gave is None."""
    lines, continued = [], False
    for line in textwrap.dedent(source).split("\n"):
        command = None if continued else _COMMAND.match(line)
        if continued:
            lines.append("")
        elif command or (command := _HELP.match(line)):
            lines.append(f"{command[1]}{command[2]}None")
        else:
            lines.append(line)
        continued = (continued or bool(command)) and line.endswith("\\")
    return "\n".join(lines)
