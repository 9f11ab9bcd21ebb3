"""Train the shipped organism anew: ``python -m toymoe.runs.ship [RUN]``.

With RUN, the folder of a finished default run, only the second alignment is trained.
"""

import dataclasses
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from .. import checkpoint, hazards
from ..config import Config, build
from ..organism.shipped import COMMAND, HERE, RULES, digest_of
from ..start import start_jax
from . import runner


def main(argv: list[str]) -> int:
    """Write the files of this package."""
    start_jax()
    with tempfile.TemporaryDirectory() as scratch:
        folders = {rule: Path(scratch) / rule for rule in RULES}
        if argv:
            folders["conjunction"] = Path(argv[0])
        organisms = {}
        for rule, folder in folders.items():
            if not runner.is_complete(folder):
                print(f"training under the hazard rule {rule!r}", flush=True)
                cfg = build(overrides={"world.hazard_rule": rule})
                runner.prepare(folder)
                runner.run(cfg, folder, pictures=False)
            organisms[rule] = runner.load(folder)
        write(folders, organisms)
    return 0


def write(folders: dict[str, Path], organisms: dict[str, runner.Organism]) -> None:
    """Copy finished runs, one for each rule, into this package."""
    checkpoint.save(
        HERE / "tables.npz",
        {rule: _tables(organisms["conjunction"].cfg, rule) for rule in hazards.RULES},
        {},
    )
    names = ["config.json", "pretrained.npz", "history.npz"]
    copies = {name: folders["conjunction"] / name for name in names}
    for rule, end in RULES.items():
        copies[f"aligned{end}.npz"] = folders[rule] / "aligned.npz"
        copies[f"metrics{end}.json"] = folders[rule] / "metrics.json"
    for name, path in copies.items():
        shutil.copyfile(path, HERE / name)
    files = {name: digest_of(HERE / name) for name in sorted([*copies, "tables.npz"])}
    text = json.dumps({"command": COMMAND, "files": files}, indent=1)
    (HERE / "sha256.json").write_text(text + "\n")


def _tables(cfg: Config, rule: str) -> dict[str, np.ndarray]:
    ruled = dataclasses.replace(cfg.world, hazard_rule=rule)
    tables = runner.world_of(dataclasses.replace(cfg, world=ruled))
    return {name: np.asarray(table) for name, table in tables._asdict().items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
