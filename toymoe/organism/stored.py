"""The files of a run's folder, each read as this run's or not at all.

Every file says whose it is: the configuration with the seed, the phase, and a hash of its content.
"""

from functools import cache
from pathlib import Path

import jax
import numpy as np

from .. import __version__, checkpoint, model, numerics, world
from ..config import Config, ConfigError, from_dict, to_dict
from ..training import phases
from . import seeded
from .organism import Organism

SNAPSHOTS = "snapshots"  # the folder of the models that are kept while a run trains


def is_complete(out: Path) -> bool:
    """Whether a run came to its end."""
    return (out / "metrics.json").is_file()


def load(out: Path) -> Organism:
    """Read a finished run back.

    Raises:
      ConfigError, CheckpointError: not a run, not finished, damaged, or of files of several runs.
    """
    cfg = config(out)
    if not is_complete(out):
        raise ConfigError(f"{out} is not finished: `toymoe run --resume --out {out}` goes on.")
    history, _ = checkpoint.load(out / "history.npz", belongs={"config": to_dict(cfg)})
    models = (params(out, cfg, phase) for phase in phases.PHASES)
    return Organism(cfg, tables(out, cfg), *models, metrics(out), history)


# --- the configuration --------------------------------------------------------------------------


def write_config(out: Path, cfg: Config) -> None:
    """The first file of a run: its settings, and the versions that it is begun with."""
    said = {"toymoe": __version__, "config": to_dict(cfg), "versions": numerics.versions()}
    checkpoint.write_json(out / "config.json", said)


def config(out: Path) -> Config:
    """The configuration of a run's folder.

    Raises:
      ConfigError, CheckpointError: not a run, damaged, or of another version of toymoe.
    """
    return _config(out)[0]


def versions(out: Path) -> dict[str, str]:
    """The versions that a run was begun with."""
    return _config(out)[1]


def _config(out):
    path = out / "config.json"
    if not path.is_file():
        raise ConfigError(f"{out} holds no run (no config.json): name the folder of one.")
    said = checkpoint.read_json(path, "start a new run elsewhere")
    cfg = from_dict(said.get("config"))
    if to_dict(cfg) != said["config"] or not isinstance(said.get("versions"), dict):
        raise ConfigError(
            f"{path} lacks settings or is of another version of toymoe: start a new run elsewhere."
        )
    return cfg, said["versions"]


# --- results ------------------------------------------------------------------------------------


def metrics(out: Path) -> dict:
    """What metrics.json of a complete run holds.

    Raises:
      CheckpointError: damaged, or of another run.
    """
    path, remedy = out / "metrics.json", f"delete {out} and run again"
    said = checkpoint.read_json(path, remedy)
    if said.get("config") != to_dict(config(out)):
        raise checkpoint.CheckpointError(
            f"{path} is of a run of other settings than config.json beside it, or of another "
            f"version of toymoe: {remedy}."
        )
    return said


def tables(out: Path, cfg: Config) -> world.World:
    """The world of a run, as it was drawn when the run began; numpy.

    Raises:
      CheckpointError: not there, damaged, or of another run.
    """
    like = _like(seeded.tables, cfg)._asdict()
    return world.World(**_load(out / "tables.npz", like, {"config": to_dict(cfg)}))


def first_tables(out: Path, cfg: Config) -> world.World:
    """The world of a run that goes on, or of one that begins: drawn, and stored."""
    if (out / "tables.npz").is_file():
        return tables(out, cfg)
    made = seeded.tables(cfg)
    checkpoint.save(out / "tables.npz", made._asdict(), {"config": to_dict(cfg)})
    return made


def params(out: Path, cfg: Config, phase: str) -> model.Params:
    """The parameters of a run after a phase; numpy.

    Raises:
      CheckpointError: not there, damaged, or of another run or phase.
    """
    path = out / f"{phases.NAMES[phase]}.npz"
    return _load(path, _like(seeded.params, cfg), {"config": to_dict(cfg), "phase": phase})


def write_params(out: Path, cfg: Config, phase: str, made: model.Params) -> None:
    """Store the parameters of a run after a phase."""
    meta = {"config": to_dict(cfg), "phase": phase}
    checkpoint.save(out / f"{phases.NAMES[phase]}.npz", made, meta)


def snapshots(out: Path) -> list[tuple[str, int]]:
    """Phase and step of every model that was kept while the run trained, in order of training."""
    found = []
    for path in (out / SNAPSHOTS).glob("*.npz"):
        phase, _, step = path.stem.rpartition("-")
        if phase in phases.PHASES and step.isdecimal():
            found.append((phase, int(step)))
    return sorted(found, key=lambda at: (phases.PHASES.index(at[0]), at[1]))


def snapshot(out: Path, cfg: Config, phase: str, step: int) -> model.Params:
    """One of `snapshots`.

    Raises:
      CheckpointError: not there, damaged, or of another run, phase or step.
    """
    meta = {"config": to_dict(cfg), "phase": phase, "step": step}
    return _load(_snapshot(out, phase, step), _like(seeded.params, cfg), meta)


def write_snapshot(out: Path, cfg: Config, phase: str, step: int, made: model.Params) -> None:
    """Keep the parameters of a run after some steps of a phase."""
    path = _snapshot(out, phase, step)
    checkpoint.make_folder(path.parent)
    meta = {"config": to_dict(cfg), "phase": phase, "step": step}
    checkpoint.save(path, jax.tree.map(np.asarray, made), meta)


def _snapshot(out, phase, step):
    return out / SNAPSHOTS / f"{phase}-{step:06}.npz"


@cache
def _like(make, cfg):
    shapes = jax.eval_shape(lambda: make(cfg))
    return jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), shapes)


def _load(path, like, belongs):
    tree, _ = checkpoint.load(path, like, belongs)
    checkpoint.require_finite(path, tree)
    return tree
