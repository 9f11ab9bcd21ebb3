"""The figure of `toymoe score`: every method by every mechanism and every sham."""

import numpy as np

from ..pages import words
from ..pages.style import Figure, defaults, new_figure

TITLE = "Which methods find what is there, and which what is not?"
PANELS = (  # key, title, colours
    ("named", "right part named, at 5 %\nfalse alarms in each kind of sham", "Blues"),
    ("elsewhere", "an expert found, where\nno expert is the answer", "Oranges"),
    ("alarms", "found, where there\nis nothing to find", "Oranges"),
)


@defaults()
def scores(result: dict) -> Figure:
    """Methods x mechanisms and x shams, shares as numbers and colours, the best on top."""
    rows = result["methods"]
    panels = [(title, colours, *grid(rows, key)) for key, title, colours in PANELS]
    panels = [panel for panel in panels if panel[2]]
    widths = [len(names) for _, _, names, _ in panels]
    width = 2.6 + 0.85 * sum(widths) + 0.3 * len(panels)
    figure = new_figure(TITLE, max(width, 7), 2.4 + 0.27 * len(rows))
    if not panels:
        return figure
    many = figure.subplots(1, len(panels), sharey=True, width_ratios=widths, squeeze=False)[0]
    for axes, (title, colours, names, share_MN) in zip(many, panels, strict=True):
        axes.imshow(share_MN, cmap=colours, vmin=0, vmax=1, aspect="auto")
        for (i, j), share in np.ndenumerate(share_MN):
            text = words.share(None if np.isnan(share) else share)
            color = "white" if share > 0.6 else "black"
            axes.text(j, i, text, ha="center", va="center", color=color, fontsize=8)
        axes.set_title(title, fontsize=9)
        axes.set_xticks(range(len(names)), [n.replace("_", " ") for n in names], rotation=40)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), [row["method"].replace("_", " ") for row in rows])
        axes.tick_params(length=0, labelsize=8)
        axes.spines[:].set_visible(False)
    return figure


def grid(rows: list[dict], key: str) -> tuple[list[str], np.ndarray]:
    """The columns of a panel, and its shares [methods, columns], nan where there is none."""
    cells = [_cells(row, key) for row in rows]
    names = list(dict.fromkeys(name for row in cells for name in row))
    share = [[row.get(name, {"rate": None})["rate"] for name in names] for row in cells]
    return names, np.array(share, float).reshape(len(rows), len(names))


def _cells(row, key):
    if key == "alarms":
        return {name: rate for name, rate in row["alarms"].items() if name != "all"}
    named = key == "named"
    return {
        name: rates[measure(rates)] if named else rates["found"]
        for name, rates in row["mechanisms"].items()
        if bool(rates["hit_1"]["n"]) == named  # that it could name
    }


def measure(rates: dict) -> str:
    """At 5 % false alarms where there are two seeds, else by the shuffled pairs."""
    return "right_at_5" if rates["power"]["n"] else "right"
