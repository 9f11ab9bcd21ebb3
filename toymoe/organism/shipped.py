"""The trained organism that the lessons start from, shipped with the package.

One model was pretrained and then aligned twice: under the default hazard rule, and under the rule
"topic", where everything in some topics is hazardous. ``python -m toymoe.runs.ship`` makes it anew.

    config.json   pretrained.npz   aligned.npz         metrics.json         history.npz
    tables.npz (of every rule)     aligned_topic.npz   metrics_topic.json
"""

import dataclasses
from pathlib import Path

import numpy as np

from .. import checkpoint, world
from ..config import Config, from_dict, to_dict
from . import seeded
from .organism import Organism

HERE = Path(__file__).parent
RULES = {"conjunction": "", "topic": "_topic"}  # hazard rule: what its files' names end with
REMEDY = "install toymoe again"


def world_of(hazard_rule: str) -> tuple[Config, world.World]:
    """The world of the organism under any hazard rule: the same but for what is hazardous."""
    return _world_of(_first(), hazard_rule)


def load(hazard_rule: str) -> Organism:
    """The shipped organism; both rules share the pretrained model, and the history of the first.

    Raises:
      CheckpointError: files that are missing or damaged.
    """
    end, first = RULES[hazard_rule], _first()
    cfg, tables = _world_of(first, hazard_rule)
    files = {
        "pretrained": {"config": to_dict(first), "phase": "pretrain"},
        f"aligned{end}": {"config": to_dict(cfg), "phase": "align"},
        "history": {"config": to_dict(first)},
    }
    pretrained, aligned, history = (
        checkpoint.load(HERE / f"{name}.npz", belongs=belongs)[0] for name, belongs in files.items()
    )
    metrics = checkpoint.read_json(HERE / f"metrics{end}.json", REMEDY)
    return Organism(cfg, tables, pretrained, aligned, metrics, history)


def _first() -> Config:
    """The configuration under the first rule, whose run the others' worlds come from."""
    return from_dict(checkpoint.read_json(HERE / "config.json", REMEDY)["config"])


def _world_of(first: Config, hazard_rule: str):
    cfg = dataclasses.replace(
        first, world=dataclasses.replace(first.world, hazard_rule=hazard_rule)
    )
    tables, _ = checkpoint.load(HERE / "tables.npz", belongs={"config": to_dict(first)})
    if hazard_rule in tables:
        return cfg, world.World(**tables[hazard_rule])
    return cfg, world.World(*map(np.asarray, seeded.tables(cfg)))  # a rule newer than the file
