"""Mark submissions: several processes at once, each with limits.

Nothing a student hands in can cost another student's marks. This protects against accidents:
endless loops, exits, floods of output, a full memory. It is not a sandbox: code that means harm
can read and delete what you can.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ...config import ConfigError
from .. import checks
from . import submission

START_S = 120.0  # for a process to be ready, on a busy machine
PATIENCE = 6  # seconds that may pass for each second of computing, where computing is measured
MISSING, BROKEN, STOPPED = "missing", "unreadable", "stopped"


class Row(NamedTuple):
    """A line of the sheet."""

    student: str
    file: str
    lesson: int
    check: str
    mark: int  # 1 or 0
    status: str  # solved, not yet, wrong, missing, unreadable, stopped
    message: str
    seconds: float


class Limits(NamedTuple):
    """What one check may use."""

    seconds: int = 10  # of computing; on Windows, of waiting
    memory: int = 4 * 2**30  # bytes of address space, of which JAX takes much


def mark(
    paths: list[Path],
    lesson: int | None = None,
    seed: int = 0,
    limits: Limits | None = None,
    watch: Callable[[str], None] = lambda student: None,
) -> list[Row]:
    """One row per submission and check, in the order of the paths.

    Args:
      lesson: its number; by default the one whose functions a file defines, and for a file that
        defines none the one that most of the others belong to.
      seed: of the random inputs.
      watch: called with each student's name when done.

    Raises:
      ConfigError: the process that runs students' functions cannot start here.
    """
    limits = limits or Limits()
    students, read = names(paths), [_read(path) for path in paths]
    lessons = [_lesson_of(found) if lesson is None else lesson for found in read]
    usual = Counter(n for n in lessons if n is not None).most_common(1)
    most = usual[0][0] if usual else checks.LESSONS[0]
    lessons = [most if n is None else n for n in lessons]
    lock = threading.Lock()

    def one(i: int) -> list[Row]:
        rows = _mark_one(students[i], paths[i], read[i], lessons[i], seed, limits)
        with lock:
            watch(students[i])
        return rows

    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2)) as pool:
        return [row for rows in pool.map(one, range(len(paths))) for row in rows]


def names(paths: list[Path]) -> list[str]:
    """A name for each submission: the shortest end of its path that is nobody else's."""
    parts = [(*path.parts[:-1], path.stem) for path in paths]
    given = []
    for i, mine in enumerate(parts):
        for length in range(1, len(mine) + 1):
            end = mine[-length:]
            if sum(other[-length:] == end for other in parts) == 1 or length == len(mine):
                same = sum(other == mine for other in parts[:i])  # .py beside .ipynb
                given.append(Path(*end).as_posix() + (f" ({same + 1})" if same else ""))
                break
    return given


def _read(path: Path) -> submission.Submission | str:
    """The submission, or why it cannot be read."""
    try:
        return submission.read(path)
    except submission.SubmissionError as error:
        return str(error)
    except Exception as error:  # whatever a hostile file makes a parser do
        return f"cannot be read ({type(error).__name__})."


def _lesson_of(found) -> int | None:
    if isinstance(found, str):
        return None
    mine = found.functions()
    shared = {n: len(mine & checks.lesson_checks(n).keys()) for n in checks.LESSONS}
    best = max(shared, key=lambda n: shared[n])
    return best if shared[best] else None


def _mark_one(student, path, found, lesson, seed, limits) -> list[Row]:
    verdicts: dict[str, tuple[str, str, float]] = {}
    programs, known = {}, checks.lesson_checks(lesson)
    for name in known:
        if isinstance(found, str):
            verdicts[name] = (BROKEN, found, 0.0)
            continue
        try:
            program = submission.needed(found, name, set(known) - {name})
        except (SyntaxError, ValueError, RecursionError) as error:
            verdicts[name] = (BROKEN, f"cannot be compiled ({error}).", 0.0)
            continue
        if program is None:
            why = f" ({found.remarks[0]})" if found.remarks else ""
            verdicts[name] = (MISSING, f"there is no function {name}{why}.", 0.0)
        else:
            programs[name] = program
    while programs:  # a process that ends early is followed by another, for what is left
        done = _process(programs, lesson, seed, limits)
        verdicts |= done
        programs = {name: p for name, p in programs.items() if name not in done}
    return [
        Row(student, str(path), lesson, name, int(status == checks.SOLVED), status, message, took)
        for name in known
        for status, message, took in [verdicts[name]]
    ]


def _process(programs, lesson, seed, limits) -> dict[str, tuple[str, str, float]]:
    """Verdicts of one process: of all the programs, or of those up to one that ended it."""
    task = {
        "programs": programs,
        "lesson": lesson,
        "seed": seed,
        "memory": limits.memory,
        "seconds": limits.seconds,
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[name] = "1"  # every thread sets memory aside
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as complaints,
    ):
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "toymoe.classroom.grading.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        lines: queue.Queue = queue.Queue()
        reader = threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True)
        reader.start()
        try:
            with contextlib.suppress(OSError), process.stdin:
                process.stdin.write(json.dumps(task).encode())
            _await_start(lines, complaints)
            return _follow(process, lines, programs, limits)
        finally:
            _end(process)
            reader.join(1)


def _pump(pipe, lines) -> None:
    """Lines of a pipe into a queue, and None at its end; too long ones are dropped."""
    with contextlib.suppress(OSError, ValueError):
        while line := pipe.readline(100_000):
            lines.put(line)
    lines.put(None)


def _await_start(lines, complaints) -> None:
    """Until the process is ready for students' functions: none of them is to blame before."""
    try:
        line = lines.get(timeout=START_S)
    except queue.Empty:
        line = None
    if line is None:
        complaints.seek(0)
        last = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
        raise ConfigError(
            f"the process that marks does not start ({''.join(last) or 'it says nothing'}): "
            f"`{sys.executable} -I -m toymoe.classroom.grading.worker` must find toymoe installed."
        )


def _follow(process, lines, programs, limits) -> dict[str, tuple[str, str, float]]:
    done: dict[str, tuple[str, str, float]] = {}
    too_long = f"takes longer than {limits.seconds} s: is there an endless loop?"
    wait_s = limits.seconds * (PATIENCE if hasattr(signal, "SIGXCPU") else 1)
    current, began, deadline = None, 0.0, time.monotonic() + START_S
    while len(done) < len(programs):
        try:
            line = lines.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            why = too_long
            break
        if line is None:
            why = "ended the whole process (an exit, too much memory, or a crash)."
            with contextlib.suppress(subprocess.TimeoutExpired):
                if process.wait(1) == -getattr(signal, "SIGXCPU", 0) != 0:
                    why = too_long
            break
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(said, dict):
            continue
        if "begin" in said:
            current, began = said["begin"], time.monotonic()
            deadline = began + wait_s
        elif said.get("end") == current and current is not None and "status" in said:
            took = round(time.monotonic() - began, 2)
            done[current] = (str(said["status"]), str(said.get("message", "")), took)
            current, deadline = None, time.monotonic() + START_S
    else:
        return done
    stopped = current or next(name for name in programs if name not in done)
    took = round(time.monotonic() - began, 2) if current else 0.0
    return done | {stopped: (STOPPED, why, took)}


def _end(process) -> None:
    """End the process and what it started; it leads a group of its own."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
    process.stdout.close()
