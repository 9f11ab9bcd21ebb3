"""Commands that are interrupted: one line, the right exit code, nothing left running."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toymoe import checkpoint, cli
from toymoe.commands import parsing
from toymoe.runs import claims

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")

LINES = {
    signal.SIGINT: "toymoe: interrupted",
    signal.SIGTERM: "toymoe: ended by SIGTERM",
    signal.SIGHUP: "toymoe: ended, as the terminal was closed",
}
# As a terminal starts a command; `nohup` and shells in the background have some signals ignored.
COMMAND = """
import signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
from toymoe import cli
from toymoe.commands import run
{change}
sys.exit(cli.main())
"""
# Each of these is put in place of `toymoe run`, says that it is there, and stays.
BLOCKED = """
def command(args):
    from hashlib import pbkdf2_hmac
    print("ready", flush=True)
    pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes of C, during which Python calls no handler
run._run = command
"""
WAITS_FOR_THREADS = """
def command(args):
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(2) as pool:
        pool.submit(time.sleep, 60)
        print("ready", flush=True)
run._run = command
"""
SWALLOWS = """
def command(args):
    print("ready", flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
run._run = command
"""
UNDER_A_BAR = """
def command(args):
    from toymoe.pages import terminal
    with terminal.Steps(terminal.console()) as steps:  # which puts streams of its own in place
        steps.show("a step", 0, 1)
        print("ready", flush=True)
        time.sleep(60)
run._run = command
"""


def started(change: str, *argv: str, **more) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(change=change), *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


@pytest.mark.parametrize("number", LINES, ids=lambda number: number.name)
@pytest.mark.parametrize("change", [BLOCKED, WAITS_FOR_THREADS, SWALLOWS, UNDER_A_BAR])
def test_a_signal_ends_whatever_python_is_doing(tmp_path, number, change):
    terminal = os.environ | {"FORCE_COLOR": "1"}  # as good as one to the bar
    process = started(change, "run", "--out", str(tmp_path / "none"), env=terminal)
    while "ready" not in process.stdout.readline():
        pass
    begin = time.perf_counter()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert time.perf_counter() - begin < 2
    assert (err, process.returncode) == (f"{LINES[number]}.\n", 128 + number)


def test_an_ignored_signal_stays_so():
    """As under `nohup`."""
    hang_up = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    process = started(f"{hang_up}\n{SWALLOWS}", "run")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[1] == f"{LINES[signal.SIGTERM]}.\n"


def test_a_line_that_cannot_be_written_keeps_no_process():
    """Standard error is a pipe that is full."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(65536))
    except BlockingIOError:
        os.set_blocking(writer, True)
    command = [sys.executable, "-c", COMMAND.format(change=SWALLOWS), "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writer, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    os.close(reader)
    os.close(writer)


# --- how to go on -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "begun", "goes_on"),
    [
        ("run --out 'a b'", "a b/config.json", "toymoe run --resume --out 'a b'"),
        (
            "run --seed 3",
            "runs/default-seed-3/config.json",
            "toymoe run --resume --out runs/default-seed-3",
        ),
        ("run --out a", "a/figures/x", ""),
        ("sweep --out s --seeds 0-3", "s/sweep.json", "toymoe sweep --out s --seeds 0-3"),
        ("sweep --out s", "s/sweep.csv", ""),
        ("validate", "runs/zoo/zoo.json", "toymoe validate"),
        ("zoo --key 7", "runs/zoo/zoo.json", "toymoe zoo --key 7"),
        ("zoo --out z", "z/sweep.json", ""),
        ("score usage z", "z/scores/usage/method.json", "toymoe score usage z"),
        ("score a/b.py z --out s", "s/method.json", "toymoe score a/b.py z --out s"),
        ("raset r", "r/raset/study.json", "toymoe raset r"),
        ("raset r", "r/config.json", ""),
        ("raset --seeds 0-3 --out s", "s/seed-0/state.npz", "toymoe raset --seeds 0-3 --out s"),
        ("defend s", "s/seed-2/defences/study.json", "toymoe defend s"),
        ("defend r", "r/config.json", ""),
        ("localise s", "s/seed-2/realigned/study.json", "toymoe localise s"),
        ("bench", "config.json", ""),
    ],
)
def test_what_goes_on_where_there_is_something(tmp_path, monkeypatch, line, begun, goes_on):
    monkeypatch.chdir(tmp_path)
    args = parsing.parse(shlex.split(line))
    assert args.goes_on(args) == ""
    Path(begun).parent.mkdir(parents=True, exist_ok=True)
    Path(begun).touch()
    assert args.goes_on(args) == goes_on


# --- a run ----------------------------------------------------------------------------------------


def marked(mark: str) -> list[Path]:
    """Processes that inherited a mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += [path] if mark.encode() in path.read_bytes() else []
        except OSError:  # it has ended
            pass
    return found


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(caught[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize(
    ("number", "until"),
    [(signal.SIGTERM, None), (signal.SIGINT, "config.json"), (signal.SIGHUP, "aligned.npz")],
)
def test_a_run_that_is_cut_off_leaves_nothing_running_and_goes_on(
    small_run, small_settings, tmp_path, drawn_already, number, until
):
    """Before there is a folder, at its begin, and while it measures and draws."""
    out, mark = tmp_path / "cut", f"{number.name}-{until}-{os.getpid()}"
    settings = [f"{name}={value}" for name, value in small_settings.items()]
    words = ["run", "--preset", "smoke", "--set", *settings, "--out", str(out)]
    process = started("", *words, env=os.environ | {"MARK": mark})
    while not (out / until).is_file() if until else not catches(process.pid, signal.SIGTERM):
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    how = f": `toymoe run --resume --out {out}` goes on" if until else ""
    assert (err, process.returncode) == (f"{LINES[number]}{how}.\n", 128 + number)
    deadline = time.perf_counter() + 5
    while marked(mark) and time.perf_counter() < deadline:  # the painter sees it in a moment
        time.sleep(0.1)
    assert not marked(mark)
    if until == "config.json":
        assert cli.main(["run", "--resume", "--out", str(out)]) == 0
        for name in ("pretrained.npz", "aligned.npz", "history.npz"):
            assert (out / name).read_bytes() == (small_run.out / name).read_bytes()


def test_ctrl_c_ends_all_processes_of_many_seeds_and_they_go_on(small_settings, tmp_path):
    """As a terminal sends it, to all of them at once; while both seeds train."""
    out, mark = tmp_path / "many", f"many-{os.getpid()}"
    settings = [f"{name}={value}" for name, value in small_settings.items()]
    words = ["sweep", "--preset", "smoke", "--set", *settings, "pretrain.steps=3000"]
    words += ["--seeds", "0-1", "--jobs", "2", "--out", str(out)]
    process = started("", *words, env=os.environ | {"MARK": mark}, start_new_session=True)
    states = [out / f"seed-{seed}" / "state.npz" for seed in (0, 1)]
    while not all(state.is_file() for state in states):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    line = shlex.join(["toymoe", *words])
    assert (err, process.returncode) == (f"{LINES[signal.SIGINT]}: `{line}` goes on.\n", 130)
    deadline = time.perf_counter() + 10
    while marked(mark) and time.perf_counter() < deadline:
        time.sleep(0.1)
    assert not marked(mark)
    for seed in (0, 1):  # its claim is a dead one's, its state is whole
        assert claims.Judge().look(out / f"seed-{seed}.claim")[0]
        assert checkpoint.load(out / f"seed-{seed}" / "state.npz")[1]["step"] > 0
