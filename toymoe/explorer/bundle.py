"""One script and one sheet of style out of the files in ``web``; no build step.

The files are plain ES modules. Put after one another, imported before importing, and without the
words import and export, they are one script; so a name is given once in all of them. A worker runs
the part above `MARKER`, which knows no page.
"""

import re
from pathlib import Path

WEB = Path(__file__).parent / "web"
ROOTS = ("worker.js", "page.js")  # what the engine, and then the page, are reached from
MARKER = "// --- page ---\n"
IMPORT = re.compile(r'^import\s*\{[^}]*\}\s*from\s*"\./([\w-]+\.js)";?[^\S\n]*\n', re.M)
EXPORT = re.compile(r"^export (?=(?:async )?function|const |let |class )", re.M)


def read(name: str) -> str:
    """The text of a file of the page."""
    return (WEB / name).read_text("utf-8")


def order() -> tuple[list[str], list[str]]:
    """The files of the engine, and those of the page, each after those that it imports."""
    seen: list[str] = []
    parts = []
    for root in ROOTS:
        first = len(seen)
        if (WEB / root).is_file():
            _visit(root, seen, ())
        parts.append(seen[first:])
    return parts[0], parts[1]


def _visit(name: str, seen: list[str], above: tuple[str, ...]) -> None:
    if name in seen or name in above:
        return
    for other in IMPORT.findall(read(name)):
        _visit(other, seen, (*above, name))
    seen.append(name)


def script() -> str:
    """All of the page's code."""
    engine, page = ("".join(map(_plain, names)) for names in order())
    return f"\n{engine}{MARKER}{page}"


def _plain(name: str) -> str:
    text = EXPORT.sub("", IMPORT.sub("", read(name)))
    return f"// --- {name} ---\n{text.strip()}\n\n"


def style() -> str:
    """The page's style."""
    return f"\n{read('page.css')}"
