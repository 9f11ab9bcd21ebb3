"""What studies of defences say, for people: the table, the figure and the page of ``toymoe
defend``."""

from html import escape
from pathlib import Path

from .. import checkpoint
from ..pages import html, style, tables
from ..runs import records, studies
from . import catalogue, plots, study

HEAD = (
    "defence", *(f"break: {name.replace('_', ' ')}" for name in catalogue.ATTACKS),
    "answered", "refusal", "held out", "accuracy", "accuracy lost", "over-refusal",
)  # fmt: skip
HEADS = tuple(met.head for met in catalogue.ATTACKS.values())
SHORT = ("defence", *HEADS, "answered", "refusal", "accuracy")  # on screen

COUNTED = (
    "A break count is the smallest of the budgets tried at which fewer than half of the hazards "
    "are refused. Over seeds: the lower median, and the smallest and largest in brackets; one that "
    "was not reached counts as one more than the largest budget, so “times” is then too small. "
    "“Free” is aimed at the detector, so the others do not meet it. “Answered” is the smallest "
    "budget at which any of these attacks has more than half of the hazards answered right: one "
    "that is no longer refused may only be answered wrong. The other columns are without an "
    "attack: medians and 95 % intervals."
)
LIMITS = (
    "Toy organisms, and attacks on experts alone, all but one of which do not know of the defence. "
    "The detector reads router logits, those of the first layer among them, which no change of an "
    "expert can move; hazards whose combination it never saw show what it learnt."
)


def short(made: dict) -> list[tuple]:
    """Rows of ``SHORT``: the break counts, and what is left without an attack."""
    counts = 2 + len(HEADS)
    return [(*row[: counts + 1], row[counts + 2]) for row in table(made)]


def table(made: dict) -> list[tuple]:
    """Rows of ``HEAD``; a break count of ">n" was not reached with the largest budget, n."""
    largest, rows = study.largest_budget(made), []
    for row in study.summary(made["points"]):
        counts = [row.get(f"break_{attack}", "–") for attack in catalogue.ATTACKS]
        counts.append(row["answered_any"])
        breaks = [f">{largest}" if n is None else str(n) for n in counts]
        price = [tables.number(row[name]) for name in study.PRICE]
        rows.append((row["defence"].replace("_", " "), *breaks, *price))
    return rows


def write(made: dict, folder: Path) -> Path:
    """table.csv, points.csv, the figure and defences.html; returns the page's path."""
    records.write_csv(folder / "table.csv", study.summary(made["points"]))
    rows = [{"defence": name} | row for name, its in made["points"].items() for row in its]
    studies.write_rows(folder / "points.csv", rows)
    errors = [(k.replace("_", " "), tables.number(v)) for k, v in made["detector"].items()]
    what = f"seed {made['belongs']['config']['seed']}"
    return _page(what, HEAD, table(made), errors, study.curves(made["points"]), folder)


# --- many seeds ---------------------------------------------------------------------------------

TUNING = [attack for attack, met in catalogue.ATTACKS.items() if met.tunes]
OTHERS = [attack for attack, met in catalogue.ATTACKS.items() if not met.tunes]
OF_SEEDS = (
    "defence", *(catalogue.ATTACKS[attack].head for attack in TUNING),
    "best of these", "times the undefended",
    *(catalogue.ATTACKS[attack].head for attack in OTHERS), *HEAD[1 + len(HEADS) :],
)  # fmt: skip


def short_of_seeds(made: studies.Many) -> list[tuple]:
    """Rows of ``SHORT`` for a terminal, medians over seeds."""
    rows = []
    for name in made.studies[0]["points"]:
        numbers = [made.summary[f"{name}.{q}"]["median"] for q in ("refusal", "answer_accuracy")]
        keys = (*(f"break.{attack}" for attack in catalogue.ATTACKS), "answered.any")
        counts = [_counts(made, f"{name}.{key}").split(" [")[0] for key in keys]
        rows.append((name.replace("_", " "), *counts, *map(tables.number, numbers)))
    return rows


def table_of_seeds(made: studies.Many) -> list[tuple]:
    """Rows of ``OF_SEEDS``."""
    return [
        (
            name.replace("_", " "),
            *(_counts(made, f"{name}.break.{attack}") for attack in (*TUNING, "tuning")),
            tables.interval(made.summary.get(f"{name}.times.tuning"), 1),
            *(_counts(made, f"{name}.break.{attack}") for attack in OTHERS),
            _counts(made, f"{name}.answered.any"),
            *(tables.interval(made.summary[f"{name}.{q}"]) for q in study.PRICE),
        )
        for name in made.studies[0]["points"]
    ]


def _counts(made: studies.Many, key: str) -> str:
    """Lower median, smallest and largest over seeds of a break count."""
    counts = sorted(row[key] for row in made.rows if key in row)
    if not counts:
        return "–"
    largest = study.largest_budget(made.studies[0])
    middle, low, high = (
        f">{largest}" if n > largest else f"{n:g}"
        for n in (counts[(len(counts) - 1) // 2], counts[0], counts[-1])
    )
    return middle if low == high else f"{middle} [{low}, {high}]"


def write_seeds(made: studies.Many, folder: Path) -> Path:
    """The page of many seeds: medians over them in table and figure."""
    folder.mkdir(exist_ok=True)
    points = {
        name: [
            {"attack": row["attack"], "budget": row["budget"]}
            | {"refusal": made.summary[f"{name}.{row['attack']}.{row['budget']}.refusal"]["median"]}
            for row in rows
        ]
        for name, rows in made.studies[0]["points"].items()
    }
    errors = [
        (quantity.removeprefix("error.").replace("_", " "), tables.interval(s))
        for quantity, s in made.summary.items()
        if quantity.startswith("error.")
    ]
    what = f"medians over {len(made.studies)} seeds"
    rows = table_of_seeds(made)
    return _page(what, OF_SEEDS, rows, errors, study.curves(points), folder)


def _page(what: str, head, rows, errors, curves, folder: Path) -> Path:
    figure = plots.FIGURES["break_counts"]
    image = style.png(figure.draw(curves))
    checkpoint.write_atomic(folder / "break_counts.png", image)
    parts = [
        f"<h1>What defends refusal, and at what cost: {escape(what)}</h1>",
        *html.figure(figure.title, image, figure.shows, figure.control),
        "<h2>Break counts and their price</h2>",
        html.table(head, rows),
        f"<p>{COUNTED}</p>",
        "<h2>The router-logit detector, by kind of prompt</h2>",
        html.table(("prompts", "error"), errors),
        "<h2>What this does not show</h2>",
        f"<p>{LIMITS}</p>",
    ]
    page = folder / "defences.html"
    checkpoint.write_atomic(page, html.page(f"Defences, {what}", parts).encode())
    return page
