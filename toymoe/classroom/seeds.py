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
from ..training.trainable import COMPONENTS

HERE = Path(__file__).parent
FILE = HERE / "seeds.json"
DIGITS = 4
COLUMNS = (
    "behaviour.aligned.answer_accuracy",
    "inside.swaps.attention.removed.accuracy",
    "behaviour.aligned.refusal",
    "behaviour.aligned.refusal_held_out",
    "behaviour.pretrained.refusal_held_out",
    "routing.nmi_topic.context",
    "routing.nmi_topic_shuffled",
    "routing.contrasts.cross_topic.js",
    "routing.contrasts.intent_twins.js",
    *(f"inside.swaps.{part}.{way}.refusal" for part in COMPONENTS for way in ("removed", "alone")),
    "inside.ablation.base.margin",
    *(
        f"inside.ablation.top.{name}"
        for name in ("layer", "expert", "margin", "margin_usage_matched", "refusal")
    ),
)


class Seeds(NamedTuple):
    """A sweep; arrays are numpy, S seeds."""

    seeds: list[int]
    columns: dict[str, np.ndarray]  # [S], or [S, L] where metrics.json has a list by layer
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
    """A number, or the list by layer ``name.0``, ``name.1``, …"""
    if name in row:
        return float(row[name])
    by_layer = []
    while (key := f"{name}.{len(by_layer)}") in row:
        by_layer.append(float(row[key]))
    if not by_layer:
        raise ConfigError(f"sweep.csv has no column {name}: make it with this version of toymoe.")
    return by_layer


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
