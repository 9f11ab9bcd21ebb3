"""The look of every figure: colours, line styles, frames, and a figure as the bytes of a PNG.

Colours are Okabe and Ito's, which colour-blind readers tell apart; line styles and markers carry
the same distinction in grey. Titles ask the figure's question. A function that draws stands under
``@defaults()``. Matplotlib is imported when the first figure is drawn: that takes nearly a second.
"""

import io
import os
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import matplotlib.figure

Figure: TypeAlias = "matplotlib.figure.Figure"  # by name, as IPython's formatters take it too

BLACK, ORANGE, SKY, GREEN, BLUE, RED = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
)
STYLES = (
    dict(color=BLUE, linestyle="-", marker="o"),
    dict(color=RED, linestyle="--", marker="s"),
    dict(color=GREEN, linestyle="-.", marker="^"),
    dict(color=ORANGE, linestyle=":", marker="D"),
    dict(color=SKY, linestyle=(0, (5, 1, 1, 1)), marker="v"),
    dict(color=BLACK, linestyle=(0, (1, 2)), marker="x"),
)
GREY = "0.6"


@contextmanager
def defaults():
    """Matplotlib's own settings, whatever the matplotlibrc or style; what was set comes back after.

    Matplotlib looks settings up when an axis or a line is made as well as when it is painted: what
    draws needs this around it as much as what saves does.
    """
    backend = os.environ.get("MPLBACKEND", "")
    if backend.startswith("module://") and not find_spec(backend[9:].partition(".")[0]):
        del os.environ["MPLBACKEND"]  # of the notebook that began this process, and not known here
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def new_figure(title: str, width: float, height: float) -> Figure:
    """A figure of so many inches, its title the question it answers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=13)
    return figure


def tidy(axes, **labels):
    """Axes without a frame, and what `Axes.set` takes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(**labels)


@defaults()
def png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as the bytes of a PNG file: those of savefig, which draws twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer, before = io.BytesIO(), (figure.canvas, figure.dpi)
    figure.set_dpi(dpi)
    FigureCanvasAgg(figure).print_png(buffer)
    figure.set_canvas(before[0])
    figure.set_dpi(before[1])
    return buffer.getvalue()
