"""A trained model with its world: the shipped one, or a finished run read back from its folder.

Another kind of organism to load: a module here, and a case of `load`.
"""

from pathlib import Path

from ..config import ConfigError
from . import seeded, shipped, stored
from .organism import Organism, sample
from .shipped import world_of

__all__ = ["Organism", "load", "sample", "seeded", "shipped", "stored", "world_of"]


def load(which: str | Path = "conjunction") -> Organism:
    """A trained model with its world.

    Args:
      which: the hazard rule of a shipped one, "conjunction" or "topic", or the folder of a finished
        run (one of these names, if need be: ``Path("topic")``).

    Raises:
      ConfigError, CheckpointError: neither of them; not finished, damaged, or of several runs.
    """
    if isinstance(which, str) and which in shipped.RULES:
        return shipped.load(which)
    if not Path(which).is_dir():
        raise ConfigError(
            f"{str(which)!r} is not possible: name a hazard rule that is shipped "
            f"({', '.join(shipped.RULES)}), or the folder of a finished run."
        )
    return stored.load(Path(which))
