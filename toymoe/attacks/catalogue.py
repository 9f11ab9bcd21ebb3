"""The one table of attacks: RASET by our reading, its rivals, their families and budgets.

A new attack is a function from an `Attacker` and a number of experts to an `Attacked` model, and a
row here; nothing else. ``toymoe raset`` runs every row at its budgets, ``toymoe defend`` picks rows
by name (`toymoe.defences.catalogue`), and the figures show all that was run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp
import numpy as np

from .. import model
from ..attribution import CRITERION, choice, methods
from ..config import Config, ConfigError
from ..training.trainable import EVERYTHING, Trainable
from . import raset, steering
from .attacker import Attacked, Attacker
from .family import Family

BUDGETS = (1, 2, 4, 8)
STEERED = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Attack:
    """A row of the table.

    Raises:
      ConfigError: its family is not a `Family`.
    """

    name: str
    family: Family
    budgets: tuple[int, ...]  # experts, for ``toymoe raset``; 0 where it has no such number
    run: Callable[[Attacker, int], Attacked]
    beside: str = ""  # the attack with which it takes turns, budget by budget

    def __post_init__(self):
        if self.family not in tuple(Family):
            raise ConfigError(
                f"attack {self.name!r} has family {self.family!r}, which no figure shows: it must "
                f"be one of {', '.join(map(str, Family))}."
            )


# --- the table ----------------------------------------------------------------------------------


def table(cfg: Config) -> dict[str, Attack]:
    """Every attack, by name."""
    rows = [
        Attack("none", Family.UNTOUCHED, (0,), lambda a, n: a.changed(a.params)),
        *_tuning(cfg),
        *_steering(cfg),
        *_editing(cfg),
    ]
    return {row.name: row for row in rows}


def _tuning(cfg):
    each, main, total = _each(cfg), main_budget(cfg), cfg.model.layers * cfg.model.experts
    by = {"usage": (main,), "gate_contrast": (main,), "gate_sensitivity": (main,)}
    by |= {"ablation_zero": (main,), "usage_on_hazards": ()}
    return [
        Attack("raset", Family.RASET, each, raset.tune),
        Attack("random_experts", Family.RANDOM, each, _random, beside="raset"),
        Attack("usage_matched", Family.RANDOM, each, _matched, beside="raset"),
        Attack("raset_last_layer", Family.RASET, (main,), partial(raset.tune, layers=1)),
        *(
            Attack(f"tuned_by_{name}", Family.CRITERION, n, partial(raset.tune, criterion=name))
            for name, n in by.items()
        ),
        Attack(
            "all_experts", Family.ELSEWHERE, (total,), partial(_only, where=Trainable(experts=1))
        ),
        Attack(
            "attention_only", Family.ELSEWHERE, (0,), partial(_only, where=Trainable(attention=1))
        ),
        Attack("router_only", Family.ELSEWHERE, (0,), partial(_only, where=Trainable(router=1))),
        Attack("full_tuning", Family.ELSEWHERE, (0,), partial(_only, where=EVERYTHING)),
        # What the routes do where nothing in the loss holds them:
        Attack("free_raset", Family.FREE, (main,), partial(raset.tune, hold=False)),
        Attack(
            "free_router_only",
            Family.FREE,
            (0,),
            partial(_only, where=Trainable(router=1), hold=False),
        ),
        Attack("free_full_tuning", Family.FREE, (0,), partial(_only, where=EVERYTHING, hold=False)),
    ]


def _steering(cfg):
    main, half = main_budget(cfg), cfg.model.layers * cfg.model.experts // 2
    budgets = tuple(n for n in STEERED if n <= half)
    contrasts = {
        ("both", "responses"): budgets,
        ("off", "responses"): budgets,
        ("both", "twins"): budgets,
        ("off", "twins"): (),
        ("on", "responses"): (main,),
        ("off", "answer"): (main,),
    }
    return [
        *(
            Attack(f"steering_{how}_{by}", Family.STEERING, n, partial(_steered, how=how, by=by))
            for (how, by), n in contrasts.items()
        ),
        Attack("steering_off_raset", Family.STEERING, _closable(cfg, (main,)), _switched_off),
    ]


def _editing(cfg):
    each, L, E = _each(cfg), cfg.model.layers, cfg.model.experts
    few_and_all = tuple(sorted({main_budget(cfg), L * E}))
    masked = partial(_switched_off, closed=True)
    return [
        Attack("silenced", Family.SILENCING, each, _silenced),
        Attack("masked", Family.STEERING, _closable(cfg, each), masked, beside="silenced"),
        *(
            Attack(f"direction_layer_{i}", Family.SILENCING, (0,), partial(_direction, layer=i))
            for i in range(L)
        ),
        Attack("expert_directions", Family.SILENCING, few_and_all, _expert_directions),
    ]


def plan(cfg: Config) -> list[tuple[Attack, int]]:
    """What ``toymoe raset`` runs: each attack with each of its budgets, in the order of the table,
    those that stand beside another in turn with it."""
    groups: dict[str, list[Attack]] = {}
    for row in table(cfg).values():
        groups.setdefault(row.beside or row.name, []).append(row)
    made = []
    for group in groups.values():
        budgets = sorted({n for row in group for n in row.budgets})
        made += [(row, n) for n in budgets for row in group if n in row.budgets]
    return made


def families(cfg: Config) -> dict[Family, list[str]]:
    """The names of the attacks of every family."""
    rows = table(cfg).values()
    return {family: [r.name for r in rows if r.family == family] for family in Family}


def main_budget(cfg: Config) -> int:
    """The number of experts at which attacks are compared."""
    return max(_each(cfg))


def _each(cfg):
    return tuple(n for n in BUDGETS if n <= cfg.model.experts)


def _closable(cfg, budgets):
    """Those that leave each token its experts."""
    most = cfg.model.layers * (cfg.model.experts - cfg.model.top_k)
    return tuple(n for n in budgets if n <= most)


# --- the attacks --------------------------------------------------------------------------------


def _only(a: Attacker, n, where, hold=True):
    return a.tune(where, hold)


def _random(a: Attacker, n):
    chosen_LE = choice.highest(a.scores(CRITERION), n)
    return a.tune(Trainable(choice.random(chosen_LE, a.draw(n))))


def _matched(a: Attacker, n):
    chosen_LE = choice.highest(a.scores(CRITERION), n)
    usage_LE = methods.token_share(a.evidence)
    return a.tune(Trainable(choice.matched(chosen_LE, usage_LE, a.draw(n))))


def _steered(a: Attacker, n, how, by):
    """SteerMoE: what refusal selects is switched off, what answering selects on."""
    rd_LE = a.risk_differences[by]
    size_LE = {"both": np.abs(rd_LE), "off": rd_LE, "on": -rd_LE}[how]
    chosen_LE = choice.highest(size_LE, n)
    off_LE = chosen_LE & {"both": rd_LE >= 0, "off": True, "on": False}[how]
    return _routed(a, chosen_LE & ~off_LE, off_LE)


def _switched_off(a: Attacker, n, closed=False):
    off_LE = choice.highest(a.scores(CRITERION), n, leave=a.cfg.model.top_k)
    return _routed(a, False, off_LE, closed)


def _routed(a: Attacker, on_LE, off_LE, closed=False):
    def predictor(tokens_BP):
        return steering.steered(a.params, tokens_BP, a.cfg, on_LE, off_LE, closed)

    return Attacked(predictor, a.params)


def _silenced(a: Attacker, n):
    mask_LE = choice.highest(a.scores("ablation_zero"), n)
    return a.changed(steering.silence(a.params, jnp.asarray(mask_LE)), _down_share(a, n))


def _direction(a: Attacker, n, layer):
    direction_D = steering.refusal_direction(a.evidence, layer)
    layers = a.params["layers"]
    touched = [a.params["embed"], layers["out"], layers["experts"]["down"]]
    share = sum(np.size(x) for x in touched) / model.count(a.params)
    return a.changed(steering.project_out(a.params, direction_D), share)


def _expert_directions(a: Attacker, n):
    mask_LE = jnp.asarray(choice.highest(a.scores(CRITERION), n))
    directions_LED = steering.expert_directions(a.evidence)
    changed = steering.project_out_of_experts(a.params, directions_LED, mask_LE)
    return a.changed(changed, _down_share(a, n))


def _down_share(a: Attacker, n):
    down = a.params["layers"]["experts"]["down"]
    return n * np.size(down[0, 0]) / model.count(a.params)
