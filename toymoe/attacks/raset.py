"""RASET at toy scale: rank the experts by a criterion, choose the first few, tune those alone.

The paper's selection formula was not available; RASET here is `toymoe.attribution.CRITERION`, our
reading of it (docs/raset.md), with low-rank deltas on the chosen experts and the router frozen. Toy
organisms only.
"""

from collections.abc import Callable
from dataclasses import replace

from ..attribution import CRITERION, choice, methods
from ..training.trainable import Trainable, only
from .attacker import Attacked, Attacker

# Methods that are no criteria here: other ways to ablate, and what asks for the pretrained model.
LEFT_OUT = (
    "ablation_zero_frozen", "ablation_refusal", "ablation_mean", "ablation_mean_frozen",
    "ablation_mean_contrast", "resample_other", "resample_removed", "resample_restored",
    "resample_both", "route_removed", "route_restored", "swap_removed", "swap_alone", "shapley",
    "weight_change",
)  # fmt: skip


def studied() -> list[str]:
    """The criteria that ``toymoe raset`` compares: all methods but `LEFT_OUT`."""
    return [name for name in methods.METHODS if name not in LEFT_OUT]


def tune(
    a: Attacker,
    n: int,
    criterion: str | Callable = CRITERION,
    layers: int | None = None,
    hold: bool = True,
) -> Attacked:
    """The ``n`` highest experts by a criterion, tuned.

    Args:
      layers: of the last so many layers only.
      hold: with the term of the loss that holds the routes.
    """
    return a.tune(Trainable(choice.highest(a.scores(criterion), n, layers)), hold)


def alone(a: Attacker, layer: int, expert: int) -> Attacked:
    """One expert tuned, whatever any criterion says of it, as far as the schedule's first look."""
    brief = replace(a, schedule=replace(a.schedule, steps=a.schedule.check))
    return brief.tune(only(((layer, expert),), a.cfg.model))
