"""Whoever marks, and the process that does tasks: what is asked of it, and what comes back.

What comes back counts if it bears the number that was drawn for its task, and nothing else came.
"""

import contextlib
import json
import os
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
from typing import NamedTuple

from ...config import ConfigError
from .worker import DONE, LATE

START_S = 120.0  # for a process to be ready, on a busy machine
SPARE_S = 60.0  # for a task, beside the seconds it has: to end what it leaves
LONGEST = 2**25  # bytes of a line
DIED, VOID = "died", "void"
MODULE = "toymoe.classroom.grading.worker"


class Reply(NamedTuple):
    """How a task ended, what came of it if it is DONE, and the seconds it took."""

    end: str
    said: dict
    took: float = 0.0


class Worker:
    """A process that does one task after the other; a new one where it ended."""

    def __init__(self):
        self._process = None

    def ask(self, task: dict, seconds: float) -> Reply:
        """Have a task done, within seconds.

        Raises:
          ConfigError: the process does not start here.
        """
        if self._process is None:
            self._start()
        nonce, pipe = secrets.token_hex(16), self._process.stdin
        line = json.dumps(task | {"nonce": nonce, "seconds": seconds})
        with contextlib.suppress(OSError, ValueError):  # it has ended, as the next lines will see
            pipe.write(line.encode() + b"\n")
            pipe.flush()
        heard = self._hear(seconds + SPARE_S)
        reply = _bearing(nonce, heard)
        if reply is None:
            self.end()
            return Reply(VOID if heard else DIED, {})
        if reply["end"] != DONE:
            return Reply(LATE, {}, reply["took"])
        said = _bearing(nonce, reply["said"].encode())
        if said is None:
            return Reply(VOID if reply["said"] else DIED, {}, reply["took"])
        return Reply(DONE, said, reply["took"])

    def end(self) -> None:
        """End the process, which ends and removes what it has begun."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = "1"  # every thread sets memory aside
        with tempfile.TemporaryFile() as complaints:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=environment,
                start_new_session=True,
            )
            self._lines: queue.Queue = queue.Queue()
            pump = (self._process.stdout, self._lines)
            threading.Thread(target=_pump, args=pump, daemon=True).start()
            if self._hear(START_S):
                return
            self.end()
            complaints.seek(0)
            last = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
        raise ConfigError(
            f"the process that marks does not start ({''.join(last) or 'it says nothing'}): "
            f"`{sys.executable} -I -m {MODULE}` must find toymoe installed."
        )

    def _hear(self, seconds: float) -> bytes:
        """The next line; empty if none comes."""
        with contextlib.suppress(queue.Empty):
            return self._lines.get(timeout=seconds)
        return b""


def _pump(pipe, lines) -> None:
    """Lines of a pipe into a queue, and an empty one at its end."""
    with pipe, contextlib.suppress(OSError, ValueError):
        while line := pipe.readline(LONGEST):
            lines.put(line)
    lines.put(b"")


def _bearing(nonce: str, line: bytes) -> dict | None:
    """What a line holds, if it bears the number, and is nothing but that."""
    try:
        held = json.loads(line)
        return held if held.pop("nonce") == nonce else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
