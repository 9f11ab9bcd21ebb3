"""``toymoe lessons DIR``: every notebook is copied, and the way to open them is said."""

import importlib.util
import shlex
import subprocess
import sys

import pytest

from toymoe import cli
from toymoe.classroom import lesson
from toymoe.commands import lessons

pytestmark = pytest.mark.core


def commands(said, python):
    """The lines of what is said that this Python is called in."""
    found = [line[line.index(python) :] for line in said.splitlines() if python in line]
    return [shlex.split(line) for line in found]


@pytest.mark.parametrize("there", [True, False])
def test_what_is_missing_for_opening_them_is_installed_first(tmp_path, monkeypatch, capsys, there):
    asked = []
    monkeypatch.setattr(lessons, "find_spec", lambda name: asked.append(name) or there or None)
    folder = tmp_path / "my lessons"
    assert cli.main(["lessons", str(folder)]) == 0
    said = capsys.readouterr().out
    assert asked == ["jupyterlab"]
    opens = [sys.executable, "-m", "jupyterlab", str(folder)]
    installs = [sys.executable, "-m", "pip", "install", "jupyterlab"]
    assert commands(said, sys.executable) == ([opens] if there else [installs, opens])
    assert ("not installed" in said) != there
    assert sorted(path.name for path in folder.iterdir()) == [p.name for p in lesson.notebooks()]
    assert "00_start.ipynb" in said


def test_a_python_without_jupyter_is_told_apart_from_one_with_it():
    found = subprocess.run(
        [sys.executable, "-m", "jupyterlab", "--version"], capture_output=True, check=False
    )
    assert (found.returncode == 0) == bool(importlib.util.find_spec("jupyterlab"))
