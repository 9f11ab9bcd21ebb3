"""Claims: who works on what, in a folder that many processes and machines share.

A claim is a file that one process alone can make, and that it writes anew every moment with where
its work stands. One whose process is dead is taken over: on the same machine at once, on another
when it has not changed for `STALE` seconds of one's own clock, so clocks need not agree.
"""

import json
import os
import platform
import secrets
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..errors import Failed, ToymoeWarning
from .progress import Progress

BEAT, STALE = 1.0, 120.0  # seconds: a claim is written anew, and one that is not is a dead one's
_SIZE = 512  # bytes: written at once, over the ones before


class Lost(Failed):
    """Another process took the claim over, because this one had seemed dead to it."""


class Holder(NamedTuple):
    """What a claim says."""

    token: str  # of this claim and no other
    machine: str
    pid: int
    born: str  # when its process began, in the system's words
    beat: int
    progress: Progress | None


_SOMEBODY = Holder("unknown", "unknown", 0, "", 0, None)  # has a claim that cannot be read


class Claim:
    """A claim of this process; ``begin`` has a thread renew it."""

    def __init__(self, path: Path):
        """Raises FileExistsError where there is one."""
        self._path, self._over, self._thread = path, threading.Event(), None
        self.lost = False
        pid = os.getpid()
        self._says = Holder(secrets.token_hex(8), _machine(), pid, _born(pid) or "", 0, None)
        self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        try:
            self._write()
        except OSError:  # no space left
            self.end()
            raise

    def begin(self) -> "Claim":
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()
        return self

    def move(self, path: Path) -> None:
        """Into the place of another."""
        os.close(self._file)  # or Windows would not move it
        os.replace(self._path, path)
        self._path, self._file = path, os.open(path, os.O_RDWR)

    def say(self, progress: Progress) -> None:
        """Where the work stands.

        Raises:
          Lost: the claim is another's by now.
        """
        self._says = self._says._replace(progress=progress)
        if self.lost:
            raise Lost(f"{self._path.name} was taken over by another process.")

    def end(self) -> None:
        """Give it back."""
        self._over.set()
        if self._thread:
            self._thread.join()
        os.close(self._file)
        if self._mine():
            self._path.unlink(missing_ok=True)

    def _renew(self):
        missed = 0
        while not self._over.wait(BEAT):
            missed = 0 if self._mine() else missed + 1  # once may be a folder's hiccup
            self.lost = self.lost or missed > 1
            with suppress(OSError):  # a network's folder is away for a while
                self._says = self._says._replace(beat=self._says.beat + 1)
                self._write()

    def _mine(self) -> bool:
        try:
            holder = _holder(self._path.read_bytes())
        except FileNotFoundError:
            return False
        except OSError:
            return not self.lost
        return holder is None or holder.token == self._says.token

    def _write(self):
        os.lseek(self._file, 0, os.SEEK_SET)
        os.write(self._file, json.dumps(self._says, default=float).encode().ljust(_SIZE))
        os.fsync(self._file)  # or another machine would not see it


@contextmanager
def held(path: Path, dead: str | None = None) -> Iterator[Claim | None]:
    """The claim ``path`` for as long as the work lasts; None where another has it.

    Args:
      dead: the token of a claim whose process is known to be dead, see `Judge`.
    """
    claim = _take(path, dead)
    try:
        yield claim and claim.begin()
    finally:
        if claim:
            claim.end()


class Judge:
    """Watches claims, to see which are not renewed any more."""

    def __init__(self):
        self._seen: dict[Path, tuple[bytes, float]] = {}

    def look(self, path: Path) -> tuple[bool, str | None, Progress | None]:
        """Whether the claim can be had; the token with which, if it is a dead one's on another
        machine; and where its work stands, if that is known."""
        try:
            said = path.read_bytes()
        except FileNotFoundError:
            return True, None, None
        except OSError:  # a network's folder is away for a while
            return False, None, None
        holder, now = _holder(said), time.monotonic()
        before, since = self._seen.get(path, (None, now))
        self._seen[path] = said, since if said == before else now
        dead = holder and _is_dead(holder)
        if dead is None and said == before and now - since > STALE:
            return True, _token(holder), None
        return bool(dead), None, holder and holder.progress


def of_the_dead(path: Path) -> str | None:
    """The token with which `held` takes a claim over, where it needs one and its process is dead.

    Whether one lives of which this machine cannot tell is waited for, `STALE` seconds at most.
    """
    judge, first = Judge(), _read(path)
    free, token, _ = judge.look(path)
    if free or (first and _is_dead(first) is False):
        return token
    warnings.warn(
        f"{path} is of a process that may run elsewhere, or have ended: waiting for a sign of it, "
        f"{STALE:.0f} s at most.",
        ToymoeWarning,
        stacklevel=2,
    )
    while not free and _read(path) in (first, _SOMEBODY):
        time.sleep(BEAT / 2)
        free, token, _ = judge.look(path)
    return token


def _take(path: Path, dead: str | None) -> Claim | None:
    try:
        return Claim(path)
    except FileExistsError:
        pass
    holder = _read(path)
    token = _token(holder)
    if not (holder and _is_dead(holder)) and token != dead:
        return None
    # Who would replace it claims the right to, which is bound to this one dead claim.
    heir = _take(path.with_suffix(f".over{token}"), None)
    if heir and _token(_read(path)) == token:
        heir.move(path)
        return heir
    if heir:  # another was faster
        heir.end()
    return None


def _read(path: Path) -> Holder | None:
    try:
        return _holder(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError:
        return _SOMEBODY


def _holder(said: bytes) -> Holder | None:
    """What a claim says; None where it has been made and not yet written."""
    try:
        *plain, progress = json.loads(said)
        return Holder(*plain, progress and Progress(*progress))
    except (ValueError, TypeError):
        return None


def _token(holder: Holder | None) -> str:
    return holder.token if holder else ""


def _is_dead(holder: Holder) -> bool | None:
    """Whether its process is no more; None where this machine cannot tell."""
    if holder.machine != _machine():
        return None
    born = _born(holder.pid)
    return None if born == "" else born != holder.born


@cache
def _machine() -> str:
    """The name of this machine, or of the part of it within which process ids are told apart."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _born(pid: int) -> str | None:
    """When a process of this machine began; "" where that is not known, None where it is dead."""
    with suppress(OSError, IndexError):
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in ("Z", "X") else rest[18]
    if os.name != "nt":  # where signal 0 would end it
        with suppress(PermissionError):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return None
    return ""
