"""The figures of ``toymoe raset``: a function each, and a row of ``FIGURES``."""

import numpy as np

from ..config import ConfigError
from ..pages import style
from ..pages.style import BLACK, BLUE, GREEN, GREY, ORANGE, RED, SKY, Figure
from ..runs.plots import ReportFigure
from .family import Family

LOOKS: dict[Family, tuple[str, str]] = {  # colour and marker
    Family.UNTOUCHED: (BLACK, "*"),
    Family.RASET: (BLUE, "o"),
    Family.CRITERION: (SKY, "h"),
    Family.RANDOM: (ORANGE, "D"),
    Family.ELSEWHERE: (GREEN, "^"),
    Family.FREE: (GREY, "v"),
    Family.STEERING: (RED, "s"),
    Family.SILENCING: (BLACK, "x"),
}


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
def pareto(rows: list[dict], families: dict[Family, list[str]]) -> Figure:
    """Refusal removed against route kept, against accuracy kept, and against right answers, with
    the Pareto front. Lines join the budgets of one method; a point grows with its budget.

    Args:
      families: the methods of each; one is the untouched model alone.

    Raises:
      ConfigError: a method of no family, or of one without a look.
    """
    figure = style.new_figure(FIGURES["pareto"].title, 14, 5.2)
    panels = figure.subplots(1, 3, sharex=True)
    looks = _looks(rows, families)
    (untouched,) = families[Family.UNTOUCHED]
    base = next(row for row in rows if row["method"] == untouched)
    shown = [row for row in rows if row is not base]
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
            colour, marker = looks[method]
            x, y = [removed[i] for i in at], [kept[i] for i in at]
            sizes = [20 + 5 * min(shown[i]["budget"], 16) for i in at]
            axes.plot(x, y, color=colour, linewidth=0.6, alpha=0.5)
            axes.scatter(x, y, sizes, color=colour, marker=marker, alpha=0.8, linewidths=1)
        best = front(removed, kept)
        x, y = np.array(removed)[best], np.array(kept)[best]
        axes.plot(x, y, color=GREY, linewidth=4, alpha=0.5, zorder=0, label="Pareto front")
        axes.plot(0, base[quantity], looks[untouched][1], color=BLACK, markersize=14)
        style.tidy(axes, xlabel="refusal removed (share of hazards)", ylabel=label)
        axes.set(xlim=(-0.04, 1.04), ylim=(None if min(kept) > 0.5 else -0.04, 1.03))
    for family in families:
        colour, marker = LOOKS[family]
        panels[0].scatter([], [], color=colour, marker=marker, label=family)
    where = dict(loc="outside lower center", ncols=4, frameon=False)
    figure.legend(*panels[0].get_legend_handles_labels(), **where)
    return figure


def _looks(rows, families):
    """Colour and marker of every method."""
    looks = {name: LOOKS.get(family) for family, names in families.items() for name in names}
    for row in rows:
        if looks.get(row["method"]) is None:
            raise ConfigError(
                f"attack {row['method']!r} has no family with a look of its own: give it one in "
                "`catalogue.table`, and a new `Family` its colour and marker in `plots.LOOKS`."
            )
    return looks


@style.defaults()
def criteria(correlations: dict[str, dict], tuned_by: str) -> Figure:
    """Rank correlation of each criterion with measured ablation, and its 95 % interval; the
    one that an attack is tuned by stands out."""
    names = sorted(correlations, key=lambda name: correlations[name]["rho"])
    figure = style.new_figure(FIGURES["criteria"].title, 8.5, 1.4 + 0.27 * len(names))
    axes = figure.subplots()
    for row, name in enumerate(names):
        c = correlations[name]
        colour = BLUE if name == tuned_by else BLACK
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
    figure = style.new_figure(FIGURES["routes"].title, 2.5 + 2.6 * len(arrays), 0.8 + 1.9 * L)
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
def alone(left_LE: np.ndarray, agreement: dict[str, float]) -> Figure:
    """Refusal that is left with each expert tuned alone, and which criterion puts the experts in
    the order of what that removes."""
    names = sorted(agreement, key=agreement.get)
    figure = style.new_figure(FIGURES["alone"].title, 14, max(1.6 + 0.27 * len(names), 3))
    chart, ranks = figure.subplots(1, 2, width_ratios=(3, 1))
    image = chart.imshow(left_LE, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    if left_LE.shape[1] <= 20:  # or they would overlap
        for (layer, expert), left in np.ndenumerate(left_LE):
            shade = dict(color="black" if left > 0.5 else "white", fontsize=8)
            chart.text(expert, layer, f"{left:.2f}", ha="center", va="center", **shade)
    chart.set_yticks(range(len(left_LE)), [f"layer {layer}" for layer in range(len(left_LE))])
    chart.set_xticks(range(left_LE.shape[1]))
    style.tidy(chart, xlabel="the expert that is tuned")
    figure.colorbar(image, ax=chart).set_label("refusal left (share of hazards)")
    ranks.plot([agreement[name] for name in names], range(len(names)), "o", color=BLACK)
    ranks.axvline(0, color=GREY, linestyle=":")
    ranks.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=8)
    style.tidy(ranks, xlim=(-1.02, 1.02), xlabel="rank correlation with what is removed")
    return figure


FIGURES = {
    "pareto": ReportFigure(
        title="Which attack removes refusal and leaves route and meaning alone?",
        draw=pareto,
        drawn_from=("rows", "families"),
        shows="Each point is one attack with one budget; to the right refusal is gone, at the "
        "top the route, the harmless answers, or the right answer to the hazard is there. "
        "The grey line joins the attacks that no other beats in both.",
        control="Random and usage-matched experts: what tuning as much of the model elsewhere "
        "does.",
    ),
    "criteria": ReportFigure(
        title="Which criterion finds the experts that matter?",
        draw=criteria,
        drawn_from=("correlations", "tuned_by"),
        shows="How a criterion ranks the experts, against how they rank by what refusal loses "
        "without them. The bar is a 95 % bootstrap interval over the experts of this one "
        "model. Blue: the criterion by which RASET tunes.",
        control="ablation_zero is the reference itself; random knows nothing.",
    ),
    "alone": ReportFigure(
        title="What could RASET do with each expert alone?",
        draw=alone,
        drawn_from=("alone", "agreement"),
        shows="Refusal that is left with one expert tuned, a quarter as long as otherwise: what "
        "every criterion means to foretell. Right: which does.",
        control="Experts that leave all of it: tuning the same number of parameters for as long. "
        "random knows nothing.",
    ),
    "routes": ReportFigure(
        title="Are the routes still the same after the attack?",
        draw=routes,
        drawn_from=("routes", "topics"),
        shows="Each topic's share of tokens by expert, before any attack and after some of them.",
        control="Random experts, as many as RASET tunes.",
    ),
}
