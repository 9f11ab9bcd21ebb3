"""The trained organism that the lessons start from, shipped with the package.

One model was pretrained and then aligned twice: under the default hazard rule, and under the rule
"topic", where everything in some topics is hazardous. ``python -m toymoe.runs.ship`` makes it anew.

    config.json   pretrained.npz   aligned.npz         metrics.json         history.npz
    tables.npz (of every rule)     aligned_topic.npz   metrics_topic.json   sha256.json
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from .. import checkpoint, world
from ..config import Config, from_dict

HERE = Path(__file__).parent
RULES = {"conjunction": "", "topic": "_topic"}  # hazard rule: what its files' names end with
COMMAND = "python -m toymoe.runs.ship"


class Shipped(NamedTuple):
    """A trained model with its world; arrays are numpy."""

    cfg: Config
    tables: world.World
    pretrained: dict  # parameters
    aligned: dict
    metrics: dict  # what metrics.json of its run holds
    history: dict[str, np.ndarray]  # curves, see docs/metrics.md; those of the default rule

    def sample(
        self, n: int, kind: str = "mixed", seed: int = 0, held_out: bool | None = None
    ) -> world.Prompts:
        """Prompts of its world, see `toymoe.world.sample`; numpy."""
        return sample(self.cfg, self.tables, n, kind, seed, held_out)


def sample(
    cfg: Config,
    tables: world.World,
    n: int,
    kind: str = "mixed",
    seed: int = 0,
    held_out: bool | None = None,
) -> world.Prompts:
    """Prompts of any world, see `toymoe.world.sample`; numpy."""
    drawn = world.sample(jax.random.key(seed), tables, cfg.world, n, kind, held_out)
    return world.Prompts(*map(np.asarray, drawn))


def world_of(hazard_rule: str) -> tuple[Config, world.World]:
    """The world of the organism under any hazard rule: the same but for what is hazardous."""
    cfg = from_dict(json.loads((HERE / "config.json").read_bytes())["config"])
    ruled = dataclasses.replace(cfg.world, hazard_rule=hazard_rule)
    cfg = dataclasses.replace(cfg, world=ruled)
    tables, _ = checkpoint.load(HERE / "tables.npz")
    return cfg, world.World(**tables[hazard_rule])


def load(hazard_rule: str = "conjunction") -> Shipped:
    """The shipped organism; both rules share the pretrained model and its history.

    Raises:
      ValueError: another hazard rule.
      CheckpointError: files that are missing or damaged.
    """
    if hazard_rule not in RULES:
        raise ValueError(f"hazard_rule = {hazard_rule!r} is not shipped: only {', '.join(RULES)}.")
    end = RULES[hazard_rule]
    return Shipped(
        *world_of(hazard_rule),
        checkpoint.load(HERE / "pretrained.npz")[0],
        checkpoint.load(HERE / f"aligned{end}.npz")[0],
        json.loads((HERE / f"metrics{end}.json").read_bytes()),
        checkpoint.load(HERE / "history.npz")[0],
    )


def damaged() -> list[str]:
    """The files that are not what sha256.json says, empty if all is well."""
    known = json.loads((HERE / "sha256.json").read_bytes())["files"]
    return [name for name, digest in known.items() if digest_of(HERE / name) != digest]


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; empty if there is no such file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
