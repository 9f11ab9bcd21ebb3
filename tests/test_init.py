"""What importing the package does to its surroundings, and which way data flows through it."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import toymoe

FOLDER = Path(toymoe.__file__).parent
ROOT = FOLDER.parent


def test_importing_toymoe_changes_nothing():
    script = (
        "import os, toymoe, toymoe.runs.runner, jax;"
        "print(len(jax.devices()), *sorted(k for k in os.environ if 'XLA' in k or 'JAX' in k))"
    )
    clean = {k: v for k, v in os.environ.items() if "XLA" not in k and "JAX" not in k}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=clean, capture_output=True, text=True
    )
    assert ended.stdout == "1\n", ended.stderr


def stages() -> list[str]:
    """The rooms that the package docstring lists, in order."""
    return re.findall(r"^    (\w+)  +\S", toymoe.__doc__.split("Axis letters")[0], re.M)


@cache
def modules() -> dict[str, Path]:
    return {
        ".".join(p.relative_to(FOLDER).with_suffix("").parts).removesuffix(".__init__"): p
        for p in FOLDER.rglob("*.py")
        if p != FOLDER / "__init__.py"
    }


@cache
def imported(path) -> set[str]:
    """The modules of toymoe that a file imports, wherever in it."""
    package, known = path.relative_to(FOLDER).parts[:-1], modules()
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = (*package[: len(package) + 1 - node.level], *(node.module or "").split("."))
            for name in node.names:
                module = ".".join(filter(None, (*above, name.name)))
                found.add(module if module in known else module.rpartition(".")[0])
    return found - {""}


def test_no_room_imports_one_further_down():
    rooms, crossings = stages(), 0
    assert {name.split(".")[0] for name in modules()} == set(rooms)
    for name, path in modules().items():
        own = name.split(".")[0]
        for other in {module.split(".")[0] for module in imported(path)} - {own}:
            assert rooms.index(other) < rooms.index(own), f"{name} imports {other}"
            crossings += 1
    assert crossings > 100  # from a module to another room: hundreds, so the imports were found


def test_no_two_modules_import_each_other():
    graph = {name: imported(path) - {name} for name, path in modules().items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


def test_the_version_stands_in_one_place_and_is_cited():
    cited = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {toymoe.__version__}\n" in cited
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "version" in project["project"]["dynamic"] and "version" not in project["project"]
    assert f"## {toymoe.__version__}\n" in (ROOT / "CHANGELOG.md").read_text("utf-8")
