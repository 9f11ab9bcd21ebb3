"""The report of a run: one self-contained HTML page, and the short summary printed at its end."""

import json
from html import escape

import numpy as np

from .. import hazards
from ..config import Config, to_dict
from ..measures import paper
from ..pages import html, tables
from . import localisation_plots, plots

LIMITS = (
    "A small model in a language of some hundred tokens: it shows how "
    "an argument is made and checked, not what large models do. Hazards are arbitrary "
    "combinations of meaningless tokens. One run is one seed: expert numbers, and which layer "
    "specialises most, differ between seeds; <code>toymoe sweep</code> measures how much."
)


def summary(metrics: dict, hazard_rule: str = "conjunction") -> list[tuple[str, str, str]]:
    """Rows of what, ours, and the paper's figure (empty where it has none)."""
    aligned, routing = metrics["behaviour"]["aligned"], metrics["routing"]
    rows = [
        ("answers right (harmless)", tables.number(aligned["answer_accuracy"]), ""),
        ("refusal (hazardous)", tables.number(aligned["refusal"]), ""),
        ("refusal of hazards never rehearsed", tables.number(aligned["refusal_held_out"]), ""),
        ("over-refusal, all harmless", tables.number(aligned["over_refusal"]), ""),
        (
            "before alignment: hazards answered",
            tables.number(metrics["behaviour"]["pretrained"]["hazard_answered"]),
            "",
        ),
        ("NMI(topic; expert), by layer", tables.number(routing["nmi_topic"]["context"]), ""),
        ("  control: topics shuffled", tables.number(routing["nmi_topic_shuffled"]), ""),
        ("  control: untrained router", tables.number(routing["nmi_topic_untrained"]), ""),
    ]
    for name, label in paper.contrast_labels(hazard_rule).items():
        pair = routing["contrasts"][name]
        ours = tables.number(float(np.mean(pair["js"]))) if pair else "–"
        low, high = paper.CONTRAST_JS.get(name, (None, None))
        theirs = (
            "" if low is None else tables.number(low) if low == high else f"{low:.3f}–{high:.3f}"
        )
        rows.append((f"JS, {label}", ours, theirs))
    rows.append(
        (
            "JS cross-topic ÷ JS intent twins",
            tables.number(routing["js_ratio"], 1),
            tables.number(paper.JS_RATIO, 1),
        )
    )
    rows.append(("  the same at ANS alone", tables.number(routing["js_ratio_answer"], 1), ""))
    return rows


def render(cfg: Config, metrics: dict, images: dict[str, bytes], examples: list[dict]) -> str:
    """The page.

    Args:
      images: PNG bytes of the figures there are, by name.
      examples: see `toymoe.measures.examples.examples_of`.
    """
    versions = ", ".join(f"{name} {number}" for name, number in metrics["versions"].items())
    parts = [
        f"<h1>toymoe: seed {cfg.seed}</h1>",
        "<p>A small mixture-of-experts language model was trained to answer questions whose right "
        "answer depends on the topic, and then to refuse the hazardous ones. Does its routing "
        "follow the topic? Does refusal change the route?</p>",
        html.table(
            ("", "this run", f"paper ({paper.SOURCE})"), summary(metrics, cfg.world.hazard_rule)
        ),
        "<p>JS: mean Jensen–Shannon divergence of the routing vectors, in nats, averaged over "
        "layers. The paper's figures are as known from secondary notes.</p>",
    ]
    parts += _pictured(plots.FIGURES, images, cfg.world.hazard_rule)
    parts += _inside(metrics["inside"], images, cfg.world.hazard_rule)
    parts += ["<h2>Behaviour in numbers</h2>", _behaviour(metrics["behaviour"])]
    parts += ["<h2>Routing in numbers</h2>", _routing(metrics["routing"], cfg.world.hazard_rule)]
    if examples:
        columns = [name for name in examples[0] if name not in ("kind", "prompt")]
        rows = [
            (e["kind"], html.Markup(f"<pre>{escape(e['prompt'])}</pre>"), *(e[c] for c in columns))
            for e in examples
        ]
        parts += ["<h2>Some prompts, and what was said</h2>"]
        parts += [html.table(("kind", "prompt", *columns), rows)]
    parts += [
        "<h2>What this does not show</h2>",
        f"<p>{LIMITS}</p>",
        "<h2>Settings</h2>",
        f"<p>{escape(versions)}; {metrics['parameters']:,} parameters. "
        "docs/metrics.md defines every number; metrics.json beside this page holds them all.</p>",
        f"<details><summary>config.json</summary><pre>"
        f"{escape(json.dumps(to_dict(cfg), indent=1))}</pre></details>",
    ]
    return html.page(f"toymoe, seed {cfg.seed}", parts)


def _pictured(figures: dict, images: dict[str, bytes], hazard_rule: str) -> list[str]:
    parts = []
    for name, figure in figures.items():
        if name in images:
            said = figure.under(hazard_rule)
            parts += html.figure(said.title, images[name], said.shows, said.control)
    return parts


def _behaviour(behaviour: dict) -> str:
    names = [name for name in behaviour["aligned"] if name != "over_refusal_by_kind"]
    rows = [
        (n.replace("_", " "), *(tables.number(b[n]) for b in behaviour.values())) for n in names
    ]
    for kind in behaviour["aligned"]["over_refusal_by_kind"]:
        values = (tables.number(b["over_refusal_by_kind"][kind]) for b in behaviour.values())
        rows.append((f"over-refusal: {kind.replace('_', ' ')}", *values))
    return html.table(("share of requests", *behaviour), rows)


def _inside(inside: dict, images: dict[str, bytes], hazard_rule: str) -> list[str]:
    """The section "Where refusal lives"."""
    changed = hazards.RULES[hazard_rule].swaps
    parts = [
        "<h2>Where refusal lives</h2>",
        f"<p>Measured on {inside['pairs']} hazardous requests and their harmless twins, which "
        f"differ in the {changed} alone.</p>",
        *_pictured(localisation_plots.FIGURES, images, hazard_rule),
    ]
    rows = [
        (name, *(tables.number(way[key], 2) for way in swap.values() for key in way))
        for name, swap in inside["swaps"].items()
    ]
    way = ("refused", "twins right", "hazards answered", "margin, nats")
    head = ("part", *(f"without: {name}" for name in way), *(f"alone: {name}" for name in way))
    parts += ["<h2>Weight swaps in numbers</h2>", html.table(head, rows)]
    top = inside["ablation"]["top"]
    rows = [
        ("refusal margin lost, nats", tables.number(top["margin"], 2)),
        ("… with later routes frozen", tables.number(top["margin_frozen"], 2)),
        ("control: a random expert", tables.number(top["margin_random"], 2)),
        ("control: experts used about as much", tables.number(top["margin_usage_matched"], 2)),
        ("control: labels shuffled", tables.number(top["margin_shuffled"], 2)),
        ("share of hazards no longer refused", tables.number(top["refusal"])),
        ("share of right answers lost", tables.number(top["accuracy"])),
    ]
    title = f"layer {top['layer']}, expert {top['expert']}"
    return [
        *parts,
        "<h2>The expert that matters most</h2>",
        html.table(("without it", title), rows),
    ]


def _routing(routing: dict, hazard_rule: str) -> str:
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
    body = [(label, *(tables.number(v) for v in values)) for label, values in rows]
    for name, label in paper.contrast_labels(hazard_rule).items():
        pair = routing["contrasts"][name]
        if pair:
            body.append((f"JS: {label}", *(tables.number(v, 4) for v in pair["js"])))
            if "js_answer" in pair:
                body.append(
                    ("the same at ANS alone", *(tables.number(v, 4) for v in pair["js_answer"]))
                )
            body.append((f"top-k overlap: {label}", *(tables.number(v) for v in pair["overlap"])))
    return html.table(("", *(f"layer {i}" for i in range(layers))), body)
