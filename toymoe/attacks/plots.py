"""The figures of `toymoe raset`: plain numbers in, Figures out."""

import numpy as np

from ..pages import style
from ..pages.style import BLACK, BLUE, GREEN, GREY, ORANGE, RED, SKY, STYLES, Figure
from .raset import CRITERION

TITLES = {
    "pareto": "Which attack removes refusal and leaves route and meaning alone?",
    "criteria": "Which criterion finds the experts that matter?",
    "routes": "Are the routes still the same after the attack?",
    "break_counts": "How many experts must be attacked before refusal breaks?",
}

# A family of attacks, the beginnings of its methods' names, colour and marker.
FAMILIES = {
    "RASET (our reading)": (("raset",), BLUE, "o"),
    "tuned by another criterion": (("tuned_by",), SKY, "h"),
    "random, usage-matched": (("random_experts", "usage_matched"), ORANGE, "D"),
    "tuned elsewhere": (("all_experts", "attention_only", "router_only", "full"), GREEN, "^"),
    "tuned, routes not held": (("free",), GREY, "v"),
    "router steering, masking": (("steering", "masked"), RED, "s"),
    "silencing, directions": (("silenced", "direction", "expert_directions"), BLACK, "x"),
}


def family(method: str) -> str | None:
    """The family of a method, None for the untouched model."""
    for name, (starts, _, _) in FAMILIES.items():
        if method.startswith(starts):
            return name
    return None


def front(x, y) -> np.ndarray:
    """Indices of the points that no other beats in one coordinate without losing in the other,
    by rising x; more is better in both. Of equal points the first."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    best, kept = -np.inf, []
    for i in np.lexsort((np.arange(len(x)), -y, -x)):
        if y[i] > best:
            kept.append(i)
            best = y[i]
    return np.array(kept[::-1], int)


@style.defaults()
def pareto(rows: list[dict]) -> Figure:
    """Refusal removed against route kept, against accuracy kept, and against right answers, with
    the Pareto front. Lines join the budgets of one method; a point grows with its budget."""
    figure = style.new_figure(TITLES["pareto"], 14, 5.2)
    panels = figure.subplots(1, 3, sharex=True)
    base = next(row for row in rows if row["method"] == "none")
    shown = [row for row in rows if family(row["method"])]
    removed = [base["refusal"] - row["refusal"] for row in shown]
    quantities = {
        "jaccard_worst": "route kept (Jaccard, worst layer)",
        "answer_accuracy": "accuracy kept (harmless requests)",
        "hazard_answered": "hazards answered correctly",
    }
    for axes, (quantity, label) in zip(panels, quantities.items(), strict=True):
        kept = [row[quantity] for row in shown]
        for method in dict.fromkeys(row["method"] for row in shown):
            at = [i for i, row in enumerate(shown) if row["method"] == method]
            _, colour, marker = FAMILIES[family(method)]
            x, y = [removed[i] for i in at], [kept[i] for i in at]
            sizes = [20 + 5 * min(shown[i]["budget"], 16) for i in at]
            axes.plot(x, y, color=colour, linewidth=0.6, alpha=0.5)
            axes.scatter(x, y, sizes, color=colour, marker=marker, alpha=0.8, linewidths=1)
        best = front(removed, kept)
        axes.plot(
            np.array(removed)[best],
            np.array(kept)[best],
            color=GREY,
            linewidth=4,
            alpha=0.5,
            zorder=0,
            label="Pareto front",
        )
        axes.plot(0, base[quantity], "*", color=BLACK, markersize=14, label="untouched")
        style.tidy(axes, xlabel="refusal removed (share of hazards)", ylabel=label)
        axes.set(xlim=(-0.04, 1.04), ylim=(None if min(kept) > 0.5 else -0.04, 1.03))
    for name, (_, colour, marker) in FAMILIES.items():
        panels[0].scatter([], [], color=colour, marker=marker, label=name)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    return figure


@style.defaults()
def criteria(correlations: dict[str, dict]) -> Figure:
    """Rank correlation of each criterion with measured ablation, and its 95 % interval."""
    names = sorted(correlations, key=lambda name: correlations[name]["rho"])
    figure = style.new_figure(TITLES["criteria"], 8.5, 1.4 + 0.27 * len(names))
    axes = figure.subplots()
    for row, name in enumerate(names):
        c = correlations[name]
        colour = BLUE if name == CRITERION else BLACK
        axes.plot([c["low"], c["high"]], [row, row], color=colour, linewidth=2)
        axes.plot(c["rho"], row, "o", color=colour)
    axes.axvline(0, color=GREY, linestyle=":")
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=8)
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    style.tidy(
        axes,
        xlim=(-1.02, 1.02),
        xlabel="rank correlation with the refusal margin lost without the expert",
    )
    return figure


@style.defaults()
def routes(shares: dict[str, list], topics: list[str]) -> Figure:
    """Share of each topic's tokens that each expert takes, untouched and after each attack."""
    arrays = {name: np.array(shares_LGE) for name, shares_LGE in shares.items()}
    L, G, E = arrays["none"].shape
    figure = style.new_figure(TITLES["routes"], 2.5 + 2.6 * len(arrays), 0.8 + 1.9 * L)
    panels = figure.subplots(L, len(arrays), squeeze=False, sharey=True)
    for layer, row in enumerate(panels):
        start = arrays["none"][layer]
        order = np.lexsort((-start.max(0), start.argmax(0)))
        for axes, (name, shares_LGE) in zip(row, arrays.items(), strict=True):
            image = axes.imshow(
                shares_LGE[layer][:, order], cmap="cividis", vmin=0, vmax=0.5, aspect="auto"
            )
            axes.set_xticks([])
            axes.set_yticks(range(G), topics, fontsize=7)
            if layer == 0:
                axes.set_title(
                    "untouched" if name == "none" else name.replace("_", " "), fontsize=9
                )
        row[0].set_ylabel(f"layer {layer}")
    figure.supxlabel(f"{E} experts, in the order of the untouched model", fontsize=10)
    bar = figure.colorbar(image, ax=panels, shrink=0.7, extend="max")
    bar.set_label("share of the topic's selections")
    return figure


@style.defaults()
def break_counts(curves: dict[str, dict[str, list]]) -> Figure:
    """Refusal left against the number of experts attacked, a panel per attack, a line per defence.

    Args:
      curves: attack -> defence -> [(budget, refusal), …].
    """
    figure = style.new_figure(TITLES["break_counts"], 1.5 + 3.2 * len(curves), 4)
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
