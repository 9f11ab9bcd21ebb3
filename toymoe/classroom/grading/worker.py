"""The process in which a student's functions run: ``python -I -m toymoe.classroom.grading.worker``.

Reads one JSON object from standard input, and writes a line of JSON before and after each check to
what was its standard output; whatever the student's code prints goes nowhere.
"""

import json
import math
import os
import sys
import time

from ...signals import end_with_parent
from ...start import set_flags


def main() -> None:
    """See the module docstring."""
    end_with_parent()
    task = json.loads(sys.stdin.buffer.read())
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")
    from .. import checks

    set_flags()

    limit(task["memory"])
    me = os.getpid()

    def say(**line):
        if os.getpid() == me:  # not in a copy that the student's code made
            report.write(json.dumps(line) + "\n")
            report.flush()

    say(ready=True)
    known = checks.lesson_checks(task["lesson"])
    for name, program in task["programs"].items():
        say(begin=name)
        _bound("RLIMIT_CPU", math.ceil(time.process_time()) + task["seconds"])
        names = {other: known[other].reference for other in known if other != name}
        status, message = one(checks, known[name], program, names, task["seed"])
        say(end=name, status=status, message=message)
    os._exit(0)  # whatever threads or exit handlers were left behind


def one(checks, check, program: str, names: dict, seed: int) -> tuple[str, str]:
    """Define a student's function among some names and judge it."""
    names["__name__"] = "__main__"
    try:
        exec(compile(program, "<submission>", "exec"), names)
    except BaseException as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return "wrong", f"the cells it needs stop with {text}."
    try:
        return tuple(checks.judge(check, names.get(check.name), seed))
    except BaseException as error:
        return "wrong", f"it stops with {type(error).__name__}."


def limit(memory: int) -> None:
    """Bounds on this process, where the system has them: bytes of memory and of files."""

    def refused(*_, **__):
        raise PermissionError("new processes are not allowed here")

    for name in ("fork", "forkpty", "system", "posix_spawn", "posix_spawnp"):
        if hasattr(os, name):
            setattr(os, name, refused)
    _bound("RLIMIT_AS", memory)
    _bound("RLIMIT_FSIZE", 10**7)
    _bound("RLIMIT_CORE", 0)


def _bound(name: str, most: int) -> None:
    try:
        import resource

        _, hard = resource.getrlimit(getattr(resource, name))
        resource.setrlimit(getattr(resource, name), (most, hard))
    except (ImportError, AttributeError, ValueError, OSError):
        pass  # Windows has none of them, and macOS not all


if __name__ == "__main__":
    main()
