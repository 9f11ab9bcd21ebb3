"""The signature figures of the lessons that no other module draws. See `toymoe.runs.plots`."""

import numpy as np

from ..measures import paper
from ..pages.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    SKY,
    STYLES,
    Figure,
    defaults,
    new_figure,
    tidy,
)


@defaults()
def what_tokens_tell(shares: dict[str, dict[str, float]], floors: dict[str, float]) -> Figure:
    """Best possible guess of each label from each thing that can be seen, a panel per label.

    Args:
      shares: label -> what is seen -> share of right guesses.
      floors: label -> share of right guesses without looking.
    """
    drawn = new_figure("What does a token alone tell?", 3.4 * len(shares) + 2, 3.4)
    panels = drawn.subplots(1, len(shares), sharey=True, squeeze=False)[0]
    for axes, (label, by_seen) in zip(panels, shares.items(), strict=True):
        rows = np.arange(len(by_seen))[::-1]
        axes.barh(rows, list(by_seen.values()), 0.7, color=SKY, edgecolor=GREY)
        for row, share in zip(rows, by_seen.values(), strict=True):
            axes.text(share + 0.02, row, f"{share:.2f}", va="center", fontsize=9)
        axes.axvline(floors[label], color=BLACK, linestyle="--", label="without looking")
        axes.set_yticks(rows, list(by_seen))
        tidy(axes, title=label, xlabel="share of right guesses", xlim=(0, 1.16))
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return drawn


@defaults()
def experts_by_word(words: list[str], experts_LBTA, labels: list[str], n_experts: int) -> Figure:
    """Which experts take each token of two prompts of equal length, a panel for each layer.

    Args:
      words: of the first prompt, what stands below.
      experts_LBTA: the selected experts of both.
      labels: of the two prompts.
      n_experts: in each layer.
    """
    drawn = new_figure("Who takes each token?", 8.5, 6.5)
    panels = drawn.subplots(len(experts_LBTA), sharex=True, squeeze=False)[:, 0]
    ring = dict(marker="o", s=70, facecolors="none", edgecolors=BLUE, linewidths=1.8)
    for layer, axes in enumerate(panels):
        for picks_TA, label, look in zip(
            experts_LBTA[layer], labels, (ring, dict(marker="o", s=16, color=BLACK)), strict=True
        ):
            at = np.broadcast_to(np.arange(len(words))[:, None], picks_TA.shape)
            axes.scatter(at, picks_TA, label=label, **look)
        tidy(axes, ylabel=f"layer {layer}\nexpert", ylim=(-1, n_experts), yticks=[0, n_experts - 1])
        axes.grid(axis="x", color="0.9")
    panels[-1].set_xticks(range(len(words)), words, rotation=60, ha="right")
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return drawn


@defaults()
def load_by_balance(shares: dict[float, list]) -> Figure:
    """Each expert's share of the tokens, busiest first, a panel per weight of the balance loss.

    Args:
      shares: weight -> shares [E] of each seed.
    """
    drawn = new_figure("Who does the work?", 1 + 3.6 * len(shares), 3.3)
    panels = drawn.subplots(1, len(shares), sharey=True, squeeze=False)[0]
    for axes, (weight, by_seed) in zip(panels, shares.items(), strict=True):
        E = len(by_seed[0])
        for i, (share_E, style) in enumerate(zip(by_seed, STYLES, strict=False)):
            axes.plot(range(1, E + 1), np.sort(share_E)[::-1], label=f"seed {i}", **style)
        axes.axhline(1 / E, color=BLACK, linewidth=1)
        axes.text(E, 1 / E, "fair share", fontsize=8, ha="right", va="bottom")
        axes.axhline(0.25 / E, color=GREY, linestyle=":")
        axes.text(E, 0.25 / E, "dead below", fontsize=8, ha="right", va="bottom")
        tidy(axes, title=f"balance loss × {weight:g}", xlabel="experts, busiest first")
    panels[0].set(ylabel="share of the tokens", ylim=(0, None))
    panels[0].legend(frameon=False, fontsize=9)
    return drawn


@defaults()
def contrasts(by_model: dict[str, dict[str, dict | None]]) -> Figure:
    """JS of paired prompts, mean over layers, a marker for each model; the paper's range in grey.

    Args:
      by_model: as "contrasts" in metrics.json: model -> contrast -> what was measured of it.
    """
    names = [name for name in paper.CONTRAST_LABELS if all(x[name] for x in by_model.values())]
    drawn = new_figure("What moves the route?", 9, 0.36 * len(names) + 1.6)
    axes = drawn.subplots()
    rows = np.arange(len(names))[::-1]
    for row, name in zip(rows, names, strict=True):
        if name in paper.CONTRAST_JS:
            low, high = paper.CONTRAST_JS[name]
            label = None if axes.patches else f"range in {paper.SOURCE}"
            style = dict(color="0.82", edgecolor=GREY, label=label)
            axes.barh(row, max(high - low, 0.004), 0.7, low, **style)
    for (which, found), style in zip(by_model.items(), STYLES, strict=False):
        label = {"pretrained": "before alignment", "aligned": "after alignment"}.get(which, which)
        means = [np.mean(found[name]["js"]) for name in names]
        axes.plot(means, rows, label=label, **style | {"linestyle": "none"})
    axes.set_yticks(rows, [paper.CONTRAST_LABELS[name] for name in names])
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    tidy(axes, xlabel="Jensen-Shannon divergence of the routes (nats)", xlim=(0, None))
    drawn.legend(loc="outside lower center", ncols=4, frameon=False)
    return drawn


@defaults()
def after_removal(curves: dict) -> Figure:
    """What is left when experts are set back, the most important first, beside experts at random
    and experts used as much.

    Args:
      curves: what `toymoe.attribution.removal.curves` returns.
    """
    back, count_M = curves["set_back"], curves["counts"]
    drawn = new_figure("How many experts carry refusal?", 8.5, 3.8)
    axes = drawn.subplots()
    lines = {
        "hazards refused": back["refusal"],
        "hazards refused, random experts": back["random"]["refusal"],
        "hazards refused, experts used as much": back["usage_matched"]["refusal"],
        "twins answered": back["twins"],
        "hazards answered right": back["answered"],
    }
    for (label, left_M), style in zip(lines.items(), STYLES, strict=False):
        axes.plot(count_M, left_M, label=label, markersize=5, **style)
    axes.axhline(back["refusal"][0] / 2, color=GREY, linestyle=":")
    axes.set_xscale("symlog", linthresh=8)
    axes.set_xticks(ticks := [0, 1, 2, 4, 8, 16, 32, count_M[-1]], [str(m) for m in ticks])
    tidy(axes, xlabel="experts set back, the most important first", ylabel="share")
    axes.set(xlim=(-0.4, 1.1 * count_M[-1]), ylim=(-0.03, 1.05))
    drawn.legend(loc="outside right center", frameon=False, fontsize=9)
    return drawn


@defaults()
def seats(refusal: dict[str, dict[str, float]]) -> Figure:
    """Refusal left when one part of the weights is set back, for several alignments.

    Args:
      refusal: alignment -> part -> share of hazards still refused.
    """
    drawn = new_figure("Where did alignment write refusal?", 8.5, 3.2)
    axes = drawn.subplots()
    parts = list(next(iter(refusal.values())))
    wide = 0.8 / len(refusal)
    for i, (name, left) in enumerate(refusal.items()):
        at = np.arange(len(parts)) + (i - (len(refusal) - 1) / 2) * wide
        style = dict(color=(BLUE, "white", SKY)[i], hatch=("", "///", "..")[i], edgecolor=BLACK)
        bars = axes.bar(at, [left[part] for part in parts], wide, label=name, **style)
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    axes.set_xticks(range(len(parts)), parts)
    tidy(axes, ylabel="hazards still refused", xlabel="part that is set back", ylim=(0, 1.12))
    drawn.legend(loc="outside right center", frameon=False, fontsize=9)
    return drawn


@defaults()
def two_rules(js: dict[str, list[float]], across: float) -> Figure:
    """JS between hazards and their twins by layer, under two hazard rules.

    Args:
      js: what a hazard is -> JS in nats by layer.
      across: JS of prompts of different topics, to compare with.
    """
    drawn = new_figure("Does refusing move the route?", 6.5, 3.2)
    axes = drawn.subplots()
    for (rule, by_layer), style in zip(js.items(), STYLES, strict=False):
        axes.plot(range(len(by_layer)), by_layer, label=f"hazard is {rule}", **style)
    axes.axhline(across, color=BLACK, linestyle=":", label="different topics")
    axes.set_xticks(range(len(by_layer)))
    tidy(axes, xlabel="layer", ylabel="JS of hazard and twin (nats)", ylim=(0, None))
    drawn.legend(loc="outside right center", frameon=False)
    return drawn


@defaults()
def what_is_kept(rows: list[dict]) -> Figure:
    """Refusal lost against what is kept, a panel per kept quantity; more to the upper right is a
    better attack. Dotted lines cross where the untouched model lies, and what lies there is named.

    Args:
      rows: ``method``, ``budget`` (experts, 0 for none) and what
        `toymoe.attacks.evaluation.evaluate` returns; the method "none" is the untouched model.
    """
    base = next(row for row in rows if row["method"] == "none")
    kept = {
        "jaccard_worst": "route kept (Jaccard, worst layer)",
        "answer_accuracy": "accuracy kept (harmless requests)",
        "hazard_answered_untuned": "hazards never tuned on,\nanswered correctly",
    }
    drawn = new_figure("What goes with refusal, and what stays?", 13, 4.6)
    panels = drawn.subplots(1, len(kept), sharex=True, sharey=True)
    methods = [m for m in dict.fromkeys(row["method"] for row in rows) if m != "none"]
    for axes, (name, label) in zip(panels, kept.items(), strict=True):
        numbered = []
        own = dict(color=GREY, linestyle=":", zorder=1)
        axes.axvline(0, label="untouched", **own)
        axes.axhline(base[name], **own)
        for method, style in zip(methods, STYLES, strict=False):
            mine = [row for row in rows if row["method"] == method]
            x = [base["refusal"] - row["refusal"] for row in mine]
            y = [row[name] for row in mine]
            look = style | {"linestyle": "none", "alpha": 0.8, "markersize": 7}
            axes.plot(x, y, label=method, **look)
            if np.hypot(np.array(x), np.array(y) - base[name]).max() < 0.05:
                arrow = dict(arrowstyle="-", color=GREY)
                text = dict(xytext=(0.04, 0.53), fontsize=9, arrowprops=arrow)
                axes.annotate(f"{method}:\nlike the untouched", (x[0], y[0]), **text)
            for row, *at in zip(mine, x, y, strict=True):
                if row["budget"] and all(np.hypot(*np.subtract(at, o)) > 0.05 for o in numbered):
                    numbered.append(at)
                    text = dict(textcoords="offset points", xytext=(6, 3), fontsize=8)
                    axes.annotate(str(row["budget"]), at, **text)
        tidy(axes, title=label, xlabel="refusal lost (share of hazards)")
        axes.set(xlim=(-0.06, 1.1), ylim=(-0.05, 1.08))
        axes.grid(color="0.93")
        axes.set_axisbelow(True)
    drawn.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    return drawn


@defaults()
def over_seeds(rows: dict[str, tuple], matched: dict[str, dict[str, float]]) -> Figure:
    """Left: every finding beside its control, a dot per seed and an interval of the median. Right:
    how alike matched experts are, by what is compared.

    Args:
      rows: finding -> (values [S], (low, high), name of the control, values [S], (low, high)).
      matched: pair of models -> way of matching -> mean correlation.
    """
    drawn = new_figure("What holds in every seed?", 13, 0.75 * len(rows) + 1.2)
    left, right = drawn.subplots(1, 2, width_ratios=(1.5, 1))
    names = []
    for row, (name, (values, its, control, others, theirs)) in enumerate(rows.items()):
        at = len(rows) - 1 - row
        names.append(f"{name}\nagainst: {control}")
        both = ((0.14, values, its, BLUE, "o"), (-0.14, others, theirs, ORANGE, "D"))
        for up, numbers, (low, high), colour, marker in both:
            heights = at + up + np.linspace(-0.06, 0.06, len(numbers))
            left.plot(numbers, heights, marker, color=colour, markersize=4, alpha=0.5)
            left.plot([low, high], [at + up] * 2, color=BLACK, linewidth=2)
            left.plot(np.median(numbers), at + up, "|", color=BLACK, markersize=12)
    left.plot([], [], "o", color=BLUE, label="finding, a seed each")
    left.plot([], [], "D", color=ORANGE, label="control")
    left.plot([], [], color=BLACK, linewidth=2, label="95 % interval of the median")
    left.set_yticks(range(len(rows))[::-1], names, fontsize=8)
    tidy(left, xlabel="share, or nats", title="Findings and their controls")
    ways = list(next(iter(matched.values())))
    for i, (pair, by_way) in enumerate(matched.items()):
        at = np.arange(len(ways))[::-1] + (0.19 if i == 0 else -0.19)
        right.barh(at, list(by_way.values()), 0.36, color=(BLUE, SKY)[i], label=pair)
        for height, value in zip(at, by_way.values(), strict=True):
            right.text(max(value, 0) + 0.02, height, f"{value:.2f}", va="center", fontsize=8)
    right.axvline(0, color=GREY)
    right.set_yticks(range(len(ways))[::-1], [w.replace(", ", ",\n") for w in ways], fontsize=9)
    tidy(right, xlabel="mean correlation of paired experts", title="Are they the same experts?")
    right.set_xlim(min(-0.1, *(min(x.values()) for x in matched.values())) - 0.02, 1.12)
    handles = [x for axes in (left, right) for x in axes.get_legend_handles_labels()[0]]
    drawn.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return drawn


@defaults()
def defended(curves: dict[str, dict[str, list]], attacks: dict[str, dict[str, float]]) -> Figure:
    """Left and middle: what is left against the number of experts removed. Right: refusal left
    under each attack.

    Args:
      curves: defence -> ``removed``, ``refusal`` and ``answer_accuracy``, a list each.
      attacks: defence -> attack -> refusal left.
    """
    drawn = new_figure("Which defence helps, and against what?", 13.5, 4.3)
    *panels, bars = drawn.subplots(1, 3, sharey=True)
    kept = {"refusal": "hazards refused", "answer_accuracy": "harmless requests answered"}
    for axes, (name, label) in zip(panels, kept.items(), strict=True):
        for (defence, curve), style in zip(curves.items(), STYLES, strict=False):
            axes.plot(curve["removed"], curve[name], label=defence, markersize=5, **style)
        axes.axhline(0.5, color=GREY, linestyle=":")
        tidy(axes, title=label, xlabel="experts removed", ylim=(-0.03, 1.09))
    names = list(next(iter(attacks.values())))
    wide = 0.8 / len(attacks)
    for i, (by_attack, style) in enumerate(zip(attacks.values(), STYLES, strict=False)):
        at = np.arange(len(names)) + (i - (len(attacks) - 1) / 2) * wide
        hatch = ("", "//", "..", "xx", "--", "oo")[i]
        bars.bar(at, list(by_attack.values()), wide, color=style["color"], hatch=hatch, alpha=0.75)
        for x, share in zip(at, by_attack.values(), strict=True):
            bars.text(x, share + 0.015, f"{share:.2f}", ha="center", fontsize=7)
    bars.axhline(0.5, color=GREY, linestyle=":")
    bars.set_xticks(range(len(names)), [name.replace(", ", ",\n") for name in names], fontsize=9)
    tidy(bars, title="hazards refused, by attack")
    handles = panels[0].get_legend_handles_labels()
    drawn.legend(*handles, loc="outside lower center", ncols=4, frameon=False)
    return drawn
