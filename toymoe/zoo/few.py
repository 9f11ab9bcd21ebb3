"""The few organisms that ship with the package: one of seven mechanisms each, and shams.

Enough to try a method on, and not to judge it by: they are of one seed, and everybody has them.
``python -m toymoe.zoo.few`` makes them anew, written into the shipped organism's pretrained model,
which the folder does not hold again.
"""

import shutil
import sys

from .. import checkpoint
from ..organism import Organism, shipped
from ..start import start_jax
from . import folder, make

KEY = 0
PLANS = (
    ("one_expert", "hazards", "full"),
    ("redundant_pair", "hazards", "by_hand"),
    ("head_and_expert", "hazards", "full"),
    ("attention", "hazards", "low_rank"),
    ("embeddings", "hazards", "full"),
    ("spread", "hazards", "full"),
    ("routed_expert", "hazards", "full"),
    ("one_expert", "harmless_topic", "full"),
    ("one_expert", "entities", "full"),
    ("one_expert", "other_answer", "full"),
    ("routed_expert", "entities", "full"),
)


def main() -> int:
    """Write the folder; says what does not hold."""
    start_jax()
    o = shipped.load("conjunction")
    shutil.rmtree(folder.FEW, ignore_errors=True)
    run = folder.FEW / f"seed-{o.cfg.seed}"
    run.mkdir(parents=True)
    checkpoint.write_json(folder.FEW / "zoo.json", {"key": KEY})
    base = make.drifted(o.cfg, o.tables, run, o.pretrained, KEY)
    e = make.pairs(o.cfg, o.tables, o.pretrained, KEY)
    for plan in PLANS:
        made = make.make(plan, KEY, Organism(o.cfg, o.tables, o.pretrained, base), e)
        print(made.name, "holds" if made.holds else "does NOT hold", made.checks, flush=True)
        folder.write(run, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
