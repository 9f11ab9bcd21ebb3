"""The models of a page: pretrained and aligned, and, if asked for, snapshots of training."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from .. import model
from ..config import Config, ConfigError
from ..organism import Organism, seeded, stored
from ..training import phases


class Checkpoint(NamedTuple):
    """A moment of training."""

    name: str  # "untrained", "pretrained", "aligned", or such as "pretrain-25"
    phase: str
    step: int


def ends(cfg: Config) -> list[Checkpoint]:
    """The three that every run has: untrained, pretrained, aligned."""
    last = [(name, phase, phases.steps(cfg, phase)) for phase, name in phases.NAMES.items()]
    return [Checkpoint("untrained", "pretrain", 0), *(Checkpoint(*x) for x in last)]


def there(cfg: Config, folder: Path | None) -> list[Checkpoint]:
    """All that there are, in the order of training."""
    found = {(x.phase, x.step): x for x in ends(cfg)}
    for phase, step in [] if folder is None else stored.snapshots(folder):
        if step:  # what a phase begins with is what the one before ended with
            found.setdefault((phase, step), Checkpoint(f"{phase}-{step}", phase, step))
    return sorted(found.values(), key=lambda x: (phases.PHASES.index(x.phase), x.step))


def chosen(cfg: Config, folder: Path | None, n: int) -> list[Checkpoint]:
    """``n`` of all checkpoints, spread evenly; 0: pretrained and aligned alone.

    Raises:
      ConfigError: there are not as many.
    """
    if not n:
        return ends(cfg)[1:]
    all_there = there(cfg, folder)
    if not 3 <= n <= len(all_there):
        most = len(all_there)
        allowed = f"a whole number from 3 to {most}" if most > 3 else "3"
        kept = f"{most - 3} snapshots" if most > 3 else "no snapshots (train.snapshots)"
        raise ConfigError(
            f"{n} models are not possible: there are the untrained, pretrained and aligned one, "
            f"and {kept} kept between them, so it must be "
            f"{allowed}, or 0 for the last two alone."
        )
    rows = np.linspace(0, len(all_there) - 1, n).round().astype(int)
    pretrained = all_there.index(ends(cfg)[1])
    if pretrained not in rows:  # it takes the place of the nearest, but for the first and the last
        rows[1 + np.abs(rows[1:-1] - pretrained).argmin()] = pretrained
    return [all_there[row] for row in sorted(rows)]


def params(organism: Organism, which: Checkpoint, folder: str | Path | None = None) -> model.Params:
    """The parameters of a checkpoint; numpy.

    Raises:
      ConfigError: a snapshot, and no folder to read it from.
      CheckpointError: it is not there, or damaged.
    """
    if which.name == "untrained":
        return jax.tree.map(np.asarray, seeded.params(organism.cfg))
    if which.name in phases.NAMES.values():
        return getattr(organism, which.name)
    if folder is None:
        raise ConfigError(
            f"the model {which.name} is in the folder of its run: give the folder, too."
        )
    return stored.snapshot(Path(folder), organism.cfg, which.phase, which.step)


def named(name: str, cfg: Config) -> Checkpoint | None:
    """The checkpoint of a name, if a run of these settings can have it."""
    for known in ends(cfg):
        if name == known.name:
            return known
    phase, _, step = name.partition("-")
    if phase in phases.PHASES and step.isascii() and step.isdecimal() and len(step) < 8:
        if 0 < int(step) < phases.steps(cfg, phase) and name == f"{phase}-{int(step)}":
            return Checkpoint(name, phase, int(step))
    return None
