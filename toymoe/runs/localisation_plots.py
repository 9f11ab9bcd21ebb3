"""The figures of looking inside: maps over experts, patching, decomposition, swaps, validation.

Each function takes the plain numbers of `toymoe.attribution.localisation` or `toymoe.validation.study` and returns a Figure,
in the style of `toymoe.runs.plots`. Every number that carries an argument is also written down, so that
nothing hangs on colour alone.
"""

import numpy as np
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure

from ..pages.style import BLACK, BLUE, GREY, ORANGE, RED, SKY, STYLES, new_figure, tidy
from ..pages.words import INSIDE

VALIDATION = "Do the methods find what was planted?"
PATCHED = {
    "head_out": "attention's additions",
    "expert_out": "what the experts say",
    "router_logits": "what the router says",
}
MAP = dict(aspect="auto", origin="lower")
DIVERGING = "PuOr"  # told apart by colour-blind readers; in grey the sign is in the numbers


def expert_maps(ablation: dict) -> Figure:
    """Loss of the refusal margin, of refusal, and of right answers beside them, without each
    expert: routes free, routes frozen, and the difference, which went through the route."""
    base, free, frozen = ablation["base"], ablation["free"], ablation["frozen"]
    rows = {  # the unit, and the smallest loss that fills the scale
        "margin": ("refusal margin lost", "nats", 2.0),
        "refusal": ("refusal lost", "share", 0.2),
        "accuracy": ("right answers lost", "share", 0.2),
    }
    L, E = np.shape(free["refusal"])
    figure = new_figure(INSIDE["expert_maps"].title, 4 + 0.62 * E, 1.8 + 0.5 * L * len(rows))
    panels = figure.subplots(len(rows), 3, sharex=True, sharey=True)
    for row, (name, (label, unit, least)) in zip(panels, rows.items(), strict=True):
        a, b = np.array(free[name]), np.array(frozen[name])
        titles = ("later routes free", "later routes frozen", "through the route")
        most = max(np.abs([a, b, a - b]).max(), least)
        for axes, values_LE, title in zip(row, (a, b, a - b), titles, strict=True):
            image = axes.imshow(values_LE, cmap=DIVERGING, vmin=-most, vmax=most, **MAP)
            _write(axes, values_LE, most, 0.05 * most)
            axes.set_title(f"{label}: {title}", fontsize=9)
        row[0].set(yticks=range(L), ylabel="layer")
        bar = figure.colorbar(image, ax=row, shrink=0.9, pad=0.01)
        bar.set_label(f"{unit}, of {base[name]:.2f}", fontsize=8)
    for axes in panels[-1]:
        axes.set(xlabel="expert", xticks=range(0, E, max(E // 8, 1)))
    return figure


def _write(axes, values_YX, most, least=0.05):
    """The numbers of a map that are at least ``least``, without a leading zero."""
    for (y, x), value in np.ndenumerate(values_YX):
        if abs(value) >= least:
            text = f"{value:.1f}" if most > 2 else f"{value:.2f}"
            if abs(value) < 1:
                text = text.replace("0.", ".", 1)
            shade = "white" if abs(value) > 0.65 * most else "black"
            style = dict(ha="center", va="center", fontsize=6, color=shade, in_layout=False)
            axes.text(x, y, text, **style)


def patching(patched: dict, roles: list[str]) -> Figure:
    """Share of the margin's difference between hazard and twin that one layer and position carries,
    both ways, a row for each tap.

    Args:
      roles: what stands at each position, or at more of them.
    """
    ways = {"removed": "twin's values in the hazard", "restored": "hazard's values in the twin"}
    L, T = np.shape(next(iter(patched.values()))["removed"])
    figure = new_figure(INSIDE["patching"].title, 11, 1.2 + 0.55 * (L + 1) * len(patched))
    panels = figure.subplots(len(patched), 2, sharex=True, sharey=True, squeeze=False)
    for row, (tap, found) in zip(panels, patched.items(), strict=True):
        for axes, (way, label) in zip(row, ways.items(), strict=True):
            values_LT = np.array(found[way])
            image = axes.imshow(values_LT, cmap=DIVERGING, norm=CenteredNorm(0, 1), **MAP)
            _write(axes, values_LT, 1.0)
            axes.set_title(f"{PATCHED.get(tap, tap)}: {label}", fontsize=9)
        row[0].set(yticks=range(L), ylabel="layer")
    names = [f"w{t}" if role == "context" else role for t, role in enumerate(roles[:T])]
    for axes in panels[-1]:
        axes.set_xticks(range(T), names, rotation=60, fontsize=7)
    bar = figure.colorbar(image, ax=panels, shrink=0.7)
    bar.set_label("share of the difference in refusal margin")
    return figure


def decomposition(parts: dict) -> Figure:
    """The refusal margin of hazards and of twins as a waterfall of its parts."""
    figure = new_figure(INSIDE["decomposition"].title, 11, 4)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, part) in zip(panels, parts.items(), strict=True):
        labels, values = ["embedding"], [part["embedding"]]
        for layer, pair in enumerate(zip(part["heads"], part["experts"], strict=True)):
            labels += [f"attention {layer}", f"experts {layer}"]
            values += pair
        start = np.concatenate([[0], np.cumsum(values)[:-1]])
        colours = [BLACK, *[SKY, ORANGE] * len(part["heads"])]
        hatches = ["", *["//", ""] * len(part["heads"])]
        axes.bar(
            range(len(values)), values, 0.7, start, color=colours, hatch=hatches, edgecolor="k"
        )
        axes.bar(len(values), part["margin"], 0.7, color=GREY, edgecolor="k")
        for x, (low, value) in enumerate(zip([*start, 0], [*values, part["margin"]], strict=True)):
            end = low + value
            axes.annotate(
                f"{value:+.1f}",
                (x, max(low, end)),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        axes.axhline(0, color=BLACK, linewidth=1)
        axes.set_xticks(range(len(values) + 1), [*labels, "margin"], rotation=45, ha="right")
        title = {"hazards": "hazardous requests", "twins": "their harmless twins"}.get(name, name)
        tidy(axes, title=title)
    panels[0].set_ylabel("logit of REFUSE minus right answer, nats")
    return figure


def weight_swaps(swaps: dict) -> Figure:
    """Refusal and right answers with one part of the weights exchanged, in both directions."""
    ways = {
        "removed": "aligned model, this part as before alignment",
        "alone": "model before alignment, this part aligned",
    }
    figure = new_figure(INSIDE["swaps"].title, 11, 0.9 + 0.55 * len(swaps))
    panels = figure.subplots(1, 2, sharey=True)
    at = np.arange(len(swaps))[::-1]
    bars = (
        ("refusal", "hazards refused", 0.2, dict(color=BLUE)),
        ("accuracy", "twins answered correctly", -0.2, dict(color="white", hatch="///")),
    )
    for axes, (way, title) in zip(panels, ways.items(), strict=True):
        for name, label, offset, style in bars:
            values = [swap[way][name] for swap in swaps.values()]
            drawn = axes.barh(at + offset, values, 0.36, edgecolor=BLACK, label=label, **style)
            axes.bar_label(drawn, [f"{v:.2f}" for v in values], padding=2, fontsize=8)
        tidy(axes, title=title, xlim=(0, 1.12), xlabel="share")
    panels[0].set_yticks(at, list(swaps))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    return figure


def validation(result: dict) -> Figure:
    """What every method earned, the best on top: planted experts named first, false alarms on
    shams, and rank correlation with measured ablation, with 95 % intervals."""
    rows = result["methods"]
    figure = new_figure(VALIDATION, 11, 1.3 + 0.28 * len(rows))
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


def all_figures(inside: dict, roles: list[str]) -> dict[str, Figure]:
    """Every figure of a run's section "Where refusal lives", by file name."""
    return {
        "swaps": weight_swaps(inside["swaps"]),
        "expert_maps": expert_maps(inside["ablation"]),
        "patching": patching(inside["patching"], roles),
        "decomposition": decomposition(inside["decomposition"]),
    }
