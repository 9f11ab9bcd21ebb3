"""Claims: who works on what, in a folder that many processes and machines share.

A claim is a file that one process alone can make, and that it writes anew every moment with where
its work stands. One whose process is dead is taken away: on the same machine at once, on another
when it has not changed for `STALE` seconds of one's own clock, so clocks need not agree.
"""

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..errors import Failed
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


class Claim:
    """A claim of this process, renewed by a thread."""

    def __init__(self, path: Path, file: int):
        self._path, self._file, self._over = path, file, threading.Event()
        pid = os.getpid()
        self._says = Holder(secrets.token_hex(8), _machine(), pid, _born(pid) or "", 0, None)
        self.lost = False
        try:
            self._write()
        except OSError:  # no space left
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

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
        self._thread.join()
        os.close(self._file)
        if self._mine():
            self._path.unlink(missing_ok=True)

    def _renew(self):
        missed = 0
        while not self._over.wait(BEAT):
            # Once is a moment in which another puts back what it took by mistake.
            missed = 0 if self._mine() else missed + 1
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
        yield claim
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
        holder, now = _holder(said), time.monotonic()
        before, since = self._seen.get(path, (None, now))
        self._seen[path] = said, since if said == before else now
        if said == before and now - since > STALE:
            return True, _token(holder), None
        free = holder is not None and _is_dead(holder)
        return free, None, holder and holder.progress


def _take(path: Path, dead: str | None) -> Claim | None:
    for _ in range(2):  # the second time when a dead one has been taken away
        try:
            return Claim(path, os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
        except FileExistsError:
            pass
        try:
            holder = _holder(path.read_bytes())
        except FileNotFoundError:
            continue
        if not (holder and _is_dead(holder)) and _token(holder) != dead:
            return None
        _take_away(path, _token(holder))
    return None


def _take_away(path: Path, token: str) -> None:
    """Remove the claim with this token and no other: of all who try, one gets the file."""
    aside = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if _token(_holder(aside.read_bytes())) != token:  # that was gone, and this is a new one
        with suppress(OSError):
            os.link(aside, path)
    aside.unlink()


def _holder(said: bytes) -> Holder | None:
    """What a claim says; None where it has been made and not yet written."""
    try:
        *plain, progress = json.loads(said)
        return Holder(*plain, progress and Progress(*progress))
    except (ValueError, TypeError):
        return None


def _token(holder: Holder | None) -> str:
    return holder.token if holder else ""


def _is_dead(holder: Holder) -> bool:
    """Whether its process was one of this machine, and is no more."""
    return holder.machine == _machine() and _born(holder.pid) not in (holder.born, "")


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
