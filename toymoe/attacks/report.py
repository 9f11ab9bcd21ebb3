"""What a study says, for people: the table, the figures and the page of ``toymoe raset``."""

from html import escape
from pathlib import Path

import numpy as np

from .. import checkpoint
from ..attribution import CRITERION
from ..config import from_dict
from ..pages import html, style, tables
from ..runs import studies
from . import catalogue, plots, study

HEAD = (
    "attack", "experts", "parameters", "refusal", "held out", "answered", "untuned", "accuracy",
    "Jaccard", "JS (nats)",
)  # fmt: skip

SHORT = ("attack", "experts", "share", "refusal", "answered", "accuracy", "Jaccard")
IN_SHORT = ("refusal", "hazard_answered", "answer_accuracy", "jaccard_worst")

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


def short(made: dict) -> list[tuple]:
    """Rows of ``SHORT`` for a terminal; Jaccard is of the layer where it is lowest."""
    return [
        (
            row["method"].replace("_", " "), row["budget"] or "", f"{row['share']:.1%}",
            *(f"{row[name]:.3f}" for name in IN_SHORT),
        )
        for row in made["rows"]
    ]  # fmt: skip


def short_of_seeds(made: studies.Many) -> list[tuple]:
    """Rows of ``SHORT`` for a terminal, medians over seeds."""
    return [
        (*head, *(f"{made.summary[f'{key}.{name}']['median']:.3f}" for name in IN_SHORT))
        for key, head in _attacks(made)
    ]


def table_of_seeds(made: studies.Many) -> list[tuple]:
    """Rows of ``HEAD``: medians over seeds with their 95 % intervals."""
    rows = []
    for key, head in _attacks(made):
        cells = [
            tables.interval(made.summary.get(f"{key}.{name}"))
            for name in (
                "refusal", "refusal_held_out", "hazard_answered", "hazard_answered_untuned",
                "answer_accuracy", "jaccard_worst",
            )
        ]  # fmt: skip
        layers = [s["median"] for q, s in made.summary.items() if q.startswith(f"{key}.js.")]
        rows.append((*head, *cells, tables.number(layers)))
    return rows


def _attacks(made):
    """Of each attack ``method.budget``, which begins its quantities' names, and its first cells."""
    for row in made.studies[0]["rows"]:
        key = f"{row['method']}.{row['budget']}"
        share = made.summary[f"{key}.share"]["median"]
        yield key, (row["method"].replace("_", " "), row["budget"] or "", f"{share:.2%}")


def write(made: dict, folder: Path) -> Path:
    """table.csv, figures and raset.html of a study into a folder, and a section into the report of
    the run beside it; returns the page's path."""
    studies.write_rows(folder / "table.csv", made["rows"])
    numbers = {"correlations": study.rank_correlations(made["criteria"]), "routes": made["routes"]}
    if agreement := study.removed_alone(made):
        shape = np.shape(made["criteria"][CRITERION])
        numbers |= {"alone": np.reshape(made["alone"], shape), "agreement": agreement}
    images = _images(numbers | _of_attacks(made, made["rows"]), folder / "figures")
    page = _page(f"seed {made['belongs']['config']['seed']}", table(made["rows"]), images, folder)
    into_report(made, images["pareto"], folder.parent / "report.html")
    return page


def _of_attacks(made: dict, rows: list[dict]) -> dict:
    """What figures are drawn from, beside what differs between one study and many."""
    families = catalogue.families(from_dict(made["belongs"]["config"]))
    topics = made["belongs"]["topics"]
    return {"rows": rows, "families": families, "topics": topics, "tuned_by": CRITERION}


def _images(numbers: dict, folder: Path) -> dict[str, bytes]:
    """Every figure that can be drawn from these numbers, also as a file."""
    folder.mkdir(exist_ok=True)
    images = {}
    for name, figure in plots.FIGURES.items():
        if numbers.keys() >= {*figure.drawn_from}:
            images[name] = style.png(figure.draw(*(numbers[n] for n in figure.drawn_from)))
            checkpoint.write_atomic(folder / f"{name}.png", images[name])
    return images


def into_report(made: dict, image: bytes, page: Path) -> None:
    """The short version, with the image of the Pareto figure, as a section of the run's own
    report.html; replaced if it is there."""
    if not page.is_file():
        return
    figure = plots.FIGURES["pareto"]
    main = max(row["budget"] for row in made["rows"] if row["method"] == "raset")
    few = [row for row in made["rows"] if row["budget"] in (0, main)]
    section = [
        *html.figure(figure.title, image, figure.shows, figure.control),
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


def write_seeds(made: studies.Many, folder: Path) -> Path:
    """The page of many seeds: medians over them in table and figures."""
    folder.mkdir(exist_ok=True)
    correlations = {
        name.removeprefix("criteria."): {"rho": s["median"], "low": s["low"], "high": s["high"]}
        for name, s in made.summary.items()
        if name.startswith("criteria.")
    }
    rows = [
        {"method": (method := row["method"]), "budget": (n := row["budget"])}
        | {name: made.summary[f"{method}.{n}.{name}"]["median"] for name in IN_SHORT}
        for row in made.studies[0]["rows"]
    ]
    numbers = {"correlations": correlations} | _of_attacks(made.studies[0], rows)
    what = f"medians over {len(made.studies)} seeds"
    return _page(what, table_of_seeds(made), _images(numbers, folder), folder)


def _page(what: str, rows: list[tuple], images: dict[str, bytes], folder: Path) -> Path:
    """raset.html: figures with what they show, the table, the limits."""
    parts = [
        f"<h1>RASET at toy scale: {escape(what)}</h1>",
        "<p>Attacks on the refusal of one aligned model, all measured on the same prompts: is "
        "refusal gone, is the right answer there instead, are harmless requests still answered, "
        "are the routes still the aligned model’s?</p>",
    ]
    for name, image in images.items():
        figure = plots.FIGURES[name]
        parts += html.figure(figure.title, image, figure.shows, figure.control)
    parts += [
        "<h2>Every attack</h2>",
        html.table(HEAD, rows),
        "<p>Shares of requests; Jaccard and JS compare the routes with those of the untouched "
        "model (by layer; over many seeds Jaccard is the worst layer’s).</p>",
        "<h2>What this does not show</h2>",
        f"<p>{LIMITS}</p>",
    ]
    page = folder / "raset.html"
    checkpoint.write_atomic(page, html.page(f"RASET, {what}", parts).encode())
    return page
