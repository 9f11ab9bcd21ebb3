"""Many seeds, each made once: here, by an executor, or by others who share the folder.

Any executor of `concurrent.futures` will do (`toymoe.runs.crew` has two), as long as its processes
see the folder. What is made are files, so nothing comes back from a seed but what went wrong; a
claim beside its folder (`toymoe.runs.claims`) keeps others from it, and says where it stands.
"""

import os
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from .. import checkpoint
from ..config import ConfigError
from ..errors import ToymoeError
from ..start import start_jax
from . import claims
from .progress import Progress

POLL = 0.5  # seconds between two looks at what others do
ELSEWHERE = Progress("elsewhere", 0, 1)


class Job(NamedTuple):
    """What is to be made of every seed."""

    out: Path  # the folder of all
    seeds: list[int]
    work: Callable[[int, Callable[[Progress], None]], Any]  # leaves it in files
    read: Callable[[int], Any]  # what is there of a seed; None before it is finished


class Made:
    """What is there of every finished seed in the folder, whoever made it and asked for it."""

    def __init__(self, job: Job):
        self._job = job
        self.of: dict[int, Any] = {}
        self.errors: dict[int, str] = {}  # of the seeds asked for

    def look(self) -> bool:
        """Read what is new; whether there was anything."""
        before = len(self.of)
        for seed in sorted({*self._job.seeds, *there(self._job.out)} - self.of.keys()):
            try:
                made = self._job.read(seed)
            except (ToymoeError, OSError) as failure:
                if seed in self._job.seeds:
                    self.errors[seed] = str(failure)
                continue
            if made is not None:
                self.of[seed] = made
                self.errors.pop(seed, None)
        self.of = dict(sorted(self.of.items()))
        return len(self.of) > before

    def write(self, write: Callable[["Made"], None]) -> None:
        """Call ``write``, and again if others finished a seed meanwhile: they may have written
        before, and would be overwritten with less."""
        self.look()
        write(self)
        while self.look():
            write(self)


def there(out: Path) -> list[int]:
    """The seeds that have a folder."""
    names = [path.name.removeprefix("seed-") for path in out.glob("seed-*")]
    return sorted(int(name) for name in names if name.isdecimal())


def make(
    job: Job,
    write: Callable[[Made], None],
    watch: Callable[[int, Progress], None] = lambda seed, progress: None,
    done: Callable[[int, str], None] = lambda seed, error: None,
    crew: Executor | None = None,
) -> Made:
    """Have the work done on every seed that is not finished, and wait for those that others make.

    Args:
      write: called with all that is there after every seed.
      watch: called with a seed and its progress.
      done: called with a seed and its error ("" if there was none).
      crew: what does the work; None does it here, one seed after the other.
    """
    made = Made(job)
    made.write(write)
    waiting, running, judge = [], {}, claims.Judge()
    for seed in job.seeds:
        if seed in made.of or seed in made.errors:
            done(seed, made.errors.get(seed, ""))
        else:
            waiting.append(seed)
    while waiting or running:
        for seed in list(waiting):
            free, dead, progress = judge.look(claim_of(job.out, seed))
            if free:
                waiting.remove(seed)
                running[_begin(crew, job, seed, dead, watch)] = seed
                if crew is None:
                    break
            else:
                watch(seed, progress or ELSEWHERE)
        for future in _ended(running):
            seed = running.pop(future)
            busy, error = _outcome(future)
            if busy:
                waiting.append(seed)
                continue
            made.errors |= {seed: error} if error else {}
            made.write(write)
            if seed not in made.of and seed not in made.errors:
                made.errors[seed] = "it has left no result: run the same line again."
            done(seed, made.errors.get(seed, ""))
        for seed in running.values():
            _, _, progress = judge.look(claim_of(job.out, seed))
            if progress:
                watch(seed, progress)
    return made


# --- one seed -----------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What came of an attempt."""

    busy: bool = False  # another has it
    error: str = ""  # one sentence
    slip: Exception | None = None  # an error of the program


def attempt(work, out: Path, seed: int, dead: str | None, watch=lambda progress: None) -> Outcome:
    """One seed, unless another has it."""
    try:
        with claims.held(claim_of(out, seed), dead) as claim:
            if claim is None:
                return Outcome(busy=True)

            def told(progress):
                claim.say(progress)
                watch(progress)

            work(seed, told)
    except claims.Lost:
        return Outcome(busy=True)
    except (ToymoeError, OSError) as failure:
        return Outcome(error=str(failure))
    return Outcome()


def attempt_elsewhere(work, out: Path, seed: int, dead: str | None) -> Outcome:
    """`attempt` in another process, whose JAX has to be started."""
    try:
        start_jax()
        return attempt(work, out, seed, dead)
    except Exception as slip:
        slip.add_note(traceback.format_exc())
        return Outcome(slip=slip)


def claim_of(out: Path, seed: int) -> Path:
    return _beside(out / f"seed-{seed}")


def _beside(run: Path) -> Path:
    return run.parent / f"{run.name}.claim"


@contextmanager
def alone(out: Path) -> Iterator[Callable[[Progress], None]]:
    """Keep others from the folder of a run, as `attempt` keeps them from a seed's; what is yielded
    is to be told where the work stands, for those who wait.

    Raises:
      ConfigError: another process is at it.
    """
    claim_path = _beside(Path(os.path.abspath(out)))  # "." has a name, too
    checkpoint.make_folder(claim_path.parent)
    if not os.access(claim_path.parent, os.W_OK):  # nor can a sweep be there
        yield lambda progress: None
        return
    with claims.held(claim_path, claims.of_the_dead(claim_path)) as claim:
        if claim is None:
            raise ConfigError(f"another process is at {out}: wait for its end, or name another.")
        yield claim.say


def _begin(crew, job, seed, dead, watch) -> Future:
    if crew is not None:
        return crew.submit(attempt_elsewhere, job.work, job.out, seed, dead)
    future: Future = Future()
    future.set_result(attempt(job.work, job.out, seed, dead, partial(watch, seed)))
    return future


def _ended(running: dict[Future, int]) -> list[Future]:
    """Those that have ended, in order of their beginning, after a moment at most."""
    if not running:
        time.sleep(POLL)
    ended, _ = wait(running, POLL, FIRST_COMPLETED)
    return [future for future in running if future in ended]


def _outcome(future: Future) -> tuple[bool, str]:
    """Whether another has the seed, and what went wrong."""
    try:
        outcome = future.result()
    except Exception as failure:  # not of the work, which returns its own
        said = " ".join(str(failure).split()).split(". ")[0]
        why = "" if isinstance(failure, BrokenExecutor) else f" ({type(failure).__name__}: {said})"
        return False, f"its process ended before it did{why}: run the same line again to go on."
    if outcome.slip:
        raise outcome.slip
    return outcome.busy, outcome.error
