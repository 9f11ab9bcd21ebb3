"""Ctrl-C, kill and a closed terminal: each ends a command at once, with one line.

Nothing is unwound, since files are whole or absent at any moment (`toymoe.checkpoint`). Python
would unwind only between two of its own instructions, long after a Ctrl-C that comes while XLA
compiles, and libraries make errors of their own of one that comes while they are imported.
"""

import os
import signal
import threading
import time
from collections.abc import Callable

MEANING = {
    "SIGINT": "interrupted",
    "SIGTERM": "ended by SIGTERM",
    "SIGHUP": "ended, as the terminal was closed",
}
SHOW_CURSOR = b"\x1b[?25h\n"  # a progress bar hides it, and leaves no end of line


def end_at_signals(hint: Callable[[], str]) -> None:
    """From now on SIGINT, SIGTERM and SIGHUP end this process, with exit code 128 + their number.

    A signal that is ignored stays so, as `nohup` wants it. A thread waits for them, because Python
    calls a handler in the main thread only, and not before that comes back from what it does.

    Args:
      hint: what the line says besides; called after the signal.
    """
    heard, told = os.pipe()
    if os.name != "nt":
        os.set_blocking(told, False)
    signal.set_wakeup_fd(told)
    threading.Thread(target=_end, args=(heard, hint), daemon=True).start()
    for name in MEANING:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def _end(heard: int, hint: Callable[[], str]) -> None:
    number = os.read(heard, 1)[0]
    code = 128 + number
    threading.Timer(1, os._exit, [code]).start()  # whatever keeps the line from being written
    try:
        line = f"toymoe: {MEANING[signal.Signals(number).name]}{hint()}.\n"
        screen = os.isatty(2) and os.environ.get("TERM") != "dumb" and os.name != "nt"
        os.write(2, SHOW_CURSOR * screen + os.fsencode(line))
    finally:
        os._exit(code)


def end_with_parent() -> None:
    """From now on this process ends when the one that started it has; on Windows it does not."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
