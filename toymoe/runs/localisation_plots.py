"""The figures of where refusal lives: drawn, named and described, as in `plots`.

The numbers are those of `toymoe.attribution.localisation`. Every number that carries an argument is
also written down, so that nothing hangs on colour alone.
"""

import numpy as np

from ..pages.style import BLACK, BLUE, GREY, ORANGE, SKY, Figure, defaults, new_figure, tidy
from . import refusal_plots
from .plots import ReportFigure, expert_order

PATCHED = {
    "head_out": "attention's additions",
    "expert_out": "what the experts say",
    "router_logits": "what the router says",
}
MAP = dict(aspect="auto", origin="lower")
DIVERGING = "PuOr"  # told apart by colour-blind readers; in grey the sign is in the numbers


@defaults()
def expert_maps(ablation: dict, curves: dict | None = None) -> Figure:
    """Loss of the refusal margin, of refusal, and of right answers beside them, without each
    expert: later routes free, and of that what went through the route.

    Args:
      curves: the run's history, for the order of the experts that its other figures have.
    """
    base, free, frozen = ablation["base"], ablation["free"], ablation["frozen"]
    rows = {  # the unit, and the smallest loss that fills the scale
        "margin": ("refusal margin lost", "nats", 2.0),
        "refusal": ("refusal lost", "share", 0.2),
        "accuracy": ("right answers lost", "share", 0.2),
    }
    L, E = np.shape(free["refusal"])
    order_LE = np.tile(np.arange(E), (L, 1)) if curves is None else expert_order(curves)
    figure = new_figure(FIGURES["expert_maps"].title, 12, 1.2 + 0.7 * L * len(rows))
    panels = figure.subplots(len(rows), 2)
    for row, (name, (label, unit, least)) in zip(panels, rows.items(), strict=True):
        a, b = np.array(free[name]), np.array(frozen[name])
        most = max(np.abs([a, a - b]).max(), least)
        for axes, values_LE in zip(row, (a, a - b), strict=True):
            image = _expert_map(axes, values_LE, order_LE, most)
        row[0].set_yticks(range(0, 2 * L, 2), [f"layer {layer}" for layer in range(L)], fontsize=9)
        row[0].set_title(f"{label}, by expert", fontsize=11)
        row[1].set_title(f"{label}: what of it went through the route", fontsize=11)
        bar = figure.colorbar(image, ax=row, shrink=0.9, pad=0.01)
        bar.set_label(f"{unit}, of {base[name]:.2f}", fontsize=9)
    return figure


def _expert_map(axes, values_LE, order_LE, most):
    """A row for each layer, and below it the numbers of its experts, which have an order of their
    own."""
    L, E = values_LE.shape
    rows_YE = np.full((2 * L, E), np.nan)
    rows_YE[::2] = np.take_along_axis(values_LE, order_LE, 1)
    image = axes.imshow(rows_YE, cmap=DIVERGING, vmin=-most, vmax=most, aspect="auto")
    if E <= 20:
        _write(axes, rows_YE, most, 0.05 * most)
    every = -(-E // 20)
    for layer, order_E in enumerate(order_LE):
        for x in range(0, E, every):
            style = dict(ha="center", va="top", fontsize=9, in_layout=False)
            axes.text(x, 2 * layer + 0.55, str(order_E[x]), **style)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set(xticks=[], yticks=[])
    return image


def _write(axes, values_YX, most, least=0.05):
    """The numbers of a map that are at least ``least``, without a leading zero."""
    for (y, x), value in np.ndenumerate(values_YX):
        if abs(value) >= least:
            text = f"{value:.1f}" if most > 2 else f"{value:.2f}"
            if abs(value) < 1:
                text = text.replace("0.", ".", 1)
            shade = "white" if abs(value) > 0.65 * most else "black"
            style = dict(ha="center", va="center", fontsize=9, color=shade, in_layout=False)
            axes.text(x, y, text, **style)


@defaults()
def patching(patched: dict, roles: list[str]) -> Figure:
    """Share of the margin's difference between hazard and twin that one layer and position carries,
    both ways, a row for each tap.

    Args:
      roles: what stands at each position, or at more of them.
    """
    ways = {"removed": "twin's values in the hazard", "restored": "hazard's values in the twin"}
    L, T = np.shape(next(iter(patched.values()))["removed"])
    figure = new_figure(FIGURES["patching"].title, 12, 1.2 + 0.55 * (L + 1) * len(patched))
    panels = figure.subplots(len(patched), 2, sharex=True, sharey=True, squeeze=False)
    for row, (tap, found) in zip(panels, patched.items(), strict=True):
        for axes, (way, label) in zip(row, ways.items(), strict=True):
            values_LT = np.array(found[way])
            image = axes.imshow(values_LT, cmap=DIVERGING, vmin=-1, vmax=1, **MAP)
            _write(axes, values_LT, 1.0)
            axes.set_title(f"{PATCHED.get(tap, tap)}: {label}", fontsize=10)
        row[0].set(yticks=range(L), ylabel="layer")
    names = [f"w{t}" if role == "context" else role for t, role in enumerate(roles[:T])]
    for axes in panels[-1]:
        axes.set_xticks(range(T), names, rotation=60, fontsize=9)
    bar = figure.colorbar(image, ax=panels, shrink=0.7)
    bar.set_label("share of the difference in refusal margin")
    return figure


@defaults()
def decomposition(parts: dict) -> Figure:
    """The refusal margin of hazards and of twins as a waterfall of its parts."""
    figure = new_figure(FIGURES["decomposition"].title, 11, 4)
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
                fontsize=9,
            )
        axes.axhline(0, color=BLACK, linewidth=1)
        axes.set_xticks(range(len(values) + 1), [*labels, "margin"], rotation=45, ha="right")
        title = {"hazards": "hazardous requests", "twins": "their harmless twins"}.get(name, name)
        tidy(axes, title=title)
    panels[0].set_ylabel("logit of REFUSE minus right answer, nats")
    return figure


@defaults()
def weight_swaps(swaps: dict) -> Figure:
    """Refusal and right answers with one part of the weights exchanged, in both directions."""
    ways = {
        "removed": "aligned model, this part as before alignment",
        "alone": "model before alignment, this part aligned",
    }
    figure = new_figure(FIGURES["swaps"].title, 11, 0.9 + 0.55 * len(swaps))
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
            axes.bar_label(drawn, [f"{v:.2f}" for v in values], padding=2, fontsize=9)
        tidy(axes, title=title, xlim=(0, 1.12), xlabel="share")
    panels[0].set_yticks(at, list(swaps))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    return figure


FIGURES = refusal_plots.FIGURES | {
    "swaps": ReportFigure(
        title="Which part of the weights carries refusal?",
        draw=weight_swaps,
        drawn_from=("swaps",),
        shows="Left: the aligned model with one part of its weights put back to what it was "
        "before alignment. Where refusal falls, and the twins are still answered, that part is "
        "necessary. Right: the model before alignment with one part aligned. Where refusal rises, "
        "that part is enough.",
        control="“Nothing” and “everything” are the two checkpoints themselves. Right answers to "
        "harmless twins (hatched) say whether the model still works: a part whose loss breaks "
        "everything is not the seat of refusal.",
    ),
    "expert_maps": ReportFigure(
        title="Which expert does the model need in order to refuse?",
        draw=expert_maps,
        drawn_from=("ablation", "curves"),
        shows="Each expert silenced, one at a time: what is lost of the refusal margin, of the "
        "share of hazards refused, and of right answers to their twins. A model whose refusal "
        "sits in one expert has one dark cell in the middle block. Experts stand in the order of "
        "the first figure.",
        control="On the right what of it went through the route: the difference to the same with "
        "the routes of later layers frozen. The table below holds the largest effect against "
        "random experts, experts used about as much, and shuffled labels.",
    ),
    "patching": ReportFigure(
        title="Where does a hazard become a refusal?",
        draw=patching,
        drawn_from=("patching", "roles"),
        shows="A run in which one layer's values at one position are those of the twin, which "
        "differs in the {part}: the share of the difference in the refusal margin that comes "
        "with them, from the twin into the hazard (is it necessary?) and the other way (is it "
        "enough?).",
        control="The context words are equal in both, so that in their columns there is nothing "
        "to carry. The router's row shows what the route by itself carries.",
        if_context_swapped=dict(
            control="BOS is before all that differs, so that in its column there is nothing to "
            "carry. The router's row shows what the route by itself carries.",
        ),
    ),
    "decomposition": ReportFigure(
        title="What adds up to the decision to refuse?",
        draw=decomposition,
        drawn_from=("decomposition",),
        shows="The margin is a sum of what every part adds to the last position, with the scale "
        "of the final norm held. Direct effects only: what a part does by way of later ones is "
        "counted there.",
        control="The harmless twins on the right: a part that adds as much to them does not tell "
        "hazards from harmless requests.",
    ),
}
