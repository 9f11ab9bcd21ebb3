"""Tune the shipped organism anew, and keep what moved: ``python -m toymoe.explorer.keep``."""

import sys

from .. import organism
from ..start import start_jax
from . import kept, shared


def main() -> int:
    """Write the file of `kept`."""
    start_jax()
    made = organism.load()
    attacker = shared.attacker(made)
    kept.write(made, {n: shared.tuned_by(attacker, n) for n in shared.budgets(made.cfg)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
