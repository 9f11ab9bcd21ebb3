"""The attacks of ``toymoe raset``: RASET by our reading, its rivals, and their budgets.

An *arm* is one attack with one budget, a number of experts.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from .. import model
from ..attribution import CRITERION, methods
from ..config import Config
from ..training.trainable import EVERYTHING, Trainable
from . import steering
from .raset import Attacker, Look, choose, matched_choice, random_choice

BUDGETS = (1, 2, 4, 8)
STEERED = (1, 2, 4, 8, 16)


class Arm(NamedTuple):
    """One attack with one budget."""

    method: str
    budget: int  # experts, 0 where the method has no such number
    make: Callable[[Attacker], tuple[Look, float]]  # what it leads to, share of parameters touched


def plan(cfg: Config) -> list[Arm]:
    """Every attack, in the order of the table."""
    total = cfg.model.layers * cfg.model.experts
    budgets, main = [n for n in BUDGETS if n <= cfg.model.experts], main_budget(cfg)
    closable = cfg.model.layers * (cfg.model.experts - cfg.model.top_k)
    made = [Arm("none", 0, lambda a: (a.view(a.params), 0.0))]
    for n in budgets:
        made.append(Arm("raset", n, partial(_tuned, n=n)))
        made.append(Arm("random_experts", n, partial(_randomly, n=n)))
        made.append(Arm("usage_matched", n, partial(_matched, n=n)))
    made.append(Arm("raset_last_layer", main, partial(_tuned, n=main, layers=1)))
    for name in ("usage", "gate_contrast", "gate_sensitivity", "ablation_zero"):
        made.append(Arm(f"tuned_by_{name}", main, partial(_tuned, n=main, criterion=name)))
    made += [
        Arm("all_experts", total, lambda a: a.tune(Trainable(experts=1))),
        Arm("attention_only", 0, lambda a: a.tune(Trainable(attention=1))),
        Arm("router_only", 0, lambda a: a.tune(Trainable(router=1))),
        Arm("full_tuning", 0, lambda a: a.tune(EVERYTHING)),
    ]
    made += [  # what the routes do where nothing in the loss holds them
        Arm("free_raset", main, partial(_tuned, n=main, hold=False)),
        Arm("free_router_only", 0, lambda a: a.tune(Trainable(router=1), hold=False)),
        Arm("free_full_tuning", 0, lambda a: a.tune(EVERYTHING, hold=False)),
    ]
    for how, pairing in (("both", "responses"), ("off", "responses"), ("both", "twins")):
        for n in STEERED:
            if n <= total // 2:
                name = f"steering_{how}_{pairing}"
                made.append(Arm(name, n, partial(_steered, n=n, how=how, pairing=pairing)))
    made.append(Arm("steering_on_responses", main, partial(_steered, n=main, how="on")))
    made.append(
        Arm("steering_off_answer", main, partial(_steered, n=main, how="off", pairing="answer"))
    )
    if main <= closable:
        made.append(Arm("steering_off_raset", main, partial(_closed, n=main, closed=False)))
    for n in budgets:
        made.append(Arm("silenced", n, partial(_silenced, n=n)))
        if n <= closable:
            made.append(Arm("masked", n, partial(_closed, n=n, closed=True)))
    for layer in range(cfg.model.layers):
        made.append(Arm(f"direction_layer_{layer}", 0, partial(_direction, layer=layer)))
    for n in sorted({main, total}):
        made.append(Arm("expert_directions", n, partial(_expert_directions, n=n)))
    return made


def main_budget(cfg: Config) -> int:
    """The number of experts at which methods are compared."""
    return max(n for n in BUDGETS if n <= cfg.model.experts)


def _tuned(a: Attacker, n, criterion=CRITERION, layers=None, hold=True):
    return a.tune(Trainable(choose(a.scores(criterion), n, layers)), hold)


def _randomly(a: Attacker, n):
    return a.tune(Trainable(random_choice(choose(a.scores(CRITERION), n), a.draw(n))))


def _matched(a: Attacker, n):
    chosen = choose(a.scores(CRITERION), n)
    usage_LE = methods.token_share(a.evidence)
    return a.tune(Trainable(matched_choice(chosen, usage_LE, a.draw(n))))


def _steered(a: Attacker, n, how, pairing="responses"):
    """SteerMoE: what refusal selects is switched off, what answering selects on."""
    rd_LE = a.steering[pairing]
    size = np.abs(rd_LE) if how == "both" else rd_LE if how == "off" else -rd_LE
    chosen = choose(size, n)
    on, off = (
        (chosen & (rd_LE < 0), chosen & (rd_LE >= 0))
        if how == "both"
        else ((chosen, False) if how == "on" else (False, chosen))
    )
    return lambda tokens_BP: steering.steered(a.params, tokens_BP, a.cfg, on, off), 0.0


def _closed(a: Attacker, n, closed):
    off = choose(a.scores(CRITERION), n, leave=a.cfg.model.top_k)
    return lambda tokens: steering.steered(a.params, tokens, a.cfg, False, off, closed), 0.0


def _silenced(a: Attacker, n):
    mask_LE = choose(a.scores("ablation_zero"), n)
    return a.view(steering.silence(a.params, jnp.asarray(mask_LE))), _down_share(a, n)


def _direction(a: Attacker, layer):
    direction_D = steering.refusal_direction(a.evidence, layer)
    layers = a.params["layers"]
    touched = [a.params["embed"], layers["out"], layers["experts"]["down"]]
    share = sum(np.size(x) for x in touched) / model.count(a.params)
    return a.view(steering.project_out(a.params, direction_D)), share


def _expert_directions(a: Attacker, n):
    mask_LE = jnp.asarray(choose(a.scores(CRITERION), n))
    directions_LED = steering.expert_directions(a.evidence)
    changed = steering.project_out_of_experts(a.params, directions_LED, mask_LE)
    return a.view(changed), _down_share(a, n)


def _down_share(a: Attacker, n):
    down = a.params["layers"]["experts"]["down"]
    return n * np.size(down[0, 0]) / model.count(a.params)
