"""What a terminal's encoding lacks is replaced; text is no markup."""

import os
import subprocess
import sys

import pytest

from toymoe.pages import terminal

pytestmark = pytest.mark.core


def toymoe(encoding, *argv):
    """What a command says on a terminal of some encoding."""
    ended = subprocess.run(
        [sys.executable, "-m", "toymoe.cli", *map(str, argv)],
        env=os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "120"},
        capture_output=True,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    return ended.stdout.decode(encoding)


@pytest.mark.parametrize(
    ("encoding", "divided"), [("utf-8", "÷"), ("latin-1", "÷"), ("cp932", "÷"), ("ascii", "?")]
)
def test_a_finished_run_is_summed_up_in_any_encoding(small_run, encoding, divided):
    said = toymoe(encoding, "run", "--resume", "--out", small_run.out)
    assert f"JS cross-topic {divided} JS intent twins" in said
    dash = "–" if encoding == "utf-8" else "?"
    assert f"0.005{dash}0.043" in said


def test_help_is_given_in_any_encoding():
    assert "steer the router, …:" in toymoe("utf-8", "raset", "--help")
    assert "steer the router, ?:" in toymoe("ascii", "raset", "--help")


@pytest.mark.parametrize("columns", ["0", "00", "100"])
def test_without_a_width_there_is_a_usual_one(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    console = terminal.console()
    console.print("text")
    assert capsys.readouterr().out == "text\n"
    assert console.width == (int(columns) or 80)


def test_brackets_are_text(capsys):
    terminal.console().print("a [b]/run")
    terminal.console(stderr=True).print("[red]")
    assert capsys.readouterr() == ("a [b]/run\n", "[red]\n")
