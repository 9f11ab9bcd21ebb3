"""Mark submissions: several at once, each read and run in processes of their own, with limits.

Nothing a student hands in can cost another student's marks. This protects against accidents:
endless loops, exits, floods of output, a full memory. It is not a sandbox: code that means harm
can read and delete what you can.
"""

import json
import os
import queue
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import checks
from ..checks.judging import Raised
from . import values
from .channel import DIED, DONE, LATE, VOID, Worker
from .rows import Row, plain, students

MISSING, BROKEN, STOPPED, WRONG = "missing", "unreadable", "stopped", "wrong"
LONGEST = 1000  # letters of a message
ENDED = "ended the whole process (an exit, too much memory, or a crash)."
FORGED = "something else came back than what the function returns: look at this file."


class Limits(NamedTuple):
    """What reading a file, and each check, may use."""

    seconds: int = 10
    memory: int = 4 * 2**30  # bytes of address space, of which JAX takes much


class _Said(NamedTuple):
    """What comes of one function."""

    status: str
    message: str
    seconds: float = 0.0


def mark(
    paths: list[Path], lesson: int | None = None, seed: int = 0, limits: Limits | None = None
) -> Iterator[tuple[int, list[Row]]]:
    """Each submission's place among the paths and its rows, one per check, as soon as it is marked.

    Args:
      lesson: its number; by default the one whose functions a file defines, and for a file that
        defines none the one that most of the others belong to.
      seed: of the random inputs.

    Raises:
      ConfigError: the process that runs students' functions cannot start here.
    """
    count = max(2, os.cpu_count() or 2)
    marker = _Marker(seed, limits or Limits(), count)
    pool = ThreadPoolExecutor(max_workers=count)
    whose, usual, put_off = students(paths), Counter(), {}

    def rows(i: int, lesson: int, said: dict[str, _Said]) -> tuple[int, list[Row]]:
        return i, [_row(whose[i], paths[i], lesson, name, one) for name, one in said.items()]

    try:
        begun = {pool.submit(marker.mark, path, lesson): i for i, path in enumerate(paths)}
        for future in as_completed(begun):
            found, said = future.result()
            if found is None:
                put_off[begun[future]] = said
            else:
                usual[found] += 1
                yield rows(begun[future], found, said)
        usual = max(usual, key=usual.__getitem__, default=checks.LESSONS[0])
        for i, why in sorted(put_off.items()):
            yield rows(i, *marker.mark(paths[i], usual, why))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        marker.end()
        pool.shutdown()


def _row(student: str, path: Path, lesson: int, name: str, said: _Said) -> Row:
    mark, message = int(said.status == checks.SOLVED), plain(said.message)[:LONGEST]
    file = plain(os.fspath(path))
    return Row(student, file, lesson, name, mark, said.status, message, said.seconds)


class _Marker:
    """Marks submissions, as many at once as it has workers."""

    def __init__(self, seed: int, limits: Limits, count: int):
        self._seed, self._limits = seed, limits
        self._names = {n: list(checks.lesson_checks(n)) for n in checks.LESSONS}
        self._over = False
        self._all = [Worker() for _ in range(count)]
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._all:
            self._idle.put(worker)
        self._judging = threading.Lock()  # numpy's and Python's warnings are everybody's

    def end(self) -> None:
        """End the workers, whatever they do."""
        self._over = True
        for worker in self._all:
            worker.end()

    def mark(self, path: Path, lesson: int | None, why: str = "") -> tuple[int | None, Any]:
        """The lesson, and what comes of each of its functions; if no lesson shows, None and why the
        file cannot be read.

        Args:
          why: it cannot be read, as is known already.
        """
        worker = self._idle.get()
        try:
            return self._mark(worker, path, lesson, why)
        finally:
            self._idle.put(worker)

    def _mark(self, worker, path, lesson, why):
        if not why:
            task = {
                "path": os.fsencode(os.path.abspath(path)).hex(),
                "lesson": lesson,
                "checks": self._names,
            }
            reply = self._ask(worker, task)
            why = {
                LATE: f"takes longer than {self._limits.seconds} s to read.",
                DIED: "cannot be read: it ends the process that reads it.",
                VOID: FORGED,
            }.get(reply.end) or reply.said.get("error", "")
        if why and lesson is None:
            return None, why
        if why:
            return lesson, {name: _Said(BROKEN, why) for name in self._names[lesson]}
        lesson, found = reply.said["lesson"], reply.said
        if lesson is None:
            return None, ""
        said = {}
        for name in self._names[lesson]:
            if name in found["programs"]:
                said[name] = self._function(worker, lesson, name, found["programs"][name])
            elif name in found["missing"]:
                said[name] = _Said(MISSING, found["missing"][name])
            else:
                said[name] = _Said(BROKEN, found["broken"][name])
        return lesson, said

    def _ask(self, worker, task):
        if self._over:
            raise KeyboardInterrupt
        return worker.ask(task | {"memory": self._limits.memory}, self._limits.seconds)

    def _function(self, worker, lesson, name, programs) -> _Said:
        """What comes of the first program that makes a function, or of the last one."""
        check = checks.lesson_checks(lesson)[name]
        inputs = [values.pack(case) for case in check.cases(np.random.default_rng(self._seed))]
        for text, uses in programs:
            task = {"program": text, "name": name, "lesson": lesson, "uses": uses}
            reply = self._ask(worker, task | {"inputs": inputs})
            if "outcomes" in reply.said:
                break
        try:
            status, message = self._verdict(check, inputs, reply)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            status, message = VOID, FORGED
        return _Said(status, message, reply.took)

    def _verdict(self, check, inputs, reply) -> tuple[str, str]:
        if reply.end == LATE:
            return STOPPED, f"takes longer than {self._limits.seconds} s: is there an endless loop?"
        if reply.end != DONE:
            return (STOPPED, ENDED) if reply.end == DIED else (VOID, FORGED)
        if "stopped" in reply.said:
            return WRONG, f"the cells it needs stop with {reply.said['stopped']}."
        if "value" in reply.said:
            answer, came = values.unpack(reply.said["value"]), {}
        else:
            answer = checks.judge  # any function: `run` says what came of it
            came = {
                json.dumps(case): _outcome(*one)
                for case, one in zip(inputs, reply.said["outcomes"], strict=True)
            }
        with self._judging:
            verdict = checks.judge(
                check, answer, self._seed, lambda _, case: came[json.dumps(values.pack(case))]
            )
        return verdict.status, verdict.message


def _outcome(packed, raised, complaint):
    got = values.unpack(packed)
    return Raised(str(*got)) if raised else got, str(complaint)
