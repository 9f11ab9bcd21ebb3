"""Specimens read back from a zoo's folder."""

from pathlib import Path

from .specimen import Specimen


def names(out: Path) -> list[tuple[int, str]]:
    """(seed, name) of every finished specimen of a zoo, in order."""
    raise NotImplementedError(out)


def load(out: Path, seed: int, name: str) -> Specimen:
    """A specimen."""
    raise NotImplementedError(out, seed, name)
