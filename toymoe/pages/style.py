"""The look of every figure: colours, line styles, frames, and a figure as the bytes of a PNG.

Colours are Okabe and Ito's, which colour-blind readers tell apart; line styles and markers carry
the same distinction in grey. Titles ask the figure's question.
"""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

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


def new_figure(title: str, width: float, height: float) -> Figure:
    """A figure of so many inches, its title the question it answers."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=13)
    return figure


def tidy(axes, **labels):
    """Axes without a frame, and what `Axes.set` takes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(**labels)


def png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as the bytes of a PNG file: those of savefig, which draws twice."""
    buffer, before = io.BytesIO(), (figure.canvas, figure.dpi)
    figure.set_dpi(dpi)
    FigureCanvasAgg(figure).print_png(buffer)
    figure.set_canvas(before[0])
    figure.set_dpi(before[1])
    return buffer.getvalue()
