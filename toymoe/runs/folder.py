"""The folder of a run: made for a new one, emptied of an old one, and never anything else's.

It holds `FILES`, state.npz only while it trains. The presence of metrics.json says that the run is
complete.
"""

import warnings
from pathlib import Path

from .. import checkpoint, numerics
from ..config import Config, ConfigError, to_dict
from ..errors import ToymoeWarning
from ..organism import stored

FILES = (  # in the order written
    "config.json tables.npz snapshots/*.npz state.npz pretrained.npz aligned.npz history.npz "
    "figures/*.png report.html explorer.html metrics.json"
).split()

STUDIES = (  # of a finished run, each in a folder of its own; see `toymoe.runs.studies`
    "raset/study.json raset/table.csv raset/figures/*.png raset/raset.html "
    "defences/study.json defences/table.csv defences/points.csv defences/break_counts.png "
    "defences/defences.html realigned/study.json"
).split()

FOLDERS = ("figures", stored.SNAPSHOTS, "raset", "raset/figures", "defences", "realigned")
ZOO = "zoo/*"  # the folders that `toymoe zoo` puts there


def prepare(out: Path, force: bool = False) -> None:
    """Make the folder of a new run.

    Raises:
      ConfigError: it exists and has something in it, unless it is an old run and ``force``.
    """
    if out.is_dir() and not is_blank(out):
        ours = (out / "config.json").is_file()
        if not force:
            hint = "--resume continues it, --force replaces it" if ours else "it is not a run"
            raise ConfigError(f"{out} exists already ({hint}): or name another folder with --out.")
        if not ours:
            raise ConfigError(f"{out} is not a run of toymoe, so --force leaves it: name another.")
        # The last one written goes first: cut off in between, it is an unfinished run, or study.
        for path in [path for name in reversed(FILES + STUDIES) for path in out.glob(name)]:
            path.unlink()
    checkpoint.make_folder(out)


def begin(out: Path, cfg: Config) -> None:
    """Clear away what a killed run was writing, and state whose folder it is before anything else.

    Warns where the run was begun with other versions of what its numbers come from.

    Raises:
      CheckpointError, ConfigError: it is of other settings, or damaged.
    """
    folders = [out, *(folder for name in (*FOLDERS, ZOO) for folder in out.glob(name))]
    for half_written in [path for folder in folders for path in folder.glob(".*.tmp")]:
        half_written.unlink()
    if not (out / "config.json").is_file():
        stored.write_config(out, cfg)
    if to_dict(stored.config(out)) != to_dict(cfg):
        raise checkpoint.CheckpointError(
            f"{out} is a run of other settings: delete it, or name another folder."
        )
    before, now = stored.versions(out), numerics.versions()
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        old, new = (", ".join(f"{name} {v.get(name)}" for name in changed) for v in (before, now))
        warnings.warn(
            f"{out} was begun with {old} and goes on with {new}: its numbers may differ from those "
            "of a run with one version.",
            ToymoeWarning,
            stacklevel=2,
        )


def is_blank(out: Path) -> bool:
    """Whether a folder holds nothing, or what a run killed in its first moments leaves."""
    inside = [path for name in FOLDERS for path in out.glob(f"{name}/*")]
    return not any(
        path.name not in FOLDERS and not (path.name.startswith(".") and path.suffix == ".tmp")
        for path in [*out.iterdir(), *inside]
    )
