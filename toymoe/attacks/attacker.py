"""The attacker: one organism, and the evidence, prompts and schedule to attack it with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import jax
import numpy as np

from .. import model
from ..attribution import methods
from ..attribution.evidence import Evidence, gather
from ..config import Config
from ..model.inference import predict
from ..organism import Organism
from ..training.trainable import Trainable
from . import lora, steering, tuning
from .evaluation import Predictor


class Attacked(NamedTuple):
    """A model under attack."""

    predictor: Predictor
    params: model.Params  # whose router a detector reads; of a steered model, the unsteered one
    share: float = 0.0  # of the parameters that were touched


@dataclass(frozen=True, eq=False)
class Attacker:
    """One organism, and what an attacker has in hand."""

    organism: Organism
    evidence: Evidence
    prompts: tuning.Data
    key: jax.Array
    schedule: tuning.Schedule = tuning.DEFAULT
    untuned_GYZ: np.ndarray | None = None  # hazardous requests that are never tuned on

    @classmethod
    def of(
        cls,
        organism: Organism,
        key: jax.Array,
        schedule: tuning.Schedule = tuning.DEFAULT,
        pairs: int = 384,
        prompts: int = 512,
    ) -> "Attacker":
        """An attacker with evidence of his own and a few hundred prompts."""
        k_evidence, k_prompts, k_tune, k_untuned = jax.random.split(key, 4)
        cfg, tables = organism.cfg, organism.tables
        e = gather(organism.aligned, tables, cfg, k_evidence, pairs, organism.pretrained)
        untuned_GYZ = tuning.untuned(tables, k_untuned)
        data = tuning.data(tables, cfg, k_prompts, prompts, untuned_GYZ=untuned_GYZ)
        return cls(organism, e, data, k_tune, schedule, untuned_GYZ)

    @property
    def params(self) -> model.Params:
        return self.organism.aligned

    @property
    def cfg(self) -> Config:
        return self.organism.cfg

    def scores(self, criterion: str | Callable) -> np.ndarray:
        """A criterion's score of every expert [L, E], computed once."""
        return np.asarray(self.evidence.once(methods.named(criterion)))

    @cached_property
    def risk_differences(self) -> dict[str, np.ndarray]:
        """How much more often refusal selects each expert [L, E], by what is contrasted: forced
        responses, as SteerMoE does; twins over the prompt; twins at ANS, where the response is
        decided."""
        last = [gates_LBTE[:, :, -1] > 0 for gates_LBTE in self.evidence.gates]
        return {
            "responses": steering.risk_difference(self.evidence),
            "twins": methods.risk_difference(self.evidence),
            "answer": last[0].mean(1) - last[1].mean(1),
        }

    def changed(self, params: model.Params, share: float = 0.0) -> Attacked:
        """The model with other parameters, a share of which were touched."""
        return Attacked(partial(predict, params, cfg=self.cfg.model), params, share)

    def tune(self, trainable: Trainable, hold: bool = True) -> Attacked:
        """The model tuned where it may change.

        Args:
          hold: with the term of the loss that holds the routes.
        """
        schedule = self.schedule if hold else replace(self.schedule, route=0.0)
        made = tuning.tune(self.params, trainable, self.prompts, self.cfg, self.key, schedule)
        share = lora.share(self.params, trainable, schedule.rank, schedule.attention_rank)
        return self.changed(made, share)

    def draw(self, salt: int) -> np.random.Generator:
        """What draws random experts: by the attacker's key, another for each ``salt``."""
        seed = np.asarray(jax.random.key_data(jax.random.fold_in(self.key, salt)))
        return np.random.default_rng(seed)
