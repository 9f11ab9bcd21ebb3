"""The figures of a run, drawn by a second process while the first one trains and measures.

Drawing is Python, of which one thread runs at a time: drawn beside the measures, figures would keep
these from being compiled. The second process is this module as a script. It is told what to draw on
its standard input, and answers with all images at once.
"""

import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from ..errors import Failed
from ..signals import end_with_parent


class DrawingError(Failed, RuntimeError):
    """A figure could not be drawn; why is on standard error."""


class Painter:
    """The second process, inside a ``with``; it ends with it, or with what began it."""

    def __enter__(self) -> "Painter":
        above = str(Path(__file__).parents[2])  # where this package is found
        path = os.pathsep.join(filter(None, [above, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path, "MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull},
            start_new_session=True,  # Ctrl-C is for the first process, which ends both
        )
        return self

    def __exit__(self, *_) -> None:
        self._process.kill()
        self._process.wait()
        with suppress(OSError):  # of a pipe whose reader has ended; Windows has its own
            self._process.stdin.close()
        self._process.stdout.close()

    def draw(self, **numbers) -> None:
        """Begin to draw the figures for which all is now told, of this call or earlier ones.

        Args:
          numbers: by the names in ``drawn_from`` of the figures; others go unused.
        """
        self._tell(numbers)

    def images(self) -> dict[str, bytes]:
        """Wait for all figures; PNG files by name.

        Raises:
          DrawingError: one of them could not be drawn, or not all of its numbers were told.
        """
        self._tell(None)
        answer = self._process.stdout.read()
        if self._process.wait():
            raise DrawingError(
                "a figure could not be drawn (the reason stands above): what was trained is kept, "
                "and `toymoe run --resume` goes on from there."
            )
        return pickle.loads(answer)

    def _tell(self, what):
        with suppress(OSError):  # it has ended: `images` says so
            self._process.stdin.write(pickle.dumps(what))
            self._process.stdin.flush()


def _paint() -> None:
    answer, sys.stdout = sys.stdout.buffer, sys.stderr
    from ..pages import style
    from . import localisation_plots, plots

    figures = plots.FIGURES | localisation_plots.FIGURES
    told, images = {}, {}
    with suppress(EOFError, pickle.UnpicklingError):  # the first process has ended
        while numbers := pickle.load(sys.stdin.buffer):
            told |= numbers
            for name, figure in figures.items():
                if name not in images and told.keys() >= {*figure.drawn_from}:
                    args = (told[number] for number in figure.drawn_from)
                    images[name] = style.png(figure.draw(*args))
        if figures.keys() - images.keys():
            raise LookupError(f"not told what {figures.keys() - images.keys()} are drawn from")
        answer.write(pickle.dumps(images))
        answer.flush()


if __name__ == "__main__":
    end_with_parent()
    _paint()
