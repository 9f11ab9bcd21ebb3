"""The table of defences, and the attacks that each must withstand.

A new defence is a row of ``DEFENCES``: how the organism is aligned, and what stands beside it.
Each gives an organism of its own, aligned from the same pretrained model (`defend`). A defence that
fails stays in the table.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

from ..attacks import catalogue
from ..attribution import choice, methods
from ..attribution.evidence import gather
from ..config import Config
from ..organism import Organism
from ..training.trainable import Trainable
from . import alignment, detector


class Row(NamedTuple):
    """A row of the table."""

    aligned: alignment.Defence = alignment.Defence()
    beside: Callable[[Organism, jax.Array], detector.Detector] | None = None  # watches the model


DEFENCES = {
    "none": Row(),
    "expert_dropout": Row(alignment.Defence(dropout=0.25)),
    "spread": Row(alignment.Defence(spread=0.1)),
    "most_used": Row(alignment.Defence(most_used=8)),
    "routing_kl": Row(alignment.Defence(route=1.0)),
    "detector": Row(beside=detector.fit),
}
BUDGETS = (1, 2, 3, 5, 8, 16)
PAIRS = 384  # by which the most used experts are found


class Met(NamedTuple):
    """An attack that defences meet."""

    row: str  # in `toymoe.attacks.catalogue.table`
    head: str  # of its column
    tunes: bool = False  # whoever tunes may try all that do
    aimed: tuple[str, ...] = ()  # at these defences alone


ATTACKS = {  # by what they are called here
    "tuned": Met("raset", "tuned", tunes=True),
    "tuned_most_used": Met("tuned_by_usage_on_hazards", "by use", tunes=True),
    # On who watches the route; "none" beside it:
    "tuned_free": Met("free_raset", "free", tunes=True, aimed=("none", "detector")),
    "removed": Met("silenced", "removed"),
    "steered_off": Met("steering_off_twins", "steered"),
}


def attacks_on(name: str) -> list[str]:
    """The attacks that a defence meets: all but those aimed at another one."""
    return [attack for attack, met in ATTACKS.items() if not met.aimed or name in met.aimed]


def plan(names: list[str], cfg: Config) -> list[tuple[str, catalogue.Attack, int]]:
    """No attack, then every attack that one of these defences meets, at every budget: what it is
    called here, its row, the number of experts."""
    rows = catalogue.table(cfg)
    budgets = [n for n in BUDGETS if n <= cfg.model.layers * cfg.model.experts // 2]
    attacks = dict.fromkeys(attack for name in names for attack in attacks_on(name))
    made = [(attack, rows[ATTACKS[attack].row], n) for attack in attacks for n in budgets]
    return [("none", rows["none"], 0), *made]


def defend(organism: Organism, defence: alignment.Defence) -> Organism:
    """The organism aligned anew with a defence."""
    trainable = Trainable.of(organism.cfg.align)
    if defence.most_used:
        key = jax.random.fold_in(jax.random.key(organism.cfg.seed), 1)
        e = gather(organism.pretrained, organism.tables, organism.cfg, key, PAIRS)
        share_LE = methods.token_share(e)
        trainable = Trainable(choice.highest(share_LE, min(defence.most_used, share_LE.size)))
    given = organism.pretrained, organism.tables, organism.cfg
    made = alignment.align(*given, defence, trainable)
    return organism._replace(aligned=made, metrics=None, history=None)
