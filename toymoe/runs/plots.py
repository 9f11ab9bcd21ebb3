"""The figures of a run's training and routing: drawn, named and described.

A figure of the report is a function, plain numbers in and a Figure out, and a row in ``FIGURES``;
those of where refusal lives are in `localisation_plots`. The numbers are those of
`toymoe.measures`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .. import hazards
from ..measures import paper
from ..pages.style import (
    BLACK,
    BLUE,
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

# What intent twins swap, in words: ``{part}`` and ``{one}`` in the texts below a figure.
SWAPPED = {
    "verb": {"part": "verb alone", "one": "one"},
    "entity": {"part": "entity alone", "one": "an entity"},
    "context": {"part": "context words", "one": "a context"},
}


class ReportFigure(NamedTuple):
    """A figure of the report, and what stands above and below it."""

    title: str  # the question that it answers
    draw: Callable[..., Figure]
    drawn_from: tuple[str, ...]  # what ``draw`` takes, by the names that the painter is told
    shows: str
    control: str  # what stands beside it
    if_context_swapped: dict[str, str] | None = None  # said where intent twins swap the context

    def under(self, hazard_rule: str) -> "ReportFigure":
        """With the words for this hazard rule."""
        swapped = hazards.RULES[hazard_rule].swaps
        said = {"shows": self.shows, "control": self.control}
        if swapped == "context":
            said |= self.if_context_swapped or {}
        return self._replace(**{k: text.format(**SWAPPED[swapped]) for k, text in said.items()})


# --- over training ------------------------------------------------------------------------------


def _time(curves):
    """Step of each snapshot counted through both phases, and the step at which alignment began."""
    switch = curves["step"][curves["phase"] == 0].max()
    return curves["step"] + switch * curves["phase"], switch


def _training_axis(axes, curves):
    at, switch = _time(curves)
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    ticks = {0, switch // 64, switch // 16, switch // 4, switch, at[-1]}
    axes.set_xticks(sorted(ticks))
    axes.set_xlim(0, at[-1])
    if not curves["phase"].any():
        return
    axes.axvline(switch, color=GREY, linewidth=1)
    axes.annotate(
        "alignment",
        (switch, 1),
        xycoords=("data", "axes fraction"),
        xytext=(3, -2),
        textcoords="offset points",
        va="top",
        fontsize=9,
        color="0.35",
        bbox=dict(facecolor="white", edgecolor="none", alpha=0.8, pad=1),
    )


def expert_order(curves: dict) -> np.ndarray:
    """Experts of each layer by the topic they end up serving, its busiest first: [L, E]. All
    figures show experts in this order."""
    share_LGE = _topic_shares(curves)[-1]
    return np.stack([np.lexsort((-s.max(0), s.argmax(0))) for s in share_LGE])


def expert_ticks(axes, order_E):
    """The numbers of the experts below an axis, as many as there is room for."""
    every = -(-len(order_E) // 20)
    axes.set_xticks(range(0, len(order_E), every), order_E[::every], fontsize=9)


def _topic_shares(curves):
    counts_SLGE = curves["topic_expert"]
    return counts_SLGE / np.maximum(counts_SLGE.sum(-1, keepdims=True), 1)


@defaults()
def film_strip(curves: dict, topics: list[str], hazardous=(), frames: int = 7) -> Figure:
    """Share of each topic's context tokens that each expert takes, while the model trains.

    At most ``frames`` snapshots: the first, the last of either phase, and some evenly spread over
    the logarithm of the pretraining step; the last one is drawn larger, with the experts' numbers.

    Args:
      hazardous: whether a topic is a hazardous one, which its name is marked for.
    """
    share, (at, switch) = _topic_shares(curves), _time(curves)
    order_LE, (_, L, G, E) = expert_order(curves), share.shape
    wanted = np.append(np.geomspace(1, switch, frames - 2)[:-1].round(), [switch, at[-1]])
    shown = np.unique([0, *(np.abs(at - w).argmin() for w in wanted)])
    phase_names = ("pretraining", "alignment")
    when = [f"{phase_names[curves['phase'][s]]}\nafter step {curves['step'][s]}" for s in shown]
    names = [f"{t} !" if h else t for t, h in zip(topics, hazardous or [False] * G, strict=True)]
    figure = new_figure(FIGURES["film_strip"].title, 12, 1.2 + 2 * L)
    panels = figure.subplots(L, 2, squeeze=False, width_ratios=(2, 1))
    look = dict(cmap="cividis", vmin=0, vmax=0.5, aspect="auto", interpolation="nearest")
    for layer, (strip, last) in enumerate(panels):
        frames_SGE = np.pad(  # side by side, a white column after each
            share[shown, layer][:, :, order_LE[layer]],
            ((0, 0), (0, 0), (0, 1)),
            constant_values=np.nan,
        )
        strip.imshow(np.concatenate(frames_SGE[:-1], 1)[:, :-1], **look)
        image = last.imshow(frames_SGE[-1, :, :-1], **look)
        strip.set(xticks=[], ylabel=f"layer {layer}")
        strip.set_yticks(range(G), names, fontsize=9)
        last.set_yticks([])
        expert_ticks(last, order_LE[layer])
        for axes in (strip, last):
            axes.spines[:].set_visible(False)
    first = panels[0, 0]
    first.xaxis.tick_top()
    first.set_xticks(np.arange(len(shown) - 1) * (E + 1) + (E - 1) / 2, when[:-1], fontsize=9)
    first.tick_params(axis="x", length=0)
    panels[0, 1].set_title(when[-1], fontsize=9)
    note = "     !  a hazardous topic" if any(hazardous) else ""
    figure.supxlabel(
        f"{E} experts, ordered by the topic they end up serving; their numbers below the last frame"
        + note,
        fontsize=10,
    )
    bar = figure.colorbar(image, ax=panels, shrink=0.7, extend="max", aspect=30, pad=0.01)
    bar.set_label("share of the topic's words")
    return figure


def _layer_panels(name, L, height):
    """A panel for each layer, four in a row."""
    across = min(L, 4)
    rows = -(-L // across)
    figure = new_figure(FIGURES[name].title, min(12, 2 + 3.4 * across), 0.4 + height * rows)
    panels = figure.subplots(rows, across, squeeze=False, sharey=True).ravel()
    for axes in panels[L:]:
        axes.remove()
    return figure, panels[:L]


@defaults()
def nmi_over_training(curves: dict) -> Figure:
    """NMI(topic; expert) at context words with its three controls, a panel per layer."""
    at, _ = _time(curves)
    nmi = curves["nmi_topic_context"]
    figure, panels = _layer_panels("nmi", nmi.shape[1], 3.3)
    for layer, axes in enumerate(panels):
        for (name, label), style in zip(
            {
                "nmi_topic_context": "topic",
                "nmi_token_context": "control: token",
                "nmi_topic_shuffled": "control: topics shuffled",
            }.items(),
            STYLES,
            strict=False,
        ):
            axes.plot(at, curves[name][:, layer], label=label, markersize=3, **style)
        axes.axhline(nmi[0, layer], label="control: untrained router", color=BLACK, linestyle=":")
        _training_axis(axes, curves)
        tidy(axes, title=f"layer {layer}", xlabel="training step (√ scale)")
    panels[0].set(ylabel="information / log(number of labels)", ylim=(0, None))
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    return figure


@defaults()
def behaviour_over_training(curves: dict) -> Figure:
    """Answers and refusals through both phases."""
    at, _ = _time(curves)
    figure = new_figure(FIGURES["behaviour"].title, 10, 4)
    axes = figure.subplots()
    lines = {
        "answer_accuracy": "harmless: answered correctly",
        "refusal": "hazardous: refused",
        "refusal_held_out": "hazardous, never rehearsed: refused",
        "hazard_answered": "hazardous: answered correctly",
        "over_refusal": "harmless: refused",
    }
    for (name, label), style in zip(lines.items(), STYLES, strict=False):
        axes.plot(at, curves[name], label=label, markersize=3, **style)
    _training_axis(axes, curves)
    tidy(axes, xlabel="training step (√ scale)", ylabel="share of requests", ylim=(-0.02, 1.02))
    figure.legend(loc="outside right center", frameon=False)
    return figure


# --- after training -----------------------------------------------------------------------------


MODELS = {  # which are compared, in words, and how each is drawn
    "untrained": ("untrained", dict(marker="o", color=BLACK, markerfacecolor="white")),
    "pretrained": ("before alignment", dict(marker="s", color=ORANGE)),
    "aligned": ("after alignment", dict(marker="D", color=BLUE)),
}


@defaults()
def contrasts(routing: dict, hazard_rule: str = "conjunction") -> Figure:
    """JS and top-k overlap of paired prompts, averaged over layers: three models side by side, and
    the paper's ranges."""
    from matplotlib.patches import Patch

    labels = paper.contrast_labels(hazard_rule)
    names = [name for name in labels if routing["contrasts"]["aligned"][name]]
    figure = new_figure(FIGURES["contrasts"].title, 12, 1.6 + 0.42 * len(names))
    left, right = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(names))[::-1]
    for measure, axes, published in (
        ("js", left, paper.CONTRAST_JS),
        ("overlap", right, paper.CONTRAST_OVERLAP),
    ):
        for row, name in zip(rows, names, strict=True):
            if name in published:
                low, high = published[name]
                axes.barh(row, max(high - low, 0.004), 0.8, low, color="0.82", edgecolor=GREY)
        for (which, (label, style)), up in zip(MODELS.items(), (0.22, 0, -0.22), strict=True):
            values = [np.mean(routing["contrasts"][which][name][measure]) for name in names]
            axes.plot(values, rows + up, linestyle="", markersize=6, label=label, **style)
        axes.grid(axis="y", color="0.92")
        axes.set_axisbelow(True)
    grey = Patch(facecolor="0.82", edgecolor=GREY, label=f"range in {paper.SOURCE}")
    right.axvline(routing["top_k"] / routing["experts"], color=BLACK, linestyle=":", label="chance")
    left.set_ylim(-0.6, len(names) - 0.4)
    left.set_yticks(rows, [labels[name] for name in names], fontsize=9)
    tidy(left, xlabel="Jensen–Shannon divergence of the routes (nats)", xlim=(-0.01, None))
    tidy(right, xlabel="share of the top-k experts in common", xlim=(0, 1.02))
    handles = [*right.get_legend_handles_labels()[0], grey]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    return figure


@defaults()
def load(routing: dict, curves: dict) -> Figure:
    """Each expert's share of the selections, a panel per layer."""
    share_LE, order_LE = np.array(routing["load_share"]), expert_order(curves)
    L, E = share_LE.shape
    figure, panels = _layer_panels("load", L, 2.9)
    for layer, axes in enumerate(panels):
        order_E = order_LE[layer]
        axes.bar(np.arange(E), share_LE[layer, order_E], color=SKY, edgecolor=BLUE)
        axes.axhline(1 / E, color=BLACK, linestyle="--", linewidth=1, label="fair share")
        axes.axhline(0.25 / E, color=RED, linestyle=":", label="dead below")
        cv, dead = routing["load_cv"][layer], routing["dead_experts"][layer]
        tidy(axes, title=f"layer {layer}: variation {cv:.2f}, {dead} dead", xlabel="expert")
        expert_ticks(axes, order_E)
    panels[0].set_ylabel("share of selections")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False
    )
    return figure


# --- the table ----------------------------------------------------------------------------------

FIGURES = {
    "film_strip": ReportFigure(
        title="Does each topic come to have its own experts?",
        draw=film_strip,
        drawn_from=("curves", "topics", "hazardous"),
        shows="Each panel is a layer at a moment of training; a row is a topic, a column an "
        "expert, and the colour the share of the topic's context words that the expert takes. "
        "Rows that are alike mean a router that ignores the topic; a few bright columns in each "
        "row, different ones in different rows, mean specialisation.",
        control="The first column is the untrained router. What it shows is only that equal words "
        "are routed equally.",
    ),
    "nmi": ReportFigure(
        title="How much does an expert say about the topic?",
        draw=nmi_over_training,
        drawn_from=("curves",),
        shows="Mutual information of expert and topic at the context words, as a share of "
        "log(number of topics): 1 if the expert gives the topic away, 0 if it says nothing.",
        control="Three controls: the topics shuffled among the prompts (what the estimate finds "
        "where there is nothing), the untrained router, and the same measure for the token "
        "instead of the topic. The token's curve is divided by log(vocabulary), more than so few "
        "experts can tell and so few context words contain: it cannot reach 1.",
    ),
    "behaviour": ReportFigure(
        title="What does the model do with a request?",
        draw=behaviour_over_training,
        drawn_from=("curves",),
        shows="In pretraining every request is answered, the hazardous too; then the model is "
        "taught to refuse those. Measured on fixed prompts.",
        control="Hazards never rehearsed in alignment (is a rule learnt, or a list?), harmless "
        "requests refused by mistake.",
    ),
    "contrasts": ReportFigure(
        title="What moves the route: the topic, or the refusal?",
        draw=contrasts,
        drawn_from=("routing", "hazard_rule"),
        shows="How differently the two prompts of a pair are routed, averaged over the layers, a "
        "row for each kind of pair. A small divergence where the {part} is swapped, and a large "
        "one where the topics differ, means that the topic moves the route and refusal hardly "
        "does; the experts in common say the same the other way round. Grey: the ranges reported "
        "for large models; their unit is not stated, so compare the order of the rows and not the "
        "lengths.",
        control="The untrained router: it tells words apart already, so only what training adds "
        "to it was learnt. And the rows called control: a verb swapped without changing the "
        "hazard moves the route about as much as {one} that does, if it is the word and not the "
        "hazard that moves it.",
        if_context_swapped=dict(
            shows="How differently the two prompts of a pair are routed, averaged over the "
            "layers, a row for each kind of pair. Here a whole topic is the hazard, so that intent "
            "twins swap the context and not the verb, and are pairs of different topics too. Grey: "
            "the ranges reported for large models; their unit is not stated, so compare the order "
            "of the rows and not the lengths.",
            control="Topic twins swap the context too, and their hazard need not flip: they move "
            "the route about as much as intent twins, if it is the topic and not the hazard that "
            "moves it.",
        ),
    ),
    "load": ReportFigure(
        title="Do all experts work?",
        draw=load,
        drawn_from=("routing", "curves"),
        shows="The share of all selections that each expert gets, in the order of the first "
        "figure.",
        control="The dashed line is the fair share. An expert below the dotted one counts as dead.",
    ),
}
