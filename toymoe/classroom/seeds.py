"""What a sweep found, in a table small enough to ship: lesson 8 asks of it what is real.

``seeds.json`` holds some columns of sweep.csv, a list over the seeds each, and who each expert
works for: its share of every topic's selections at the end of training, [S, L, G, E]. Make it anew:

    toymoe sweep --seeds 0-9 --out DIR
    python -m toymoe.classroom.seeds DIR
"""

import csv
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import checkpoint
from ..config import ConfigError

HERE = Path(__file__).parent
FILE = HERE / "seeds.json"
DIGITS = 4
PARTS = ("router", "experts", "attention", "embeddings")
COLUMNS = (
    "behaviour.aligned.answer_accuracy",
    "behaviour.aligned.refusal",
    "behaviour.aligned.refusal_held_out",
    "behaviour.pretrained.refusal_held_out",
    "routing.nmi_topic.context",
    "routing.nmi_topic_untrained",
    *(
        f"routing.contrasts.{when}.{pairs}.js"
        for when in ("untrained", "aligned")
        for pairs in ("cross_topic", "same_topic", "intent_twins")
    ),
    *(
        f"inside.swaps.{part}.{way}.{what}"
        for part in PARTS
        for way in ("removed", "alone")
        for what in ("refusal", "accuracy")
    ),
    "inside.route.hazards.refused",
    "inside.route.twins.refused",
    "inside.removal.counts",
    "inside.removal.set_back.refusal",
    "inside.removal.set_back.random.refusal",
    "inside.removal.set_back.m50",
    "inside.ablation.base.margin",
    "inside.ablation.free.margin",
)


class Seeds(NamedTuple):
    """A sweep; arrays are numpy, S seeds."""

    seeds: list[int]
    columns: dict[str, np.ndarray]  # [S], and more axes where metrics.json has lists
    topic_expert_SLGE: np.ndarray  # share of each topic's selections; sums to 1 over experts


def load(path: Path = FILE) -> Seeds:
    """The shipped table, or another that `write` made.

    Raises:
      ConfigError: it is damaged.
    """
    try:
        stored = json.loads(path.read_bytes())
        columns = {name: np.array(values) for name, values in stored["columns"].items()}
        return Seeds(stored["seeds"], columns, np.array(stored["topic_expert"]))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged: install toymoe again, or make it anew.") from error


def collect(folder: Path) -> Seeds:
    """The table of a sweep's folder; seeds that failed are left out.

    Raises:
      ConfigError: not a folder of a sweep, or no seed came to its end.
    """
    path = folder / "sweep.csv"
    if not path.is_file():
        raise ConfigError(f"{folder} holds no sweep.csv: `toymoe sweep --out {folder}` makes it.")
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if not row["error"]]
    rows.sort(key=lambda row: int(row["seed"]))
    if not rows:
        raise ConfigError(f"no seed of {folder} came to its end.")
    seeds = [int(row["seed"]) for row in rows]
    columns = {name: np.array([_value(row, name) for row in rows]) for name in COLUMNS}
    counts_SLGE = np.stack(
        [
            checkpoint.load(folder / f"seed-{s}" / "history.npz")[0]["topic_expert"][-1]
            for s in seeds
        ]
    ).astype(float)
    return Seeds(seeds, columns, counts_SLGE / counts_SLGE.sum(-1, keepdims=True))


def _value(row: dict, name: str):
    """A number, or the list ``name.0``, ``name.1``, …, each of which may be a list again."""
    if name in row:
        return float(row[name])
    values = []
    while any(key == (at := f"{name}.{len(values)}") or key.startswith(f"{at}.") for key in row):
        values.append(_value(row, at))
    if not values:
        raise ConfigError(f"sweep.csv has no column {name}: make it with this version of toymoe.")
    return values


def write(made: Seeds, path: Path = FILE) -> None:
    """As JSON, rounded."""
    stored = {
        "command": "toymoe sweep --seeds … --out DIR; python -m toymoe.classroom.seeds DIR",
        "seeds": made.seeds,
        "columns": {name: np.round(x, DIGITS).tolist() for name, x in made.columns.items()},
        "topic_expert": np.round(made.topic_expert_SLGE, 3).tolist(),
    }
    checkpoint.write_atomic(path, json.dumps(stored).encode())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("give the folder of a sweep: python -m toymoe.classroom.seeds DIR")
    write(collect(Path(sys.argv[1])))
