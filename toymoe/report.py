"""The report of a run: one self-contained HTML page, and the short summary printed at its end."""

import base64
import json
from html import escape

import numpy as np

from . import __version__, captions, paper
from .config import Config, to_dict

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


def summary(metrics: dict, hazard_rule: str = "conjunction") -> list[tuple[str, str, str]]:
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
    for name, label in paper.contrast_labels(hazard_rule).items():
        pair = routing["contrasts"][name]
        ours = number(float(np.mean(pair["js"]))) if pair else "–"
        low, high = paper.CONTRAST_JS.get(name, (None, None))
        theirs = "" if low is None else number(low) if low == high else f"{low:.3f}–{high:.3f}"
        rows.append((f"JS, {label}", ours, theirs))
    rows.append(
        (
            "JS cross-topic ÷ JS intent twins",
            number(routing["js_ratio"], 1),
            number(paper.JS_RATIO, 1),
        )
    )
    rows.append(("  the same at ANS alone", number(routing["js_ratio_answer"], 1), ""))
    return rows


def render(cfg: Config, metrics: dict, images: dict[str, bytes], examples: list[dict]) -> str:
    """The page.

    Args:
      images: PNG bytes by the names of `toymoe.captions`.
      examples: see `toymoe.measure.examples`.
    """
    parts = [
        f"<h1>toymoe: seed {cfg.seed}</h1>",
        "<p>A small mixture-of-experts language model was trained to answer questions whose right "
        "answer depends on the topic, and then to refuse the hazardous ones. Does its routing "
        "follow the topic? Does refusal change the route?</p>",
        table(("", "this run", f"paper ({paper.SOURCE})"), summary(metrics, cfg.world.hazard_rule)),
        "<p>JS: mean Jensen–Shannon divergence of the routing vectors, in nats, averaged over "
        "layers. The paper's figures are as known from secondary notes.</p>",
    ]
    by_topic = cfg.world.hazard_rule == "topic"
    texts = captions.RUN | captions.INSIDE | (captions.TOPIC_RULE if by_topic else {})
    for name in captions.RUN:
        if name in images:
            parts += _captioned(texts[name], images[name])
    parts += _inside(metrics["inside"], images, texts, "context" if by_topic else "verb")
    parts += ["<h2>Behaviour in numbers</h2>", _behaviour(metrics["behaviour"])]
    parts += ["<h2>Routing in numbers</h2>", _routing(metrics["routing"], cfg.world.hazard_rule)]
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


def _captioned(text: captions.Caption, image: bytes) -> list[str]:
    return figure(text.title, image, text.shows, text.control)


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
    for name in captions.INSIDE:
        if name in images:
            parts += _captioned(texts[name], images[name])
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
    body = [(label, *(number(v) for v in values)) for label, values in rows]
    for name, label in paper.contrast_labels(hazard_rule).items():
        pair = routing["contrasts"][name]
        if pair:
            body.append((f"JS: {label}", *(number(v, 4) for v in pair["js"])))
            if "js_answer" in pair:
                body.append(("the same at ANS alone", *(number(v, 4) for v in pair["js_answer"])))
            body.append((f"top-k overlap: {label}", *(number(v) for v in pair["overlap"])))
    return table(("", *(f"layer {i}" for i in range(layers))), body)
