"""The tuned models of the shipped organism, kept so that neither a page nor a class waits for them.

``tuned.npz`` holds the experts that RASET moved, bit for bit. ``python -m toymoe.explorer.keep``
makes it anew, in a minute or two.
"""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np

from .. import checkpoint, model
from ..organism import Organism

FILE = Path(__file__).parent / "tuned.npz"


def tuned(made: Organism, n: int) -> model.Params | None:
    """The aligned model with ``n`` experts tuned, where that is kept; None where it is not."""
    experts, of = _read()
    if str(n) not in experts or of != _identity(made):
        return None
    layers = made.aligned["layers"]
    moved = {name: array.copy() for name, array in layers["experts"].items()}
    at = tuple(experts[str(n)]["at"].T)
    for name, array in moved.items():
        array[at] = experts[str(n)][name]
    return made.aligned | {"layers": layers | {"experts": moved}}


def write(made: Organism, models: dict[int, model.Params]) -> None:
    """Keep what moved in some models, by how many experts that is, of an organism."""
    before = made.aligned["layers"]["experts"]
    tree = {}
    for n, params in models.items():
        now = params["layers"]["experts"]
        at = np.argwhere(sum((now[name] != before[name]).any((2, 3)) for name in now) > 0)
        tree[str(n)] = {"at": at} | {name: now[name][tuple(at.T)] for name in now}
    checkpoint.save(FILE, tree, {"of": _identity(made)})


@cache
def _read():
    tree, meta = checkpoint.load(FILE)
    return tree, meta.get("of")


def _identity(made: Organism) -> str:
    """A hash of an organism's model and of what is hazardous in its world."""
    digest = hashlib.sha256(np.asarray(made.tables.hazard_GYZ).tobytes())
    for name, array in sorted(checkpoint.flatten(made.aligned).items()):
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()
