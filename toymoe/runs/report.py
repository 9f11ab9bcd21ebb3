"""The report of a run: one self-contained HTML page, and the short summary printed at its end."""

import json
from functools import partial
from html import escape

import numpy as np

from .. import hazards
from ..config import Config, to_dict
from ..measures import paper
from ..pages import html, tables
from . import findings, localisation_plots, plots
from .results import Run

LIMITS = (
    "A small model in a language of some hundred tokens: it shows how "
    "an argument is made and checked, not what large models do. Hazards are arbitrary "
    "combinations of meaningless tokens. One run is one seed: expert numbers, and which layer "
    "specialises most, differ between seeds; <code>toymoe sweep</code> measures how much."
)


# Words of the page, each with its meaning; ``{swapped}`` is what twins swap.
TERMS = {
    "topic": "what a prompt's context words are about; the right answer depends on it",
    "expert": "one of the small networks of a layer, of which each token is sent to a few",
    "router, route": "what chooses the experts of a token, and what it chose",
    "hazard": "a request that the model is taught to refuse",
    "alignment": "the second part of training, in which it is taught to",
    "harmless twin": "the same request with another {swapped}, so that it is no hazard any more",
    "ANS": "the last position of a request, at which the answer begins",
    "set back": "given the weights it had before alignment",
    "silenced": "made to add nothing, while the route stays as it was",
    "NMI": "how much an expert says about the topic: 0 nothing, 1 all",
    ".93": "a share: 93 of a hundred",
}

MISLEADS = (
    "JS cross-topic ÷ JS intent twins, two figures of the paper, is largest in an untrained model: "
    "a random router sends equal words to equal experts, and intent twins share nearly all of "
    "their words. It says nothing about learning; the others do."
)

# Beside the report and not in it, so that the report stays small enough to mail.
EXPLORER = (
    '<p>This very model, to ask and to take apart: <a href="explorer.html">explorer.html</a> '
    "beside this page. Where it is missing, <code>toymoe explore DIR</code> writes it.</p>"
)

RATIOS = {
    "cross_by_same_topic": "JS cross-topic ÷ JS same topic",
    "intent_by_neutral_at_answer": "JS intent twins ÷ JS neutral twins, at ANS",
    "intent_by_harmless_at_answer": "… ÷ the same words, harmless topic; top layer",
    "cross_topic_by_intent": "JS cross-topic ÷ JS intent twins (misleads, see below)",
}


def summary(metrics: dict) -> list[tuple[str, str, str]]:
    """Rows of what, this run's number, and what it is held against."""
    aligned, routing, inside = (
        metrics["behaviour"]["aligned"],
        metrics["routing"],
        metrics["inside"],
    )
    over = [rate for rate in aligned["over_refusal_by_kind"].values() if rate is not None]
    nmi, untrained, shuffled = (
        tables.number(max(values))
        for values in (
            routing["nmi_topic"]["context"],
            routing["nmi_topic_untrained"],
            routing["nmi_topic_shuffled"],
        )
    )
    moved = [
        (RATIOS[name], _ratio(found["aligned"]), f"{word} {_ratio(found[which])}")
        for name, which, word in (
            ("cross_by_same_topic", "untrained", "untrained"),
            ("intent_by_neutral_at_answer", "pretrained", "before alignment"),
            ("intent_by_harmless_at_answer", "pretrained", "before alignment"),
        )
        for found in [routing["ratios"][name]]
    ]
    change = {name: tables.number(c["relative"], 2) for name, c in metrics["weights"].items()}
    hazards_on, twins_on = inside["route"]["hazards"], inside["route"]["twins"]
    chance = routing["top_k"] / routing["experts"]
    kept = tables.number(routing["overlap_pretrained_aligned_mean"])
    return [
        ("harmless requests answered right", tables.number(aligned["answer_accuracy"]), ""),
        ("hazards refused", tables.number(aligned["refusal"]), ""),
        ("  never shown in alignment", tables.number(aligned["refusal_held_out"]), ""),
        (
            "harmless requests refused",
            tables.number(aligned["over_refusal"]),
            f"worst kind {tables.number(max(over, default=None))}",
        ),
        ("hazards known, as notes", tables.number(aligned["hazard_noted"]), ""),
        ("NMI(topic; expert), best layer", nmi, f"untrained {untrained}, shuffled {shuffled}"),
        *moved,
        ("routes that alignment kept", kept, f"by chance {tables.number(chance)}"),
        ("weight change, whole model", change["all"], "of their size"),
        ("  experts", change["experts"], f"attention {change['attention']}"),
        *_taken_out(inside["removal"]),
        (
            "hazards refused on their twins' route",
            tables.number(hazards_on["refused"]),
            f"on their own {tables.number(hazards_on['own']['refused'])}",
        ),
        (
            "twins refused on the hazards' route",
            tables.number(twins_on["refused"]),
            f"on their own {tables.number(twins_on['own']['refused'])}",
        ),
    ]


def _taken_out(removal):
    """Rows of what is left without a few experts."""
    counts, back = removal["counts"], removal["set_back"]
    silenced, masked = removal["silenced"], removal["masked"]
    at = counts.index(min(2, counts[-1]))
    half, random = (
        "never" if m is None else f"{m:g}" for m in (back["m50"], back["random"]["m50"])
    )
    beside = {
        name: tables.number(masked[name][at]) if at < len(masked[name]) else "–"
        for name in ("refusal", "twins")
    }
    return [
        (f"experts set back, of {counts[-1]}, to halve refusal", half, f"random ones {random}"),
        (
            f"refusal without {counts[at]} experts, silenced",
            tables.number(silenced["refusal"][at]),
            f"masked in the router {beside['refusal']}",
        ),
        (
            "  twins still answered",
            tables.number(silenced["twins"][at]),
            f"masked in the router {beside['twins']}",
        ),
    ]


def render(
    cfg: Config,
    metrics: dict,
    curves: dict[str, np.ndarray],
    images: dict[str, bytes],
    examples: list[dict],
) -> str:
    """The page.

    Args:
      curves: the history of the run, as `toymoe.measures.history.curves` makes it.
      images: PNG bytes of the figures there are, by name.
      examples: see `toymoe.measures.examples.examples_of`.
    """
    run, rule = Run(cfg, metrics, curves), cfg.world.hazard_rule
    pictured = partial(_pictured, run, images)
    swapped = hazards.RULES[rule].swaps
    versions = ", ".join(f"{name} {number}" for name, number in metrics["versions"].items())
    first = {"film_strip": plots.FIGURES, "localisation": localisation_plots.FIGURES}
    parts = [
        f"<h1>toymoe: seed {cfg.seed}</h1>",
        html.bullets(findings.first_screen(run)),
        EXPLORER,
        html.terms({word: said.format(swapped=swapped) for word, said in TERMS.items()}),
        *(x for name, figures in first.items() for x in pictured({name: figures[name]})),
        *pictured({n: f for n, f in plots.FIGURES.items() if n not in first}),
        "<h2>Where refusal lives</h2>",
        f"<p>Measured on {metrics['inside']['pairs']} hazards and their harmless twins, which "
        f"differ in the {swapped} alone.</p>",
        *pictured({n: f for n, f in localisation_plots.FIGURES.items() if n not in first}),
        *_inside(metrics["inside"]),
        "<h2>The run in numbers</h2>",
        html.table(("", "this run", "beside it"), summary(metrics)),
        "<h2>Behaviour in numbers</h2>",
        _behaviour(metrics["behaviour"]),
        *_weights(metrics["weights"]),
        *_compared(metrics["routing"], rule),
        "<h2>Routing in numbers, by layer</h2>",
        _routing(metrics["routing"], rule),
    ]
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


def _pictured(run: Run, images: dict[str, bytes], figures: dict) -> list[str]:
    parts = []
    for name, figure in figures.items():
        if name in images:
            said, found = figure.under(run.cfg.world.hazard_rule), findings.FINDINGS[name](run)
            parts += html.figure(said.title, images[name], said.shows, said.control, found)
    return parts


def _weights(weights: dict) -> list[str]:
    rows = [(name, *(tables.number(x) for x in part.values())) for name, part in weights.items()]
    head = ("part", "change, of its size", "cosine of before and after")
    return ["<h2>What alignment changed of the weights</h2>", html.table(head, rows)]


def _compared(routing: dict, hazard_rule: str) -> list[str]:
    """Contrasts and their ratios: three models and the paper."""
    models = ("untrained", "pretrained", "aligned")
    head = ("averaged over layers", "untrained", "before alignment", "after alignment")
    ratios = [
        (label, *(_ratio(routing["ratios"][name][which]) for which in models))
        for name, label in RATIOS.items()
    ]
    ratios[-1] += (tables.number(paper.JS_RATIO, 1),)
    rows = []
    for name, label in paper.contrast_labels(hazard_rule).items():
        if routing["contrasts"]["aligned"][name]:
            js = (np.mean(routing["contrasts"][which][name]["js"]) for which in models)
            low, high = paper.CONTRAST_JS.get(name, (None, None))
            theirs = (
                ""
                if low is None
                else tables.number(low)
                if low == high
                else f"{low:.3f}–{high:.3f}"
            )
            rows.append((label, *(tables.number(float(x)) for x in js), theirs))
    published = f"paper ({paper.SOURCE})"
    return [
        "<h2>What moves the route, in numbers</h2>",
        html.table((*head, published), ratios),
        f"<p>{MISLEADS}</p>",
        html.table(("JS in nats, " + head[0], *head[1:], published), rows),
        "<p>JS: mean Jensen–Shannon divergence of the routing vectors. The paper's figures are as "
        "known from secondary notes.</p>",
    ]


def _ratio(value) -> str:
    """Of layers, the largest."""
    if isinstance(value, list):
        value = max((x for x in value if x is not None), default=None)
    return tables.number(value, 1)


def _behaviour(behaviour: dict) -> str:
    names = [name for name in behaviour["aligned"] if name != "over_refusal_by_kind"]
    rows = [
        (n.replace("_", " "), *(tables.number(b[n]) for b in behaviour.values())) for n in names
    ]
    for kind in behaviour["aligned"]["over_refusal_by_kind"]:
        values = (tables.number(b["over_refusal_by_kind"][kind]) for b in behaviour.values())
        rows.append((f"over-refusal: {kind.replace('_', ' ')}", *values))
    return html.table(("share of requests", *behaviour), rows)


def _inside(inside: dict) -> list[str]:
    """Tables of where refusal lives."""
    rows = [
        (name, *(tables.number(way[key], 2) for way in swap.values() for key in way))
        for name, swap in inside["swaps"].items()
    ]
    way = ("refused", "twins right", "hazards answered", "margin, nats")
    head = ("part", *(f"without: {name}" for name in way), *(f"alone: {name}" for name in way))
    parts = ["<h2>Weight swaps in numbers</h2>", html.table(head, rows)]
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
        ("control: untrained router", routing["topic_given_token_untrained"]),
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
        pair = routing["contrasts"]["aligned"][name]
        if pair:
            body.append((f"JS: {label}", *(tables.number(v, 4) for v in pair["js"])))
            body.append((f"top-k overlap: {label}", *(tables.number(v) for v in pair["overlap"])))
            if "fork" in pair:
                js, gap = pair["js_answer"], pair["fork"]
                body.append(("  JS at ANS alone", *(tables.number(v, 4) for v in js)))
                body.append(("  largest gap at ANS", *(tables.number(v) for v in gap)))
    return html.table(("", *(f"layer {i}" for i in range(layers))), body)
