"""The pages say what the code is: the README's tree, and the table of CONTRIBUTING.

``python -m tests.test_docs`` writes the tree anew.
"""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
TREE = re.compile(r"(?<=<!-- tree -->\n```text\n).*?(?=```\n<!-- end -->)", re.S)


@cache
def job(path: Path) -> str:
    """The first sentence of a module's docstring."""
    said = ast.get_docstring(ast.parse(path.read_text("utf-8"))).replace("``", "")
    return re.match(r".*?[.?](?=\s|$)", " ".join(said.split()))[0]


def tree() -> str:
    """A line for every file of the package; rooms in the order in which data flows."""
    top = ROOT / "toymoe"
    listed = re.findall(r"^    (\w+)  +\S", (top / "__init__.py").read_text("utf-8"), re.M)
    return "".join(line for name in listed for line in _lines(top / name, 0))


def _lines(path: Path, depth: int):
    name = "  " * depth + path.stem + ("/" if path.is_dir() else ".py")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    yield f"{name:30}{job(source)}\n"
    for inner in sorted(path.iterdir()) if path.is_dir() else ():
        room = (inner / "__init__.py").is_file()
        if room or (inner.suffix == ".py" and inner.stem != "__init__"):
            yield from _lines(inner, depth + 1)


def test_the_readme_has_a_line_for_every_file():
    assert TREE.search(README.read_text("utf-8"))[0] == tree(), "run python -m tests.test_docs"


def test_every_job_is_said_in_one_line():
    assert max(map(len, tree().splitlines())) <= 30 + 100
    assert all(len(line.split()) > 2 for line in tree().splitlines())


def test_contributing_names_files_and_tables_that_there_are():
    rows = re.findall(r"^\| [^|]+ \| `([^`|]+)`[^|]* \| ([^|]*) \|", CONTRIBUTING.read_text(), re.M)
    assert len(rows) >= 11
    for file, what in rows:
        path = ROOT / file
        assert path.is_file(), file
        for name in re.findall(r"`(\w+)`", what):
            assert name in path.read_text("utf-8"), (file, name)


def test_every_function_that_the_house_page_names_is_there():
    named = re.findall(r"`(\w+)\.(\w+)[`(]", (ROOT / "docs" / "house.md").read_text("utf-8"))
    assert len(named) > 20
    for module, name in named:
        paths = (ROOT / "toymoe").rglob(f"{module}.py")
        assert any(name in _defined(path) for path in paths), f"{module}.{name}"


def _defined(path: Path) -> set[str]:
    """The names that a module defines."""
    body = ast.parse(path.read_text("utf-8")).body
    tops = [node.targets[0] if isinstance(node, ast.Assign) else node for node in body]
    tops = [node.target if isinstance(node, ast.AnnAssign) else node for node in tops]
    return {getattr(node, "name", None) or getattr(node, "id", None) for node in tops}


if __name__ == "__main__":
    text = README.read_text("utf-8")
    README.write_text(TREE.sub(lambda _: tree(), text), "utf-8")
