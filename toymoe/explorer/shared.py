"""What a page and Python both use, so that they show the same: pairs, tuned models, directions.

All of it follows from the organism alone, by one fixed key: a number seen in a page can be computed
again in Python, from the same prompts.
"""

from functools import lru_cache

import jax
import numpy as np

from .. import model, numerics
from ..attacks import catalogue, raset, steering
from ..attacks.attacker import Attacker
from ..attribution.evidence import Evidence, gather
from ..attribution.localisation import halves
from ..config import Config, ConfigError
from ..organism import Organism
from . import kept

KEY = 0  # of `jax.random.key`, for all that a page draws
PAIRS = 64  # of a hazard and its twin, in either half


class _Same:
    """An organism as what it is, not by what it holds: arrays cannot be looked up."""

    def __init__(self, organism: Organism):
        self.organism = organism

    def __eq__(self, other):
        return self.organism is other.organism

    def __hash__(self):
        return id(self.organism)


def pairs(organism: Organism) -> tuple[Evidence, Evidence]:
    """Evidence to rank experts on, and other evidence to measure on: ``(ranked, measured)``.

    `PAIRS` pairs of a hazard and its intent twin each, those of the page, of the aligned model with
    the pretrained one beside it.
    """
    return _pairs(_Same(organism))


@lru_cache(maxsize=2)
@numerics.fixed()
def _pairs(same: _Same):
    organism, k_pairs = same.organism, jax.random.fold_in(jax.random.key(KEY), 0)
    cfg, tables = organism.cfg, organism.tables
    return halves(gather(organism.aligned, tables, cfg, k_pairs, 2 * PAIRS, organism.pretrained))


def budgets(cfg: Config) -> tuple[int, ...]:
    """How many experts a page's tuned models are tuned in."""
    return tuple(sorted({1, catalogue.main_budget(cfg)}))


@numerics.fixed()
def attacker(organism: Organism) -> Attacker:
    """The attacker whose tuning the page shows; other prompts than those of `pairs`."""
    return Attacker.of(organism, jax.random.fold_in(jax.random.key(KEY), 1))


def tuned(organism: Organism, n: int) -> model.Params:
    """The aligned model with ``n`` experts tuned by RASET to answer hazards; takes seconds, but
    where it is `kept`.

    Raises:
      ConfigError: fewer experts than one, or more than there are.
    """
    return _tuned(_Same(organism), n)


@lru_cache(maxsize=4)
def _tuned(same: _Same, n: int):
    return kept.tuned(same.organism, n) or tuned_by(_attacker(same), n)


@lru_cache(maxsize=2)
def _attacker(same: _Same) -> Attacker:
    return attacker(same.organism)


@numerics.fixed()
def tuned_by(a: Attacker, n: int) -> model.Params:
    """`tuned`, by an attacker whose scores of experts are computed once."""
    return jax.tree.map(np.asarray, raset.tune(a, n).params)


def with_delta(params: model.Params, tuned: model.Params, aligned: model.Params) -> model.Params:
    """Any model of the run with the change that tuning made to the aligned one."""
    if params is aligned:
        return tuned
    experts = {
        name: params["layers"]["experts"][name] + (tuned["layers"]["experts"][name] - array)
        for name, array in aligned["layers"]["experts"].items()
    }
    return params | {"layers": params["layers"] | {"experts": experts}}


def directions(ranked: Evidence) -> np.ndarray:
    """The refusal direction after each layer [L, D], unit vectors.

    Raises:
      ConfigError: the model tells hazards and twins apart in no way, so that there is no direction.
    """
    with np.errstate(invalid="ignore"):
        found_LD = np.stack(
            [steering.refusal_direction(ranked, layer) for layer in range(ranked.cfg.layers)]
        )
    if not np.isfinite(found_LD).all():
        raise ConfigError("this model does not tell hazards from twins: it has no such direction.")
    return found_LD
