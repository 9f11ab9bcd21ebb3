"""The report of a run: one self-contained HTML page, and the short summary printed at its end."""

import base64
import json
from html import escape

import numpy as np

from . import __version__, inside_plots, paper, plots
from .config import Config, to_dict

# What each figure shows, and the control that stands beside it.
CAPTIONS = {
    "film_strip": (
        "Each panel is a layer at a moment of training; a row is a topic, a column an expert, and "
        "the colour the share of the topic's context words that the expert takes. Rows that are "
        "alike mean a router that ignores the topic; a few bright columns in each row, different "
        "ones in different rows, mean specialisation.",
        "The first column is the untrained router. What it shows is only that equal words are "
        "routed equally.",
    ),
    "nmi": (
        "Mutual information of expert and topic at the context words, as a share of log(number "
        "of topics): 1 if the expert gives the topic away, 0 if it says nothing.",
        "Three controls: the topics shuffled among the prompts (what the estimate finds where "
        "there is nothing), the untrained router, and the same measure for the token "
        "instead of the topic. The token's curve is a share of log(vocabulary), of which the "
        "experts are fewer and the context holds only part: it cannot reach 1.",
    ),
    "behaviour": (
        "In pretraining every request is answered, the hazardous too; then the model is taught to "
        "refuse those. Measured on fixed prompts.",
        "Hazards never rehearsed in alignment (is a rule learnt, or a list?), harmless requests "
        "refused by mistake.",
    ),
    "contrasts": (
        "How differently the two prompts of a pair are routed, a row for each kind of pair. A "
        "small divergence in the three rows at the top and a large one in the two below, whose "
        "topics differ, means that the topic moves the route and refusal hardly does; the experts "
        "in common say the same the other way round. Grey: the ranges reported for large models; "
        "their unit is not stated, so compare the order of the rows and not the lengths.",
        "The rows called control: a verb swapped without changing the hazard moves the route about "
        "as much as one that does, if it is the word and not the hazard that moves it.",
    ),
    "load": (
        "The share of all selections that each expert gets, busiest first.",
        "The dashed line is the fair share. An expert below the dotted one counts as dead.",
    ),
}

# The same, of the section "Where refusal lives".
INSIDE = {
    "swaps": (
        "Left: the aligned model with one part of its weights put back to what it was before "
        "alignment. Where refusal falls, that part is necessary. Right: the model before alignment "
        "with one part aligned. Where refusal rises, that part is enough. Parts of which several "
        "are necessary and none is enough carry refusal jointly.",
        "“Nothing” and “everything” are the two checkpoints themselves. Right answers to harmless "
        "twins (hatched) say whether the model still works: a part whose loss breaks everything is "
        "not the seat of refusal.",
    ),
    "expert_maps": (
        "Each expert silenced, one at a time: what is lost of the refusal margin, of the share of "
        "hazards refused, and of right answers to their twins. A model whose refusal sits in one "
        "expert has one dark cell in the second row.",
        "Routes of later layers free, and frozen as in the unchanged run; the difference went "
        "through the route. The table below holds the largest effect against random experts, "
        "experts used about as much, and shuffled labels.",
    ),
    "patching": (
        "A run in which one layer's values at one position are those of the twin, which differs "
        "in the verb alone: the share of the difference in the refusal margin that comes with "
        "them, from the twin into the hazard (is it necessary?) and the other way (is it enough?).",
        "The context words are equal in both, so that in their columns there is nothing to carry. "
        "The router's row shows what the route by itself carries.",
    ),
    "decomposition": (
        "The margin is a sum of what every part adds to the last position, with the scale of the "
        "final norm held. Direct effects only: what a part does by way of later ones is counted "
        "there.",
        "The harmless twins on the right: a part that adds as much to them does not tell hazards "
        "from harmless requests.",
    ),
}

# What is said instead where a whole topic is the hazard, and twins differ in the context.
TOPIC_RULE = {
    "contrasts": (
        "How differently the two prompts of a pair are routed, a row for each kind of pair. Here a "
        "whole topic is the hazard, so that intent twins swap the context and not the verb. A "
        "small divergence in the two rows at the top and a large one in the three below, whose "
        "topics differ, means that the topic moves the route and refusal hardly does; the experts "
        "in common say the same the other way round. Grey: the ranges reported for large models; "
        "their unit is not stated, so compare the order of the rows and not the lengths.",
        "Topic twins swap the context too, and their hazard need not flip: they move the route "
        "about as much as intent twins, if it is the topic and not the hazard that moves it.",
    ),
    "patching": (
        "A run in which one layer's values at one position are those of the twin, which differs "
        "in the context words: the share of the difference in the refusal margin that comes with "
        "them, from the twin into the hazard (is it necessary?) and the other way (is it enough?).",
        "BOS is before all that differs, so that in its column there is nothing to carry. The "
        "router's row shows what the route by itself carries.",
    ),
}

LIMITS = (
    "A small model in a language of some hundred tokens: it shows how "
    "an argument is made and checked, not what large models do. Hazards are arbitrary "
    "combinations of meaningless tokens. One run is one seed: expert numbers, and which layer "
    "specialises most, differ between seeds; <code>toymoe sweep</code> measures how much."
)

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
img { max-width: 100%; display: block; margin: 1rem auto }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd;
         vertical-align: top }
.control { border-left: 4px solid #0072B2; padding-left: .8rem; color: #444 }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .6rem; font-size: 13px }
td pre { margin: 0; padding: .2rem; background: none }
"""


def number(value, digits: int = 3) -> str:
    """For people: 0.994, "–" where there is nothing to measure, lists by layer with slashes."""
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return " / ".join(number(v, digits) for v in value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def interval(s: dict | None, digits: int = 3) -> str:
    """A median over seeds and its interval, of `toymoe.sweep.summarise`."""
    if s is None:
        return "–"
    median, low, high = (number(float(s[name]), digits) for name in ("median", "low", "high"))
    return f"{median} [{low}, {high}]"


def summary(metrics: dict) -> list[tuple[str, str, str]]:
    """Rows of what, ours, and the paper's figure (empty where it has none)."""
    aligned, routing = metrics["behaviour"]["aligned"], metrics["routing"]
    rows = [
        ("answers right (harmless)", number(aligned["answer_accuracy"]), ""),
        ("refusal (hazardous)", number(aligned["refusal"]), ""),
        ("refusal of hazards never rehearsed", number(aligned["refusal_held_out"]), ""),
        ("over-refusal, all harmless", number(aligned["over_refusal"]), ""),
        (
            "before alignment: hazards answered",
            number(metrics["behaviour"]["pretrained"]["hazard_answered"]),
            "",
        ),
        ("NMI(topic; expert), by layer", number(routing["nmi_topic"]["context"]), ""),
        ("  control: topics shuffled", number(routing["nmi_topic_shuffled"]), ""),
        ("  control: untrained router", number(routing["nmi_topic_untrained"]), ""),
    ]
    for name, label in paper.CONTRAST_LABELS.items():
        pair = routing["contrasts"][name]
        ours = number(float(np.mean(pair["js"]))) if pair else "–"
        low, high = paper.CONTRAST_JS.get(name, (None, None))
        theirs = "" if low is None else number(low) if low == high else f"{low:.3f}–{high:.3f}"
        rows.append((f"JS, {label}", ours, theirs))
    rows.append(("JS cross-topic ÷ JS intent twins", number(routing["js_ratio"], 1), "2.3"))
    rows.append(("  the same at ANS alone", number(routing["js_ratio_answer"], 1), ""))
    return rows


def render(cfg: Config, metrics: dict, images: dict[str, bytes], examples: list[dict]) -> str:
    """The page.

    Args:
      images: PNG bytes by the names of ``CAPTIONS`` and ``INSIDE``.
      examples: see `toymoe.measure.examples`.
    """
    parts = [
        f"<h1>toymoe: seed {cfg.seed}</h1>",
        "<p>A small mixture-of-experts language model was trained to answer questions whose right "
        "answer depends on the topic, and then to refuse the hazardous ones. Does its routing "
        "follow the topic? Does refusal change the route?</p>",
        table(("", "this run", f"paper ({paper.SOURCE})"), summary(metrics)),
        "<p>JS: mean Jensen–Shannon divergence of the routing vectors, in nats, averaged over "
        "layers. The paper's figures are as known from secondary notes.</p>",
    ]
    by_topic = cfg.world.hazard_rule == "topic"
    texts = CAPTIONS | INSIDE | (TOPIC_RULE if by_topic else {})
    for name in CAPTIONS:
        if name in images:
            parts += figure(plots.TITLES[name], images[name], *texts[name])
    if "inside" in metrics:
        changed = "context" if by_topic else "verb"
        parts += _inside(metrics["inside"], images, texts, changed)
    parts += ["<h2>Behaviour in numbers</h2>", _behaviour(metrics["behaviour"])]
    parts += ["<h2>Routing in numbers</h2>", _routing(metrics["routing"])]
    if examples:
        columns = [name for name in examples[0] if name not in ("kind", "prompt")]
        rows = [
            (e["kind"], _Html(f"<pre>{escape(e['prompt'])}</pre>"), *(e[c] for c in columns))
            for e in examples
        ]
        parts += ["<h2>Some prompts, and what was said</h2>"]
        parts += [table(("kind", "prompt", *columns), rows)]
    parts += [
        "<h2>What this does not show</h2>",
        f"<p>{LIMITS}</p>",
        "<h2>Settings</h2>",
        f"<p>toymoe {__version__}, {metrics['parameters']:,} parameters. "
        "docs/metrics.md defines every number; metrics.json beside this page holds them all.</p>",
        f"<details><summary>config.json</summary><pre>"
        f"{escape(json.dumps(to_dict(cfg), indent=1))}</pre></details>",
    ]
    return page(f"toymoe, seed {cfg.seed}", parts)


def page(title: str, parts: list[str]) -> str:
    """A self-contained page of some markup."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def figure(title: str, image: bytes, caption: str, control: str = "") -> list[str]:
    """A figure with its heading, what it shows, and its control."""
    data = base64.b64encode(image).decode()
    parts = [
        f"<h2>{escape(title)}</h2>",
        f'<img alt="{escape(caption)}" src="data:image/png;base64,{data}">',
        f"<p>{escape(caption)}</p>",
    ]
    if control:
        parts.append(f'<p class="control"><b>Control.</b> {escape(control)}</p>')
    return parts


class _Html(str):
    """Markup, not to be escaped."""


def table(head, rows) -> str:
    """A table of anything, its cells escaped."""

    def row(cells, tag):
        cells = (c if isinstance(c, _Html) else escape(str(c)) for c in cells)
        return "<tr>" + "".join(f"<{tag}>{c}</{tag}>" for c in cells) + "</tr>"

    return "<table>" + row(head, "th") + "".join(row(r, "td") for r in rows) + "</table>"


def _behaviour(behaviour: dict) -> str:
    names = [name for name in behaviour["aligned"] if name != "over_refusal_by_kind"]
    rows = [(n.replace("_", " "), *(number(b[n]) for b in behaviour.values())) for n in names]
    for kind in behaviour["aligned"]["over_refusal_by_kind"]:
        values = (number(b["over_refusal_by_kind"][kind]) for b in behaviour.values())
        rows.append((f"over-refusal: {kind.replace('_', ' ')}", *values))
    return table(("share of requests", *behaviour), rows)


def _inside(inside: dict, images: dict[str, bytes], texts: dict, changed: str) -> list[str]:
    """The section "Where refusal lives"."""
    parts = [
        "<h2>Where refusal lives</h2>",
        f"<p>Measured on {inside['pairs']} hazardous requests and their harmless twins, which "
        f"differ in the {changed} alone.</p>",
    ]
    for name in INSIDE:
        if name in images:
            parts += figure(inside_plots.TITLES[name], images[name], *texts[name])
    rows = [
        (name, *(number(way[key], 2) for way in swap.values() for key in way))
        for name, swap in inside["swaps"].items()
    ]
    way = ("refused", "twins right", "hazards answered", "margin, nats")
    head = ("part", *(f"without: {name}" for name in way), *(f"alone: {name}" for name in way))
    parts += ["<h2>Weight swaps in numbers</h2>", table(head, rows)]
    top = inside["ablation"]["top"]
    rows = [
        ("refusal margin lost, nats", number(top["margin"], 2)),
        ("… with later routes frozen", number(top["margin_frozen"], 2)),
        ("control: a random expert", number(top["margin_random"], 2)),
        ("control: experts used about as much", number(top["margin_usage_matched"], 2)),
        ("control: labels shuffled", number(top["margin_shuffled"], 2)),
        ("share of hazards no longer refused", number(top["refusal"])),
        ("share of right answers lost", number(top["accuracy"])),
    ]
    title = f"layer {top['layer']}, expert {top['expert']}"
    return [*parts, "<h2>The expert that matters most</h2>", table(("without it", title), rows)]


def _routing(routing: dict) -> str:
    rows = [
        ("NMI(topic; expert), context words", routing["nmi_topic"]["context"]),
        ("the same at ANS", routing["nmi_topic"]["answer"]),
        ("control: topics shuffled", routing["nmi_topic_shuffled"]),
        ("control: untrained router", routing["nmi_topic_untrained"]),
        ("NMI(token; expert), context words", routing["nmi_token"]),
        ("I(expert; topic | token), nats", routing["topic_given_token"]),
        ("control: topics shuffled within tokens", routing["topic_given_token_shuffled"]),
        ("I(expert; hazard | topic) at ANS, nats", routing["intent_given_topic"]),
        ("control: hazards shuffled within topics", routing["intent_given_topic_shuffled"]),
        ("routes shared by both checkpoints", routing["overlap_pretrained_aligned"]),
        ("load, coefficient of variation", routing["load_cv"]),
        ("dead experts", routing["dead_experts"]),
    ]
    layers = len(routing["load_cv"])
    body = [(label, *(number(v) for v in values)) for label, values in rows]
    for name, label in paper.CONTRAST_LABELS.items():
        pair = routing["contrasts"][name]
        if pair:
            body.append((f"JS: {label}", *(number(v, 4) for v in pair["js"])))
            if "js_answer" in pair:
                body.append(("the same at ANS alone", *(number(v, 4) for v in pair["js_answer"])))
            body.append((f"top-k overlap: {label}", *(number(v) for v in pair["overlap"])))
    return table(("", *(f"layer {i}" for i in range(layers))), body)
