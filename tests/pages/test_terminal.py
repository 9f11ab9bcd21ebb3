"""What a terminal's encoding lacks is replaced; text is no markup."""

import json
import os
import subprocess
import sys

import pytest

from toymoe.pages import terminal

pytestmark = pytest.mark.core


ENCODINGS = {"utf-8": "÷", "latin-1": "÷", "cp932": "÷", "ascii": "?"}
SAID = """
import io, json, sys
from toymoe import cli
lines, encodings = json.loads(sys.argv[1])
for sys.argv in lines:
    for encoding in encodings:
        sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding)  # strict, as a terminal is
        try:
            code = cli.main()
        except SystemExit as end:
            code = end.code
        print(code, sys.stdout.buffer.getvalue().hex(), file=sys.__stdout__)
"""


@pytest.fixture(scope="module")
def said(small_run):
    """What commands say on terminals of some encodings; one process answers for all."""
    lines = {
        "summary": ["toymoe", "run", "--resume", "--out", str(small_run.out)],
        "help": ["toymoe", "raset", "--help"],
    }
    ended = subprocess.run(
        [sys.executable, "-c", SAID, json.dumps([[*lines.values()], [*ENCODINGS]])],
        env=os.environ | {"COLUMNS": "120"},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    answers = [line.split() for line in ended.stdout.splitlines()]
    assert {code for code, _ in answers} == {"0"}
    asked = [(line, encoding) for line in lines for encoding in ENCODINGS]
    return {
        at: bytes.fromhex(text).decode(at[1]) for at, (_, text) in zip(asked, answers, strict=True)
    }


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_finished_run_is_summed_up_in_any_encoding(said, encoding):
    assert f"JS cross-topic {ENCODINGS[encoding]} JS same topic" in said["summary", encoding]


def test_help_is_given_in_any_encoding(said):
    assert "steer the router, …:" in said["help", "utf-8"]
    assert "steer the router, ?:" in said["help", "ascii"]


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
