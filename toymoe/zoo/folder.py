"""The files of a zoo: an organism is what was written into it, and a page of numbers.

zoo.json                    the key that everything is drawn with
sweep.json                  the settings, but for the seed
seed-N/config.json  tables.npz  pretrained.npz  drifted.npz
seed-N/zoo/NAME/written.npz     by array, the values at the places of the key's parts
                specimen.json   what it is, its key, and how the key was verified
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from .. import __version__, checkpoint, model
from ..config import Config, ConfigError, to_dict
from ..organism import Organism, shipped, stored
from ..runs import jobs
from . import parts
from .specimen import Key, Specimen

FEW = Path(__file__).parent / "shipped"  # see `toymoe.zoo.few`
AGAIN = "delete it and run again"
SAID = ("mechanism", "lesson", "update", "key", "behaviour", "checks", "holds")


def names(out: Path) -> list[tuple[int, str]]:
    """Seed and name of every organism that is there, in order.

    Raises:
      ConfigError: the folder is no zoo.
    """
    if not (out / "zoo.json").is_file():
        raise ConfigError(f"{out} holds no zoo (no zoo.json): `toymoe zoo --out {out}` makes one.")
    return [(seed, name) for seed in jobs.there(out) for name in of_seed(out / f"seed-{seed}")]


def of_seed(run: Path) -> list[str]:
    """The names of one seed's organisms."""
    return sorted(path.parent.name for path in run.glob("zoo/*/specimen.json"))


def load(out: Path, seed: int, name: str) -> Specimen:
    """Read one organism back.

    Raises:
      ConfigError, CheckpointError: not there, damaged, or of other settings.
    """
    return at(out / f"seed-{seed}" / "zoo" / name)


def is_one(folder: Path) -> bool:
    """Whether a folder holds an organism of a zoo."""
    return (folder / "specimen.json").is_file()


def at(folder: Path) -> Specimen:
    """The organism in a folder.

    Raises:
      ConfigError, CheckpointError: see `load`.
    """
    run = folder.parent.parent
    if not is_one(folder):
        raise ConfigError(f"{folder} holds no organism of a zoo (no specimen.json).")
    said = _said(folder)
    cfg, tables, before, drifted = _seed(run.resolve())
    key = Key(tuple(said["key"]["parts"]), said["key"]["grain"], said["key"]["needs"])
    mask = parts.mask(key.parts, drifted, cfg.model)
    belongs = {"config": to_dict(cfg), "name": folder.name}
    written, _ = checkpoint.load(folder / "written.npz", _taken(drifted, mask), belongs)
    made = _filled(drifted, written, mask)
    organism = Organism(cfg, tables, before, made)
    return Specimen(
        cfg.seed,
        folder.name,
        said["mechanism"],
        said["lesson"],
        said["update"],
        organism,
        key,
        said["behaviour"],
        said["checks"],
        said["holds"],
    )


def row(folder: Path) -> dict:
    """What specimen.json of an organism says, as a row of zoo.csv.

    Raises:
      ConfigError, CheckpointError: damaged, or of another organism.
    """
    said = _said(folder)
    made = {"seed": int(folder.parent.parent.name.removeprefix("seed-")), "name": folder.name}
    for name in SAID:
        more = said[name] if isinstance(said[name], dict) else {name: said[name]}
        made |= {
            key: " ".join(map(str, x)) if isinstance(x, list) else x for key, x in more.items()
        }
    return made


def _said(folder: Path) -> dict:
    said = checkpoint.read_json(folder / "specimen.json", AGAIN)
    if not all(name in said for name in SAID) or said.get("toymoe") != __version__:
        raise ConfigError(f"{folder} is damaged, or of another version of toymoe: {AGAIN}.")
    if "-".join(said[name] for name in ("mechanism", "lesson", "update")) != folder.name:
        raise ConfigError(f"{folder} holds the specimen.json of another organism: {AGAIN}.")
    return said


@lru_cache(2)
def _seed(run: Path):
    if run.parent == FEW.resolve():
        o = shipped.load("conjunction")
        return o.cfg, o.tables, o.pretrained, read_drifted(run, o.cfg)
    cfg = stored.config(run)
    before = stored.params(run, cfg, "pretrain")
    return cfg, stored.tables(run, cfg), before, read_drifted(run, cfg)


def read_drifted(run: Path, cfg: Config) -> model.Params:
    """The model that lessons are written into.

    Raises:
      CheckpointError: not there, damaged, or of another zoo.
    """
    belongs = {"config": to_dict(cfg), "phase": "drift"}
    return checkpoint.load(run / "drifted.npz", belongs=belongs)[0]


def write_drifted(run: Path, cfg: Config, made: model.Params) -> None:
    """Store it."""
    checkpoint.save(run / "drifted.npz", made, {"config": to_dict(cfg), "phase": "drift"})


def write(run: Path, specimen: Specimen) -> None:
    """Store one organism, its numbers last: what has no specimen.json is not there."""
    folder, cfg = run / "zoo" / specimen.name, specimen.organism.cfg
    folder.mkdir(parents=True, exist_ok=True)
    made = specimen.organism.aligned
    written = _taken(made, parts.mask(specimen.key.parts, made, cfg.model))
    meta = {"config": to_dict(cfg), "name": specimen.name}
    checkpoint.save(folder / "written.npz", written, meta)
    said = {name: getattr(specimen, name) for name in SAID} | {"key": specimen.key._asdict()}
    checkpoint.write_json(folder / "specimen.json", {"toymoe": __version__, **said})


def _taken(params, mask) -> dict:
    """The values at the places of a mask, by array, in rows."""
    flat, where = checkpoint.flatten(params), checkpoint.flatten(mask)
    return checkpoint.unflatten(
        {path: leaf[_all(where[path], leaf)] for path, leaf in flat.items() if where[path].any()}
    )


def _filled(params, written, mask) -> model.Params:
    flat, where = checkpoint.flatten(params), checkpoint.flatten(mask)
    for path, values in checkpoint.flatten(written).items():
        flat[path] = flat[path].copy()
        flat[path][_all(where[path], flat[path])] = values
    return checkpoint.unflatten(flat)


def _all(where, leaf):
    return np.broadcast_to(where > 0, np.shape(leaf))
