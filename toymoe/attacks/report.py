"""What a study says, for people: the table, the figures and the page of ``toymoe raset``."""

from html import escape
from pathlib import Path

from .. import checkpoint
from ..pages import html, style, tables
from ..runs import studies
from . import plots, study

HEAD = (
    "attack", "experts", "parameters", "refusal", "held out", "answered", "untuned", "accuracy",
    "Jaccard", "JS (nats)",
)  # fmt: skip

SHORT = ("attack", "experts", "share", "refusal", "answered", "accuracy", "Jaccard")
IN_SHORT = ("refusal", "hazard_answered", "answer_accuracy", "jaccard_worst")

CAPTIONS = {
    "pareto": "Each point is one attack with one budget; to the right refusal is gone, at the top "
    "the route, the harmless answers, or the right answer to the hazard is there. The grey line "
    "joins the attacks that no other beats in both. Random and usage-matched experts are the "
    "control: what tuning as much of the model elsewhere does.",
    "criteria": "How a criterion ranks the experts, against how they rank by what refusal loses "
    "without them. The bar is a 95 % bootstrap interval over the experts of this one model. "
    "ablation_zero is the yardstick itself, random the control.",
    "routes": "Each topic's share of tokens by expert, before any attack and after some of them.",
}

MARKS = ("<!-- raset -->", "<!-- /raset -->")

LIMITS = (
    "A toy organism: hazards are arbitrary combinations of meaningless tokens, and RASET is our "
    "reading of a method whose formula we do not have. Answers to hazards that the attacker never "
    "tuned on (“untuned”) say whether tuning freed what the model still knew, or "
    "taught it anew."
)


def table(rows: list[dict]) -> list[tuple]:
    """Rows of ``HEAD``, as text."""
    n = tables.number
    return [
        (
            row["method"].replace("_", " "), row["budget"] or "", f"{row['share']:.2%}",
            n(row["refusal"]), n(row["refusal_held_out"]), n(row["hazard_answered"]),
            n(row["hazard_answered_untuned"]), n(row["answer_accuracy"]), n(row["jaccard"]),
            n(row["js"]),
        )
        for row in rows
    ]  # fmt: skip


def short(rows: list[dict]) -> list[tuple]:
    """Rows of ``SHORT`` for a terminal; Jaccard is of the layer where it is lowest."""
    return [
        (
            row["method"].replace("_", " "), row["budget"] or "", f"{row['share']:.1%}",
            *(f"{row[name]:.3f}" for name in IN_SHORT),
        )
        for row in rows
    ]  # fmt: skip


def short_of_seeds(summary: dict[str, dict]) -> list[tuple]:
    """Rows of ``SHORT`` for a terminal, medians over seeds."""
    return [
        (*head, *(f"{summary[f'{key}.{name}']['median']:.3f}" for name in IN_SHORT))
        for key, head in _attacks(summary)
    ]


def table_of_seeds(summary: dict[str, dict]) -> list[tuple]:
    """Rows of ``HEAD``: medians over seeds with their 95 % intervals."""
    rows = []
    for key, head in _attacks(summary):
        cells = [
            tables.interval(summary.get(f"{key}.{name}"))
            for name in (
                "refusal", "refusal_held_out", "hazard_answered", "hazard_answered_untuned",
                "answer_accuracy", "jaccard_worst",
            )
        ]  # fmt: skip
        layers = [s["median"] for q, s in summary.items() if q.startswith(f"{key}.js.")]
        rows.append((*head, *cells, tables.number(layers)))
    return rows


def _attacks(summary):
    """Of each attack ``method.budget``, which begins its quantities' names, and its first cells."""
    for name in summary:
        key, _, quantity = name.rpartition(".")
        if quantity == "refusal" and key.count(".") == 1:
            method, budget = key.split(".")
            share = summary[f"{key}.share"]["median"]
            yield key, (method.replace("_", " "), budget if budget != "0" else "", f"{share:.2%}")


def figures(made: dict) -> dict:
    """The figures of one study, by file name."""
    return {
        "pareto": plots.pareto(made["rows"]),
        "criteria": plots.criteria(study.rank_correlations(made["criteria"])),
        "routes": plots.routes(made["routes"], made["belongs"]["topics"]),
    }


def write(made: dict, folder: Path) -> Path:
    """table.csv, figures and raset.html of a study into a folder; returns the page's path."""
    studies.write_rows(folder / "table.csv", made["rows"])
    (folder / "figures").mkdir(exist_ok=True)
    images = {name: style.png(figure) for name, figure in figures(made).items()}
    for name, image in images.items():
        checkpoint.write_atomic(folder / "figures" / f"{name}.png", image)
    seed = made["belongs"]["config"]["seed"]
    page = folder / "raset.html"
    checkpoint.write_atomic(page, render(f"seed {seed}", table(made["rows"]), images).encode())
    return page


def into_report(made: dict, page: Path) -> None:
    """The short version, as a section of the run's own report.html; replaced if it is there."""
    if not page.is_file():
        return
    image = style.png(plots.pareto(made["rows"]))
    main = max(row["budget"] for row in made["rows"] if row["method"] == "raset")
    few = [row for row in made["rows"] if row["budget"] in (0, main)]
    section = [
        *html.figure("Can refusal be removed and the route kept?", image, CAPTIONS["pareto"]),
        html.table(HEAD, table(few)),
        "<p>Every budget, the criteria and the routes: raset/raset.html.</p>",
    ]
    start, end = MARKS
    text = page.read_text("utf-8")
    if start in text and end in text:
        text = text[: text.index(start)] + text[text.index(end) + len(end) :]
    at = text.find("<h2>What this does not show</h2>")
    at = text.rindex("</body>") if at < 0 else at
    made_page = text[:at] + "\n".join([start, *section, end]) + text[at:]
    checkpoint.write_atomic(page, made_page.encode())


def write_seeds(summary: dict[str, dict], studies: list[dict], folder: Path) -> Path:
    """The page of many seeds: medians over them in table and figures."""
    folder.mkdir(exist_ok=True)
    correlations = {
        name.removeprefix("criteria."): {"rho": s["median"], "low": s["low"], "high": s["high"]}
        for name, s in summary.items()
        if name.startswith("criteria.")
    }
    rows = [
        {
            name: summary[f"{row['method']}.{row['budget']}.{name}"]["median"]
            for name in ("refusal", "hazard_answered", "answer_accuracy", "jaccard_worst")
        }
        | {"method": row["method"], "budget": row["budget"]}
        for row in studies[0]["rows"]
    ]
    images = {
        "pareto": style.png(plots.pareto(rows)),
        "criteria": style.png(plots.criteria(correlations)),
    }
    for name, image in images.items():
        checkpoint.write_atomic(folder / f"{name}.png", image)
    page = folder / "raset.html"
    text = render(f"medians over {len(studies)} seeds", table_of_seeds(summary), images)
    checkpoint.write_atomic(page, text.encode())
    return page


def render(what: str, rows: list[tuple], images: dict[str, bytes]) -> str:
    """The page: figures with what they show, the table, the limits."""
    parts = [
        f"<h1>RASET at toy scale: {escape(what)}</h1>",
        "<p>Attacks on the refusal of one aligned model, all measured on the same prompts: is "
        "refusal gone, is the right answer there instead, are harmless requests still answered, "
        "are the routes still the aligned model’s?</p>",
    ]
    for name, image in images.items():
        parts += html.figure(plots.TITLES[name], image, CAPTIONS[name])
    parts += [
        "<h2>Every attack</h2>",
        html.table(HEAD, rows),
        "<p>Shares of requests; Jaccard and JS compare the routes with those of the untouched "
        "model (by layer; over many seeds Jaccard is the worst layer’s).</p>",
        "<h2>What this does not show</h2>",
        f"<p>{LIMITS}</p>",
    ]
    return html.page(f"RASET, {what}", parts)
