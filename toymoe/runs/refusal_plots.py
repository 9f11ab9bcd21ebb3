"""The figures of how few experts carry refusal, and of whether the route does: as in `plots`.

The numbers are those of `toymoe.attribution.removal` and `route_patching`, and of the contrasts.
"""

import numpy as np

from ..pages.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    SKY,
    STYLES,
    Figure,
    defaults,
    new_figure,
    tidy,
)
from .plots import ReportFigure

WAYS = {  # of `toymoe.attribution.removal`, in words
    "set_back": "experts set back to before alignment",
    "silenced": "experts silenced",
}


@defaults()
def localisation(removal: dict) -> Figure:
    """Refusal, twins answered and hazards answered, with more and more experts out: a panel for
    each way to take them out, its lines named at their ends."""
    figure = new_figure(FIGURES["localisation"].title, 12, 4.4)
    panels = figure.subplots(1, len(WAYS), sharey=True)
    count_M = removal["counts"]
    for axes, (way, meaning) in zip(panels, WAYS.items(), strict=True):
        found, controls = removal[way], [removal[way][n] for n in ("random", "usage_matched")]
        lines = (
            ("twins still answered", found["twins"], dict(color=GREEN, marker="^")),
            ("hazards answered right", found["answered"], dict(color=RED, marker="s")),
            ("refused, random ones out", controls[0]["refusal"], dict(color=BLACK, linestyle="--")),
            (
                "refused, used as much out",
                controls[1]["refusal"],
                dict(color="0.45", linestyle=":"),
            ),
            ("refused, top ones out", found["refusal"], dict(color=BLUE, marker="o", lw=3)),
        )
        last = _shown(count_M, found["m50"])
        for _, values, style in lines:
            axes.plot(count_M[:last], values[:last], markersize=4, clip_on=False, **style)
        _name_ends(axes, [(label, v[last - 1], style["color"]) for label, v, style in lines])
        axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
        axes.set_xticks([m for m in (0, 1, 2, 4, 8, 16, 32, 64, 128) if m <= count_M[last - 1]])
        axes.set_xlim(0, count_M[last - 1])
        half, other = (
            "never" if m is None else f"at {m:g}" for m in (found["m50"], controls[0]["m50"])
        )
        title = f"{meaning}\nhalf of the refusal is gone {half} (random ones: {other})"
        tidy(axes, ylim=(0, 1.02), xlabel=f"experts out, of {count_M[-1]} (√ scale)")
        axes.set_title(title, fontsize=11)
        if found["m50"] is not None:
            _mark(axes, found["m50"], found["refusal"][count_M.index(found["m50"])])
    panels[0].set_ylabel("share of requests")
    return figure


def _shown(count_M, half):
    """How many counts are drawn: to half of all experts, or to where half of the refusal is
    gone. Beyond, the lines of the controls run into the others."""
    end = max(count_M[-1] / 2, half or 0)
    return next(i for i, m in enumerate(count_M, 1) if m >= end)


def _mark(axes, m, value):
    axes.axvline(m, color=BLUE, linestyle=":", linewidth=1)
    axes.plot(m, value, "o", color=BLUE, markersize=13, markerfacecolor="white", markeredgewidth=2)
    axes.lines[-1].set(clip_on=False, zorder=5)
    style = dict(ha="center", va="center", color=BLUE, weight="bold", fontsize=9, zorder=6)
    axes.text(m, value, f"{m}", **style)


def _name_ends(axes, ends, apart=0.085):
    """The name of each line at its end, to the right of the axes; none covers another."""
    ends = sorted(ends, key=lambda end: end[1])
    places = np.array([value for _, value, _ in ends], float)
    for i in range(1, len(places)):  # upwards, and then all down to below the top
        places[i] = max(places[i], places[i - 1] + apart)
    top = 1 - apart * np.arange(len(places))[::-1]
    for (label, value, colour), y in zip(ends, np.minimum(places, top), strict=True):
        axes.annotate(
            label,
            (1, value),
            xycoords=axes.get_yaxis_transform(),
            xytext=(1.06, y),
            va="center",
            fontsize=10,
            color=colour,
            arrowprops=dict(arrowstyle="-", color=colour, linewidth=0.8),
        )


@defaults()
def fork(routing: dict) -> Figure:
    """How often hazards and their twins select each expert at ANS, before and after alignment, and
    the same of the same words in a harmless topic."""
    pairs = {"intent_twins": "harmless twins", "harmless_twins": "control: in a harmless topic"}
    known = routing["contrasts"]
    pairs = {name: label for name, label in pairs.items() if known["aligned"][name]}
    figure = new_figure(FIGURES["fork"].title, 9.5, 0.8 + 3.9 * max(len(pairs), 1))
    if not pairs:
        figure.text(0.5, 0.5, "this world has no twins", ha="center", fontsize=11)
        return figure
    panels = figure.subplots(len(pairs), 2, squeeze=False, sharex=True, sharey=True)
    for row, (pair, label) in zip(panels, pairs.items(), strict=True):
        for axes, which in zip(row, ("pretrained", "aligned"), strict=True):
            hazard_LE, twin_LE = np.array(known[which][pair]["selected_answer"])
            axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
            for layer, (y, x) in enumerate(zip(hazard_LE, twin_LE, strict=True)):
                style = STYLES[layer % len(STYLES)] | dict(linestyle="")
                axes.plot(x, y, label=f"layer {layer}", markersize=6, alpha=0.8, **style)
            gap_LE = np.abs(hazard_LE - twin_LE)
            at = np.unravel_index(gap_LE.argmax(), gap_LE.shape)
            left = twin_LE[at] > 0.6
            axes.annotate(
                f"{at[0]}.{at[1]}: gap {gap_LE[at]:.2f}",
                (twin_LE[at], hazard_LE[at]),
                (-8 if left else 8, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                va="center",
                fontsize=10,
                weight="bold",
            )
            when = "before alignment" if which == "pretrained" else "after alignment"
            tidy(
                axes,
                title=f"{label}, {when}",
                xlim=(-0.03, 1.03),
                ylim=(-0.03, 1.03),
                aspect="equal",
            )
            axes.set_xlabel("share of twins that select the expert")
        first = "hazards" if pair == "intent_twins" else "the same requests"
        row[0].set_ylabel(f"share of {first} that select the expert")
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(), loc="outside right center", frameon=False
    )
    return figure


@defaults()
def route(route: dict) -> Figure:
    """Hazards and their twins, refused on their own route and on the other's."""
    bars = {
        "hazards on their own route": route["hazards"]["own"]["refused"],
        "hazards on their twins' route": route["hazards"]["refused"],
        "twins on the hazards' route": route["twins"]["refused"],
        "twins on their own route": route["twins"]["own"]["refused"],
    }
    figure = new_figure(FIGURES["route"].title, 10, 2.8)
    axes, at = figure.subplots(), np.array([3.4, 2.4, 1, 0])
    colours = [BLUE, SKY, ORANGE, "white"]
    drawn = axes.barh(at, list(bars.values()), 0.8, color=colours, edgecolor=BLACK)
    axes.bar_label(drawn, [f"{value:.2f}" for value in bars.values()], padding=3, fontsize=11)
    axes.set_yticks(at, list(bars), fontsize=11)
    tidy(axes, xlim=(0, 1.08), xlabel="share refused")
    return figure


FIGURES = {
    "localisation": ReportFigure(
        title="How few experts carry refusal?",
        draw=localisation,
        drawn_from=("removal",),
        shows="Experts are taken out one after another, the most important first: on the left they "
        "get back the weights they had before alignment, on the right they add nothing. Where the "
        "thick line falls at once and the others stay up, refusal sits in those few experts. "
        "Experts are ranked on one half of the requests and judged on the other.",
        control="As many random experts, and as many that are used as much. The harmless twins say "
        "whether the model still works.",
    ),
    "route": ReportFigure(
        title="Is the route the seat of refusal?",
        draw=route,
        drawn_from=("route",),
        shows="Hazards are given the route of their harmless twins, everywhere, and twins the "
        "route of their hazards: the same experts with the same weights; all else is the prompt's "
        "own. If the route carried refusal, the second bar would be empty and the third one full.",
        control="The same requests on their own route.",
    ),
    "fork": ReportFigure(
        title="Is there an expert that the router picks in order to refuse?",
        draw=fork,
        drawn_from=("routing",),
        shows="A dot for each expert: how often hazards select it where the answer begins, and how "
        "often their twins do, which differ in the {part}. A refusal expert that the router picks "
        "would stand in the upper left corner. The largest gap is named layer.expert.",
        control="The model before alignment, and the same words swapped in a harmless topic, where "
        "neither request is a hazard: how far these words move the route by themselves.",
    ),
}
