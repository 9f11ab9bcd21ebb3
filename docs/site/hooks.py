"""What mkdocs is told beyond mkdocs.yml: where the pages lie, and what is made while it builds.

Pages keep the paths that they have in the repository, so that their links are the same in both. The
explorer is written by ``toymoe explore``, notebooks are shown as they were executed, and the
reference has a page for each room that the package docstring lists.
"""

import ast
import html
import json
import logging
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = ("*.md", "docs/*.md", "docs/images/*", "lessons/*.md", "lessons/solutions/*.ipynb")
PROGRAMS = ("commands", "cli", "signals", "start")  # the command line, which is no API
OUTSIDE = re.compile(  # links that name the site's own address load nothing
    r'<(?:script|img|iframe|link(?! rel="?(?:canonical|next|prev)\b))\b[^>]*'
    r'\b(?:src|href)="?(https?:[^">\s]*)'
)
LOG = logging.getLogger("mkdocs.hooks.toymoe")


class Notebook(File):
    """A notebook is a page."""

    def is_documentation_page(self) -> bool:
        return True


def on_config(config):
    pages = [{"toymoe": "toymoe/index.md"}, *({room: f"toymoe/{room}.md"} for room in rooms())]
    config.nav.insert(-1, {"Reference": pages})
    return config


def on_files(files: Files, config) -> Files:
    """The repository's pages, the reference and the explorer, beside the site's own."""
    for path in (path for pattern in PAGES for path in sorted(ROOT.glob(pattern))):
        kind = Notebook if path.suffix == ".ipynb" else File
        where = path.relative_to(ROOT).as_posix()
        files.append(kind(where, str(ROOT), config.site_dir, config.use_directory_urls))
    for room in ("__init__", *rooms()):
        where = f"toymoe/{room}.md".replace("__init__", "index")
        files.append(File.generated(config, where, content=reference(room)))
    files.append(File.generated(config, "explorer.html", content=explorer()))
    return files


def on_page_read_source(page, config) -> str | None:
    if isinstance(page.file, Notebook):
        return markdown(json.loads(Path(page.file.abs_src_path).read_text("utf-8")))


def on_page_markdown(text: str, page, **_) -> str:
    """Markdown in <details> is Markdown; rooms lead to their reference, the picture to the page."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]
    text = re.sub("^<details>", '<details markdown="1">', text, flags=re.M)
    text = re.sub(r"\]\(((?:\.\./)?toymoe/\w+)\)", r"](\1.md)", text)
    return re.sub(r"!\[[^]]*\]\(docs/images/explorer\.png\)", r"[\g<0>](explorer.html)", text)


def on_page_content(text: str, **_) -> str:
    """Formulas as MathML, which needs no script; docstrings announce what follows by ``::``."""
    kinds = {"span": "inline", "div": "block"}
    text = re.sub(
        r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>',
        lambda found: convert(html.unescape(found[2]).strip(), display=kinds[found[1]]),
        text,
        flags=re.S,
    )
    return text.replace("::</p>", ":</p>")


def on_post_page(output: str, page, **_) -> None:
    """A page that loads something from elsewhere is a warning."""
    if found := OUTSIDE.search(output):
        LOG.warning("%s loads %s: the site needs no network.", page.file.src_uri, found[1])


def rooms() -> list[str]:
    """The rooms and modules of the package, in the order in which data flows."""
    listed = ast.get_docstring(ast.parse((ROOT / "toymoe/__init__.py").read_text("utf-8")))
    return [name for name in re.findall(r"^    (\w+)  +\S", listed, re.M) if name not in PROGRAMS]


def reference(room: str) -> str:
    """A page on which mkdocstrings writes what a room's modules define."""
    top = ROOT / "toymoe" / room
    first, *rest = sorted(top.rglob("*.py")) if top.is_dir() else [top.with_suffix(".py")]
    return "\n".join([_module(first, 1), *(_module(path, 2) for path in rest)])


def _module(path: Path, level: int) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    body = ast.parse(path.read_text("utf-8")).body
    defined = [x.name for x in body if isinstance(x, ast.FunctionDef | ast.ClassDef)]
    public = [x for x in defined if not x.startswith("_")]
    options = {"members": public, "heading_level": level}
    return f"::: {name}\n    options: {json.dumps(options)}\n"


def explorer() -> str:
    """The page of the shipped organism."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "explorer.html")
        line = [sys.executable, "-m", "toymoe.cli", "explore", "--out", str(out)]
        subprocess.run(line, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return out.read_text("utf-8")


def markdown(book: dict) -> str:
    """An executed notebook as Markdown: text, code, and what the code printed and showed."""
    parts = []
    for cell in book["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else _fence("python", source))
        parts += map(_output, cell.get("outputs", ()))
    return "\n\n".join(parts)


def _output(output: dict) -> str:
    if "image/png" in (data := output.get("data", {})):
        return f"![](data:image/png;base64,{''.join(data['image/png']).strip()})"
    return _fence("{.text .output}", "".join(output.get("text") or data["text/plain"]))


def _fence(language: str, text: str) -> str:
    return f"````{language}\n{text.rstrip()}\n````"
