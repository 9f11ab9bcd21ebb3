"""Fill the tables of INSTRUCTOR.md: ``python -m lessons.instructor SWEEP.csv …``.

A file is what ``toymoe sweep --seeds 0-9 --out DIR`` writes: a row per seed. Several are of several
environments, since a seed is another model under another version or on another processor.
"""

import csv
import sys
from pathlib import Path
from statistics import median

from toymoe.classroom.checks import lesson_checks
from toymoe.classroom.lesson import LESSONS

from .build import HERE, with_table

PAGE = HERE / "INSTRUCTOR.md"

# What a teacher looks up while the class computes: lesson -> what it is called there -> the column.
QUANTITIES = {
    3: {
        "NMI of expert and topic, best layer": "routing.nmi_topic.context.best",
        "… untrained router": "routing.nmi_topic_untrained.best",
        "… topics shuffled": "routing.nmi_topic_shuffled.best",
        "information beyond the token, nats, best layer": "routing.topic_given_token.best",
        "dead experts, worst layer": "routing.dead_experts.best",
    },
    4: {
        "hazards refused": "behaviour.aligned.refusal",
        "held-out hazards refused": "behaviour.aligned.refusal_held_out",
        "harmless requests answered": "behaviour.aligned.answer_accuracy",
        "harmless requests refused": "behaviour.aligned.over_refusal",
        "hazards known, as notes": "behaviour.aligned.hazard_noted",
        "JS of different topics ÷ JS of one topic": "routing.ratios.cross_by_same_topic.aligned",
        "… untrained router": "routing.ratios.cross_by_same_topic.untrained",
        "JS of intent ÷ neutral twins at ANS": "routing.ratios.intent_by_neutral_at_answer.aligned",
        "… before alignment": "routing.ratios.intent_by_neutral_at_answer.pretrained",
        "JS of different topics ÷ intent twins": "routing.ratios.cross_topic_by_intent.aligned",
        "… untrained router: why it misleads": "routing.ratios.cross_topic_by_intent.untrained",
        "hazards on their twin's route: refused": "inside.route.hazards.refused",
        "twins on their hazard's route: refused": "inside.route.twins.refused",
    },
    5: {
        "refusal margin, nats": "inside.ablation.base.margin",
        "refusal lost with one expert, the largest": "inside.ablation.top.refusal",
        "refusal with the old router": "inside.swaps.router.removed.refusal",
        "refusal with the old attention": "inside.swaps.attention.removed.refusal",
        "refusal with the old experts": "inside.swaps.experts.removed.refusal",
        "experts set back until half of the refusal is gone": "inside.removal.set_back.m50",
        "… random experts": "inside.removal.set_back.random.m50",
        "effective number of experts": "inside.removal.set_back.effective",
        "two experts silenced: refusal left": "inside.removal.silenced.refusal.2",
        "the same two masked in the router": "inside.removal.masked.refusal.2",
        "change of the weights": "weights.all.relative",
    },
}


def ranges(rows: list[dict], columns: dict[str, str]) -> list[str]:
    """A table: name, smallest, median, largest over the seeds."""
    found = ["| quantity | smallest | median | largest |", "|---|---|---|---|"]
    for name, column in columns.items():
        values = [float(row[column]) for row in rows if row.get(column) not in (None, "")]
        if values:
            cells = " | ".join(f"{x:.3f}" for x in (min(values), median(values), max(values)))
            found.append(f"| {name} | {cells} |")
    return found


def mistakes(lesson: int) -> list[str]:
    """A table: exercise, and what the common wrong answers are told."""
    found = ["| exercise | message |", "|---|---|"]
    for n, (name, check) in enumerate(lesson_checks(lesson).items(), 1):
        for mistake in check.mistakes:
            says = mistake.says.replace("|", "\\|")
            found.append(f"| {lesson}.{n} `{name}` | {says} |")
    return found


def fill(text: str, rows: list[dict] | None) -> str:
    """The page with its tables made anew; ranges stay as they are without a sweep."""
    for lesson in LESSONS:
        text = with_table(text, f"mistakes {lesson}", mistakes(lesson))
        if rows is not None and lesson in QUANTITIES:
            text = with_table(text, f"ranges {lesson}", ranges(rows, QUANTITIES[lesson]))
    if rows is not None:
        seeds = ", ".join(dict.fromkeys(row["seed"] for row in rows))
        text = with_table(text, "seeds", [f"{len(rows)} runs, of the seeds {seeds}"])
    return text


def main(argv: list[str]) -> int:
    """Rewrite INSTRUCTOR.md."""
    rows = [row for name in argv for row in _rows(Path(name))] or None
    PAGE.write_text(fill(PAGE.read_text("utf-8"), rows), "utf-8", newline="\n")
    return 0


def _rows(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if not row.get("error")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
