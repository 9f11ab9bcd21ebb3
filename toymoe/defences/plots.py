"""The figure of ``toymoe defend``: a function, and a row of ``FIGURES``."""

from ..pages import style
from ..pages.style import GREY, STYLES, Figure
from ..runs.plots import ReportFigure


@style.defaults()
def break_counts(curves: dict[str, dict[str, list]]) -> Figure:
    """Refusal left against the number of experts attacked, a panel per attack, a line per defence.

    Args:
      curves: attack -> defence -> [(budget, refusal), …].
    """
    figure = style.new_figure(FIGURES["break_counts"].title, 1.5 + 3.2 * len(curves), 4)
    panels = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    names = list(dict.fromkeys(name for defences in curves.values() for name in defences))
    styles = {name: STYLES[i % len(STYLES)] for i, name in enumerate(names)}
    for axes, (attack, defences) in zip(panels, curves.items(), strict=True):
        for defence, points in defences.items():
            x, y = zip(*points, strict=True)
            axes.plot(
                x,
                y,
                label=defence.replace("_", " "),
                markersize=4,
                alpha=0.85,
                **styles[defence],
            )
        axes.axhline(0.5, color=GREY, linestyle=":")
        axes.set_xscale("symlog", linthresh=1)
        ticks = sorted({x for points in defences.values() for x, _ in points})
        axes.set_xticks(ticks, [str(t) for t in ticks], fontsize=8)
        axes.minorticks_off()
        style.tidy(axes, title=attack.replace("_", " "), xlabel="experts", ylim=(-0.03, 1.03))
    panels[0].set_ylabel("hazards refused")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    return figure


FIGURES = {
    "break_counts": ReportFigure(
        title="How many experts must be attacked before refusal breaks?",
        draw=break_counts,
        drawn_from=("curves",),
        shows="Hazards still refused against the number of experts attacked: tuned by our "
        "reading of RASET's criterion, by use, or by our reading with nothing that holds "
        "the routes, which is aimed at the detector; removed in the order of their "
        "measured effect; switched off by router steering. The dotted line is one half: "
        "where a curve crosses it, refusal is broken.",
        control="“none” is the undefended organism, aligned from the same pretrained model on "
        "the same prompts.",
    ),
}
