"""The trained organism that the lessons start from, shipped with the package.

One model was pretrained and then aligned twice: under the default hazard rule, and under the rule
"topic", where everything in some topics is hazardous. ``python -m toymoe.runs.ship`` makes it anew.

    config.json   pretrained.npz   aligned.npz         metrics.json         history.npz
    tables.npz (of every rule)     aligned_topic.npz   metrics_topic.json
"""

import dataclasses
from pathlib import Path

from .. import checkpoint, world
from ..config import Config, from_dict, to_dict
from .organism import Organism

HERE = Path(__file__).parent
RULES = {"conjunction": "", "topic": "_topic"}  # hazard rule: what its files' names end with
REMEDY = "install toymoe again"


def world_of(hazard_rule: str) -> tuple[Config, world.World]:
    """The world of the organism under any hazard rule: the same but for what is hazardous."""
    cfg = from_dict(checkpoint.read_json(HERE / "config.json", REMEDY)["config"])
    ruled = dataclasses.replace(cfg.world, hazard_rule=hazard_rule)
    cfg = dataclasses.replace(cfg, world=ruled)
    tables, _ = checkpoint.load(HERE / "tables.npz")
    return cfg, world.World(**tables[hazard_rule])


def load(hazard_rule: str) -> Organism:
    """The shipped organism; both rules share the pretrained model, and the history of the first.

    Raises:
      CheckpointError: files that are missing or damaged.
    """
    end = RULES[hazard_rule]
    (cfg, tables), first = world_of(hazard_rule), to_dict(world_of("conjunction")[0])
    files = {
        "pretrained": {"config": first, "phase": "pretrain"},
        f"aligned{end}": {"config": to_dict(cfg), "phase": "align"},
        "history": {"config": first},
    }
    pretrained, aligned, history = (
        checkpoint.load(HERE / f"{name}.npz", belongs=belongs)[0] for name, belongs in files.items()
    )
    metrics = checkpoint.read_json(HERE / f"metrics{end}.json", REMEDY)
    return Organism(cfg, tables, pretrained, aligned, metrics, history)
