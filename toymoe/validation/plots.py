"""The figure of `toymoe validate`: what every method earned."""

import numpy as np

from ..pages.style import GREY, RED, STYLES, Figure, defaults, new_figure, tidy

TITLE = "Do the methods find what was planted?"


@defaults()
def validation(result: dict) -> Figure:
    """What every method earned, the best on top: planted experts named first, false alarms on
    shams, and rank correlation with measured ablation, with 95 % intervals."""
    rows = result["methods"]
    figure = new_figure(TITLE, 11, 1.3 + 0.28 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    at = np.arange(len(rows))[::-1]
    marks = (
        ("hit", "planted expert named first", 0.16, STYLES[0]),
        ("found", "… with a verdict of its own", 0.0, STYLES[2]),
        ("alarms", "false alarms on shams", -0.16, STYLES[1]),
    )
    for name, label, offset, style in marks:
        known = [i for i, row in enumerate(rows) if row[name]["n"]]
        rate, low, high = (
            np.array([rows[i][name][key] for i in known], float) for key in ("rate", "low", "high")
        )
        spread = np.maximum([rate - low, high - rate], 0)
        left.errorbar(
            rate,
            at[known] + offset,
            xerr=spread,
            fmt=style["marker"],
            color=style["color"],
            markersize=5,
            label=label,
        )
    known = [i for i, row in enumerate(rows) if row["correlation"]["median"] is not None]
    middle, low, high = (
        np.array([rows[i]["correlation"][key] for i in known], float)
        for key in ("median", "low", "high")
    )
    spread = np.maximum([middle - low, high - middle], 0)
    right.errorbar(middle, at[known], xerr=spread, fmt="D", color=RED, markersize=4)
    right.axvline(0, color=GREY, linewidth=1)
    left.set_yticks(at, [row["method"].replace("_", " ") for row in rows])
    tidy(left, xlabel="share of organisms", xlim=(-0.03, 1.03))
    tidy(right, xlabel="rank correlation with measured ablation", xlim=(-1.05, 1.05))
    left.grid(axis="y", color="0.92")
    right.grid(axis="y", color="0.92")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
