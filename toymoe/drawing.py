"""The figures of a run, drawn by a second process while the first one trains and measures.

Drawing is Python, of which one thread runs at a time: drawn beside the measures, figures would keep
these from being compiled. The second process is this module as a script. It is told what to draw on
its standard input, and answers with all images at once.
"""

import importlib
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


class Painter:
    """The second process, inside a ``with``; it ends with it, and with the process that began it.

    Raises:
      RuntimeError: a figure could not be drawn; why is on standard error.
    """

    def __enter__(self) -> "Painter":
        above = str(Path(__file__).parents[1])  # where this package is found
        path = os.pathsep.join(filter(None, [above, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for the first process, which ends both
        )
        return self

    def __exit__(self, *_) -> None:
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()

    def draw(self, figures: str, *args) -> None:
        """Begin to draw what a function of this package returns, figures by name.

        Args:
          figures: such as "plots.training_figures".
          args: what the function takes: plain numbers and arrays.
        """
        self._tell((figures, args))

    def images(self) -> dict[str, bytes]:
        """Wait for all figures; PNG files by name."""
        self._tell(None)
        answer = self._process.stdout.read()
        if self._process.wait():
            raise RuntimeError("a figure could not be drawn: see the error above.")
        return pickle.loads(answer)

    def _tell(self, what):
        with suppress(BrokenPipeError):  # it has ended: `images` says so
            self._process.stdin.write(pickle.dumps(what))
            self._process.stdin.flush()


def _paint() -> None:
    answer, sys.stdout = sys.stdout.buffer, sys.stderr
    from . import inside_plots, plots  # noqa: F401 - at once, while nothing is asked for

    images = {}
    with suppress(EOFError):  # the first process has ended
        while what := pickle.load(sys.stdin.buffer):
            module, name = what[0].split(".")
            make = getattr(importlib.import_module(f"{__package__}.{module}"), name)
            images |= {name: plots.png(figure) for name, figure in make(*what[1]).items()}
        answer.write(pickle.dumps(images))
        answer.flush()


if __name__ == "__main__":
    _paint()
