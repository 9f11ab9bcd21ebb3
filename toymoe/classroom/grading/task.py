"""What a process of its own does of marking: read a submission, or run a function of one.

Here a student's code runs. What is said of it goes to one file; the verdict is another process's,
which has the expected values. `python -I -m toymoe.classroom.grading.task` does one task.
"""

import json
import linecache
import os
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from ...signals import end_with_parent
from .. import checks
from ..checks import judging
from . import program, submission, values

MOST_CHANGES = 300  # of files, so that removing them does not take long
NO_PROCESSES = {
    *("os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.exec"),
    *("os.startfile", "os.kill", "os.killpg", "pty.spawn", "subprocess.Popen"),
}
WRITING = {
    *("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "os.chdir", "shutil.rmtree", "shutil.move"),
}


def perform(line: bytes, out: int, folder: str) -> None:
    """Do a task, which is JSON, and write what came of it to the file ``out``, as JSON, too."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    sys.stdin = sys.stdout = sys.stderr = open(os.devnull, "r+", encoding="utf-8")
    task = json.loads(line)
    nonce = task.pop("nonce")
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    _bound("RLIMIT_AS", task["memory"])
    _bound("RLIMIT_FSIZE", 10**7)
    _bound("RLIMIT_CORE", 0)
    said = _read(task) if "path" in task else _run(task, folder)
    with open(out, "wb", closefd=False) as file:
        file.write(json.dumps(said | {"nonce": nonce}).encode())


# --- reading ------------------------------------------------------------------------------------


def _read(task: dict) -> dict:
    """The lesson, what defines each of its functions, and what is missing, or an error.

    The task holds the ``path``, the ``lesson`` or null, and the names of every lesson's ``checks``.
    """
    try:
        parts = program.Parts(submission.read(Path(os.fsdecode(bytes.fromhex(task["path"])))))
    except submission.SubmissionError as error:
        return {"error": str(error)}
    except Exception as error:  # whatever a hostile file makes a parser do
        return {"error": f"cannot be read ({type(error).__name__})."}
    lesson = task["lesson"]
    if lesson is None:
        lesson = _lesson(parts, task["checks"])
    said = {"lesson": lesson, "programs": {}, "missing": {}, "broken": {}}
    for name in task["checks"].get(str(lesson), ()):
        try:
            found = parts.programs(name, set(task["checks"][str(lesson)]))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            said["broken"][name] = f"cannot be compiled ({error})."
            continue
        if found:
            said["programs"][name] = found
        else:
            said["missing"][name] = f"there is no function {name}{parts.reason(name)}."
    return said


def _lesson(parts: program.Parts, known: dict[str, list[str]]) -> int | None:
    """The lesson with most of the functions."""
    kinds = [parts.functions(kind) for kind in (program.SURE, program.PERHAPS)]
    shared = {n: [len(kind.intersection(names)) for kind in kinds] for n, names in known.items()}
    best = max(shared, key=lambda n: shared[n])
    return int(best) if any(shared[best]) else None


# --- running ------------------------------------------------------------------------------------


class Shell:
    """What `get_ipython` gives where no notebook runs: all it can do comes to None."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


def _run(task: dict, folder: str) -> dict:
    """What a function comes to on each of the inputs.

    The task holds the ``program``, the ``name`` it defines, the ``inputs`` and, of the ``lesson``,
    the other functions that it ``uses``.
    """
    known = checks.lesson_checks(task["lesson"])
    names = {other: known[other].reference for other in task["uses"]}
    names |= {"__name__": "__main__", "get_ipython": Shell, "display": Shell().display}
    inputs = values.unpack(task["inputs"])
    del known
    _hide(task["name"], task["lesson"])
    sys.addaudithook(_guard(folder))
    text, where = task["program"], "<submission>"
    linecache.cache[where] = (len(text), None, text.splitlines(True), where)
    try:
        exec(compile(text, where, "exec"), names)
    except BaseException as error:
        return {"stopped": judging.one_line(error)[:1000]}
    function = names.get(task["name"])
    if not callable(function):
        return {"value": values.named(function)}
    return {"outcomes": [_outcome(function, case) for case in inputs]}


def _outcome(function, case: tuple) -> list:
    """What a function returns, packed, whether that is an exception, and a complaint."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):  # as `judge` does
            warnings.simplefilter("ignore")
            got, complaint = judging.call(function, case)
        raised = isinstance(got, judging.Raised)
        got = [part[:100] for part in got] if raised else got
        return [values.pack(got), raised, complaint[:1000]]
    except values.TooLarge as error:
        return [None, False, f"it returns {error}, more than is asked for."]
    except BaseException as error:
        kind = type(error).__name__
        return [None, False, f"it returns what cannot be looked at, or stops with {kind}."]


def _hide(name: str, lesson: int) -> None:
    """No answer is to be had by importing it; what else lessons import from there stays."""
    held = vars(vars(checks)[f"lesson{lesson}"])
    for key, value in list(held.items()):
        if key in (name, "CHECKS") or isinstance(value, checks.Check):
            del held[key]


def _guard(folder: str):
    """Refuses new processes, and changes of files that are many or not in the folder."""
    inside, left = os.path.join(folder, ""), [MOST_CHANGES]

    def hear(event, args):
        if event in NO_PROCESSES:
            raise PermissionError(f"{event} is not allowed where functions are marked")
        if event == "open":
            changes = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            paths = args[:1] if changes else ()
        else:
            paths = args[:2] if event in WRITING else ()
        for path in paths:
            if not isinstance(path, str | bytes | os.PathLike) or path == os.devnull:
                continue
            left[0] -= 1
            if left[0] < 0:
                raise PermissionError(f"more than {MOST_CHANGES} changes of files")
            path = os.fsdecode(path)
            far = os.path.isabs(path) or os.pardir in path  # the working folder is always inside
            if far and not os.path.abspath(path).startswith(inside):
                raise PermissionError("files are changed in the working folder only")

    return hear


def _bound(name: str, most: int) -> None:
    """A limit on this process, where the system has it."""
    try:
        import resource

        _, hard = resource.getrlimit(getattr(resource, name))
        resource.setrlimit(getattr(resource, name), (most, hard))
    except (ImportError, AttributeError, ValueError, OSError):
        pass  # Windows has none of them, and macOS not all


def main() -> None:
    """One task from standard input, whose result goes to what was standard output."""
    end_with_parent()
    line, out = sys.stdin.buffer.read(), os.dup(1)
    perform(line, out, os.getcwd())
    os._exit(0)  # whatever threads or exit handlers were left behind


if __name__ == "__main__":
    main()
