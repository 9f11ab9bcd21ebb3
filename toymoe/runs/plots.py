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
from ..pages.style import BLACK, BLUE, GREY, RED, SKY, STYLES, Figure, defaults, new_figure, tidy

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
        fontsize=8,
        color="0.35",
    )


@defaults()
def film_strip(curves: dict, topics: list[str], frames: int = 7) -> Figure:
    """Share of each topic's context tokens that each expert takes, while the model trains.

    At most ``frames`` snapshots: the first, the last of either phase, and some evenly spread over
    the logarithm of the pretraining step. Within a layer the experts keep one order through all of
    them: by the topic they end up serving.
    """
    share = curves["topic_expert"] / np.maximum(curves["topic_expert"].sum(-1, keepdims=True), 1)
    (_, L, G, E), (at, switch) = share.shape, _time(curves)
    wanted = np.append(np.geomspace(1, switch, frames - 2)[:-1].round(), [switch, at[-1]])
    shown = np.unique([0, *(np.abs(at - w).argmin() for w in wanted)])
    figure = new_figure(FIGURES["film_strip"].title, 2 + 1.75 * len(shown), 0.8 + 1.9 * L)
    panels = figure.subplots(L, squeeze=False)[:, 0]
    phase_names = ("pretraining", "alignment")
    when = [f"{phase_names[curves['phase'][s]]}\nafter step {curves['step'][s]}" for s in shown]
    for layer, axes in enumerate(panels):
        order = np.lexsort((-share[-1, layer].max(0), share[-1, layer].argmax(0)))
        frames_SGE = np.pad(  # side by side, a white column after each
            share[shown, layer][:, :, order], ((0, 0), (0, 0), (0, 1)), constant_values=np.nan
        )
        strip = np.concatenate(frames_SGE, 1)[:, :-1]
        image = axes.imshow(
            strip, cmap="cividis", vmin=0, vmax=0.5, aspect="auto", interpolation="nearest"
        )
        axes.spines[:].set_visible(False)
        axes.set_xticks([])
        axes.set_yticks(range(G), topics, fontsize=7)
        axes.set_ylabel(f"layer {layer}")
    panels[0].xaxis.tick_top()
    panels[0].set_xticks(np.arange(len(shown)) * (E + 1) + (E - 1) / 2, when, fontsize=9)
    panels[0].tick_params(axis="x", length=0)
    figure.supxlabel(f"{E} experts, ordered by the topic they end up serving", fontsize=10)
    bar = figure.colorbar(image, ax=panels, shrink=0.7, extend="max")
    bar.set_label("share of the topic's selections")
    return figure


@defaults()
def nmi_over_training(curves: dict) -> Figure:
    """NMI(topic; expert) at context words with its three controls, a panel per layer."""
    at, _ = _time(curves)
    nmi = curves["nmi_topic_context"]
    L = nmi.shape[1]
    figure = new_figure(FIGURES["nmi"].title, 2 + 3.4 * L, 3.7)
    panels = figure.subplots(1, L, squeeze=False, sharey=True)[0]
    for layer, axes in enumerate(panels):
        axes.plot(at, nmi[:, layer], label="topic", markersize=3, **STYLES[0])
        axes.plot(
            at,
            curves["nmi_token_context"][:, layer],
            label="control: token",
            markersize=3,
            **STYLES[1],
        )
        axes.axhline(nmi[0, layer], label="control: untrained router", color=BLACK, linestyle=":")
        axes.plot(
            at,
            curves["nmi_topic_shuffled"][:, layer],
            label="control: topics shuffled",
            markersize=3,
            **STYLES[2],
        )
        _training_axis(axes, curves)
        tidy(axes, title=f"layer {layer}", xlabel="training step (√ scale)")
    panels[0].set(ylabel="information / log(number of labels)", ylim=(0, None))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    return figure


@defaults()
def behaviour_over_training(curves: dict) -> Figure:
    """Answers and refusals through both phases."""
    at, _ = _time(curves)
    figure = new_figure(FIGURES["behaviour"].title, 8, 4)
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


@defaults()
def contrasts(routing: dict, hazard_rule: str = "conjunction") -> Figure:
    """JS and top-k overlap of paired prompts, ours by layer beside the paper's ranges."""
    from matplotlib.patches import Patch

    labels = paper.contrast_labels(hazard_rule)
    pairs = {name: routing["contrasts"][name] for name in labels if routing["contrasts"][name]}
    figure = new_figure(FIGURES["contrasts"].title, 11, 4.4)
    left, right = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(pairs))[::-1]
    for measure, axes, published in (
        ("js", left, paper.CONTRAST_JS),
        ("overlap", right, paper.CONTRAST_OVERLAP),
    ):
        for row, name in zip(rows, pairs, strict=True):
            if name in published:
                low, high = published[name]
                axes.barh(row, max(high - low, 0.004), 0.7, low, color="0.82", edgecolor=GREY)
            for layer, value in enumerate(pairs[name][measure]):
                style = STYLES[layer % len(STYLES)]
                axes.plot(value, row, style["marker"], color=style["color"], markersize=6)
        axes.grid(axis="y", color="0.92")
        axes.set_axisbelow(True)
    for layer in range(len(routing["load_cv"])):
        style = STYLES[layer % len(STYLES)]
        left.plot([], [], style["marker"], color=style["color"], label=f"ours, layer {layer}")
    grey = Patch(facecolor="0.82", edgecolor=GREY, label=f"range in {paper.SOURCE}")
    right.axvline(routing["top_k"] / routing["experts"], color=BLACK, linestyle=":", label="chance")
    left.set_ylim(-0.6, len(pairs) - 0.4)
    left.set_yticks(rows, [labels[name] for name in pairs])
    tidy(left, xlabel="Jensen–Shannon divergence of the routes (nats)", xlim=(0, None))
    tidy(right, xlabel="share of the top-k experts in common", xlim=(0, 1.02))
    handles = [*left.get_legend_handles_labels()[0], grey]
    left.legend(handles=handles, frameon=False, fontsize=9, loc="upper right")
    right.legend(frameon=False, fontsize=9, loc="lower left")
    return figure


@defaults()
def load(routing: dict) -> Figure:
    """Each expert's share of the selections, a panel per layer."""
    share_LE = np.array(routing["load_share"])
    L, E = share_LE.shape
    figure = new_figure(FIGURES["load"].title, 1 + 3.2 * L, 3.2)
    panels = figure.subplots(1, L, squeeze=False, sharey=True)[0]
    for layer, axes in enumerate(panels):
        axes.bar(np.arange(E), np.sort(share_LE[layer])[::-1], color=SKY, edgecolor=BLUE)
        axes.axhline(1 / E, color=BLACK, linestyle="--", linewidth=1, label="fair share")
        axes.axhline(0.25 / E, color=RED, linestyle=":", label="dead below")
        cv, dead = routing["load_cv"][layer], routing["dead_experts"][layer]
        tidy(
            axes,
            title=f"layer {layer}: variation {cv:.2f}, {dead} dead",
            xlabel="experts, busiest first",
        )
        axes.set_xticks([])
    panels[0].set_ylabel("share of selections")
    panels[-1].legend(frameon=False, fontsize=9)
    return figure


# --- the table ----------------------------------------------------------------------------------

FIGURES = {
    "film_strip": ReportFigure(
        title="Does each topic come to have its own experts?",
        draw=film_strip,
        drawn_from=("curves", "topics"),
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
        shows="How differently the two prompts of a pair are routed, a row for each kind of pair. "
        "A small divergence in the three rows at the top and a large one in the two below, whose "
        "topics differ, means that the topic moves the route and refusal hardly does; the experts "
        "in common say the same the other way round. Grey: the ranges reported for large models; "
        "their unit is not stated, so compare the order of the rows and not the lengths.",
        control="The rows called control: a verb swapped without changing the hazard moves the "
        "route about as much as {one} that does, if it is the word and not the hazard that moves "
        "it.",
        if_context_swapped=dict(
            shows="How differently the two prompts of a pair are routed, a row for each kind of "
            "pair. Here a whole topic is the hazard, so that intent twins swap the context and "
            "not the verb. A small divergence in the two rows at the top and a large one in the "
            "three below, whose topics differ, means that the topic moves the route and refusal "
            "hardly does; the experts in common say the same the other way round. Grey: the "
            "ranges reported for large models; their unit is not stated, so compare the order of "
            "the rows and not the lengths.",
            control="Topic twins swap the context too, and their hazard need not flip: they move "
            "the route about as much as intent twins, if it is the topic and not the hazard that "
            "moves it.",
        ),
    ),
    "load": ReportFigure(
        title="Do all experts work?",
        draw=load,
        drawn_from=("routing",),
        shows="The share of all selections that each expert gets, busiest first.",
        control="The dashed line is the fair share. An expert below the dotted one counts as dead.",
    ),
}
