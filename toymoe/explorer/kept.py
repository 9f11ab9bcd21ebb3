"""The tuned models of the shipped organism, kept so that neither a page nor a class waits for them.

``tuned.npz`` holds the experts that RASET moved, bit for bit. ``python -m toymoe.explorer.keep``
makes it anew, in a minute or two.
"""

from functools import cache
from pathlib import Path

import numpy as np

from .. import checkpoint, model
from ..organism import Organism
from ..runs import studies

FILE = Path(__file__).parent / "tuned.npz"


def tuned(made: Organism, n: int) -> model.Params | None:
    """The aligned model with ``n`` experts tuned, where that is kept; None where it is not."""
    experts, of = _read()
    if str(n) not in experts or of != studies.fingerprint(made.aligned):
        return None
    layers = made.aligned["layers"]
    experts_now = {name: array.copy() for name, array in layers["experts"].items()}
    at = tuple(experts[str(n)]["at"].T)
    for name, array in experts_now.items():
        array[at] = experts[str(n)][name]
    return made.aligned | {"layers": layers | {"experts": experts_now}}


def write(made: Organism, models: dict[int, model.Params]) -> None:
    """Keep what moved in some models, by how many experts that is, of an organism."""
    tree = {}
    for n, params in models.items():
        at = np.array(moved(params, made.aligned))
        now = params["layers"]["experts"]
        tree[str(n)] = {"at": at} | {name: now[name][tuple(at.T)] for name in now}
    checkpoint.save(FILE, tree, {"of": studies.fingerprint(made.aligned)})


def moved(params: model.Params, before: model.Params) -> list[tuple[int, int]]:
    """The experts, (layer, expert), whose weights differ between two models."""
    now, then = (x["layers"]["experts"] for x in (params, before))
    differs_LE = sum((now[name] != then[name]).any((2, 3)) for name in now) > 0
    return [(int(layer), int(expert)) for layer, expert in np.argwhere(differs_LE)]


@cache
def _read():
    tree, meta = checkpoint.load(FILE)
    return tree, meta.get("of")
