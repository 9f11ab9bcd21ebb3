"""What does the work on many seeds at once: processes of this machine, or a cluster.

Both are executors of `concurrent.futures`.
"""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker

from ..config import ConfigError
from ..errors import Failed, one_line
from ..signals import end_with_parent

PATIENCE = "10s"  # until a scheduler answers
# Where a signal ended all, Python puts away what they had shared, and would complain of it.
QUIET = "ignore:resource_tracker:UserWarning"


class Processes(Executor):
    """``n`` processes, each a pool of its own, so that one that dies costs only what it was at."""

    def __init__(self, n: int):
        if QUIET not in sys.warnoptions:  # which the process that minds semaphores is begun with
            sys.warnoptions.append(QUIET)
        self._threads, self._mine = ThreadPoolExecutor(n), threading.local()
        self._pools: dict[int, ProcessPoolExecutor] = {}  # by process id

    def submit(self, function, /, *args, **kwargs) -> Future:
        return self._threads.submit(self._run, function, args, kwargs)

    def __exit__(self, kind, *_):
        if kind:  # what runs is not waited for
            self._threads.shutdown(wait=False, cancel_futures=True)
            for pid in list(self._pools):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        self.shutdown()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        for pool in self._pools.values():
            pool.shutdown(wait)

    def _run(self, function, args, kwargs):
        try:
            return self._pool().submit(function, *args, **kwargs).result()
        except BrokenProcessPool:
            self._pools.pop(self._mine.__dict__.pop("pid", None), None)
            raise

    def _pool(self) -> ProcessPoolExecutor:
        """This thread's."""
        if not hasattr(self._mine, "pid"):
            if os.name != "nt":  # Ctrl-C is for the first process, with which all end
                resource_tracker.ensure_running()  # its start would let it through again
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            pool = ProcessPoolExecutor(1, get_context("spawn"), _begin)
            self._mine.pid = pool.submit(os.getpid).result()
            self._pools[self._mine.pid] = pool
        return self._pools[self._mine.pid]


def _begin():
    warnings.formatwarning = one_line
    end_with_parent()


@contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """The workers of a Dask scheduler.

    Raises:
      ConfigError: Dask is not installed, or the address is none.
      Failed: no scheduler answers there.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            "--cluster needs Dask, which is not installed here: pip install 'toymoe[cluster]'."
        ) from error
    try:
        client = Client(address, timeout=PATIENCE)
    except ValueError as error:
        raise ConfigError(
            f"--cluster {address} is not possible ({error}): write tcp://HOST:PORT."
        ) from error
    except OSError as error:
        raise Failed(
            f"no Dask scheduler answers at {address}: name the one that `dask scheduler` says."
        ) from error
    with client:
        yield client.get_executor(pure=False)  # the same seed twice is another attempt
