"""A process that does tasks, each in a new one, and leaves nothing of it: no process, no file.

``python -I -m toymoe.classroom.grading.worker`` reads a line of JSON for each task, and writes one
when it is over. On Linux it makes a copy of itself for a task, which takes milliseconds, and takes
in what a task leaves running, to end it; elsewhere it starts a new Python, and ends its group.
"""

import contextlib
import ctypes
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ...start import set_flags
from . import task

COPIES = sys.platform == "linux"
SET_PDEATHSIG, SET_CHILD_SUBREAPER = 1, 36  # of Linux's prctl
SLOW = ("jax.numpy", "scipy.stats")  # to import, for seconds; once is enough
END_S = 5.0  # how long ending what is left may take
DONE, LATE = "done", "late"


def main() -> None:
    """See the module docstring."""
    if COPIES:
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    set_flags()  # of JAX, should it be used
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parent, answers = os.getppid(), os.fdopen(os.dup(1), "w", encoding="utf-8")
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        end, said, took = do(line, asked["seconds"], lambda: os.getppid() == parent)
        reply = {"nonce": asked["nonce"], "end": end, "said": said, "took": round(took, 2)}
        print(json.dumps(reply), file=answers, flush=True)


def do(line: bytes, seconds: float, wanted: Callable[[], bool]) -> tuple[str, str, float]:
    """How a task ended, what was said of it, and the seconds it took.

    Args:
      wanted: whether anybody still waits for it; if not, this process ends.
    """
    for name in SLOW:
        if COPIES and name.partition(".")[0].encode() in line:
            importlib.import_module(name)
    folder = tempfile.mkdtemp(prefix="toymoe-marking-")
    began = time.monotonic()
    with tempfile.TemporaryFile() as out:
        child = (_copy if COPIES else _python)(line, out, folder)
        try:
            end = _wait(child, began + seconds, wanted)
            took = time.monotonic() - began
        finally:
            _end(child)
            _remove(folder)
        out.seek(0)
        return end, out.read().decode("ascii", "replace"), took


class _Copy:
    """A copy of this process, as far as it is like `subprocess.Popen`."""

    def __init__(self, pid: int):
        self.pid, self._over = pid, False

    def poll(self) -> int | None:
        """None while it runs."""
        self._over = self._over or os.waitpid(self.pid, os.WNOHANG)[0] != 0
        return 0 if self._over else None


def _copy(line, out, folder) -> _Copy:
    me = os.getpid()
    pid = os.fork()
    if pid:
        return _Copy(pid)
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getppid() == me:
            os.dup2(out.fileno(), 3)
            os.closerange(4, 256)  # the way back to who marks, too
            task.perform(line, 3, folder)
    finally:
        os._exit(0)  # whatever threads or exit handlers were left behind


def _python(line, out, folder) -> subprocess.Popen:
    with tempfile.TemporaryFile() as given:
        given.write(line)
        given.seek(0)
        return subprocess.Popen(
            [sys.executable, "-I", "-m", task.__name__],
            stdin=given,
            stdout=out,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            start_new_session=True,
        )


def _wait(child, deadline: float, wanted) -> str:
    pause = 0.001
    while child.poll() is None:
        if time.monotonic() > deadline:
            return LATE
        if not wanted():
            sys.exit(1)
        time.sleep(pause)
        pause = min(1.5 * pause, 0.02)
    return DONE


def _end(child) -> None:
    """End a task, and what it left running, as far as that can be found."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    if not COPIES:
        child.wait()
        return
    deadline = time.monotonic() + END_S
    with contextlib.suppress(ChildProcessError):  # there is none left
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                for pid in _children():
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.001)


def _children() -> list[int]:
    """The processes that this one started, or took in when the one that had was gone."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state = path.read_bytes().rpartition(b")")[2].split()
            if int(state[1]) == os.getpid():
                found.append(int(path.parent.name))
    return found


def _remove(folder: str) -> None:
    """Remove a folder, and in it what may not be looked into; what cannot be removed stays."""
    with contextlib.suppress(OSError, RecursionError):
        for path, inner, _ in os.walk(folder):
            for name in inner:
                if not os.path.islink(os.path.join(path, name)):
                    os.chmod(os.path.join(path, name), 0o700)
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
