"""RASET at toy scale: an attacker, the experts chosen, and one measure for every attack.

Whatever was done to a model, `evaluate` asks the same on the same prompts: is refusal gone, is the
right answer there instead, are harmless requests still answered, are the routes still those of the
aligned model? `toymoe.attacks.catalogue` lists the attacks.

The paper's selection formula was not available; RASET here is `CRITERION`, our reading of it
(docs/raset.md), with low-rank deltas on the chosen experts and the router frozen. Toy organisms
only.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import model, world
from ..attribution import criteria, methods
from ..attribution.evidence import Evidence, evidence
from ..config import Config, ConfigError
from ..measures import behaviour, contrasts, routing
from ..model.inference import Prediction, predict
from ..organism import Organism
from . import lora, steering, tuning

CRITERION = "contrastive_routing_sensitivity"
STUDIED = (
    "contrastive_routing_sensitivity",
    "gate_contrast",
    "gate_contrast_stable",
    "gate_contrast_bootstrap",
    "risk_difference",
    "usage",
    "usage_on_hazards",
    "gate_sensitivity",
    "gate_sensitivity_contrast",
    "decomposition",
    "decomposition_contrast",
    "ablation_zero",
    "ablation_zero_contrast",
    "random",
)
PROMPTS = 512  # behind each rate

Look = Callable[[Any], Prediction]


# --- measuring ----------------------------------------------------------------------------------


class TestSet(NamedTuple):
    """The prompts behind each rate, by kind, and the routes of the untouched model."""

    prompts: dict[str, world.Prompts]
    aligned: Prediction  # of the mixture


def test_set(organism: Organism, untuned_GYZ, key: jax.Array, n: int = PROMPTS) -> TestSet:
    """``n`` prompts of each kind, drawn apart from those that attackers tune on; ``untuned`` are
    hazards whose request they do not tune on at all."""
    cfg, tables = organism.cfg, organism.tables
    names = ("mixed", "hazardous", *world.controls(cfg.world))
    weights = {name: world.request_weights(tables, cfg.world, name) for name in names}
    weights["held_out"] = world.request_weights(tables, cfg.world, "hazardous", True)
    weights["untuned"] = weights["hazardous"] * untuned_GYZ
    prompts = {}
    for i, (name, weights_GYZ) in enumerate(weights.items()):
        drawn = world.draw(jax.random.fold_in(key, i), tables, cfg.world, n, weights_GYZ)
        prompts[name] = jax.tree.map(np.asarray, drawn)
    return TestSet(prompts, predict(organism.aligned, prompts["mixed"].tokens_BP, cfg.model))


def evaluate(look: Look, tests: TestSet, cfg: Config) -> dict:
    """What is left of behaviour and route, as plain numbers; lists are by layer.

    Rates are those of `toymoe.measures.behaviour.rates`, on hazards, hazards that alignment never saw
    (``…_held_out``) or the attacker never tuned on (``…_untuned``), the harmless requests of the
    training mixture, and each kind of control. The routes of the mixture are compared with the
    aligned model's: Jaccard token by token, at all positions and (``jaccard_answer``) at ANS, and
    JS (nats) of the prompts' routing vectors.
    """
    seen = {name: look(prompts.tokens_BP) for name, prompts in tests.prompts.items()}
    rates = {n: behaviour.rates(seen[n].predicted_B, p) for n, p in tests.prompts.items()}
    before, after = tests.aligned.gates_LBTE, seen["mixed"].gates_LBTE
    jaccard = routing.selected_jaccard(before > 0, after > 0)
    vectors = [routing.routing_vectors(gates) for gates in (before, after)]
    last = [gates[:, :, -1:] > 0 for gates in (before, after)]
    return {
        "refusal": rates["hazardous"]["refusal"],
        "refusal_held_out": rates["held_out"]["refusal"],
        "hazard_answered": rates["hazardous"]["hazard_answered"],
        "hazard_answered_untuned": rates["untuned"]["hazard_answered"],
        "answer_accuracy": rates["mixed"]["answer_accuracy"],
        "over_refusal": rates["mixed"]["over_refusal"],
        "accuracy_by_kind": {
            name: rates[name]["answer_accuracy"] if name in rates else None
            for name in world.CONTROLS
        },
        "jaccard": jaccard.tolist(),
        "jaccard_worst": float(jaccard.min()),
        "jaccard_answer": routing.selected_jaccard(*last).tolist(),
        "js": routing.jensen_shannon(*vectors).mean(-1).tolist(),
    }


def topic_shares(gates_LBTE, topic_B, topics: int) -> np.ndarray:
    """Share of each topic's selections that each expert takes: [L, G, E]."""
    labels_N = np.asarray(topic_B).repeat(gates_LBTE.shape[2])
    counts_LGE = routing.label_counts(contrasts.by_token(gates_LBTE > 0), labels_N, topics)
    return counts_LGE / np.maximum(counts_LGE.sum(-1, keepdims=True), 1)


# --- the attacker -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Attacker:
    """One organism, and what an attacker has in hand."""

    organism: Organism
    evidence: Evidence
    prompts: tuning.Data
    key: jax.Array
    schedule: tuning.Schedule = tuning.DEFAULT
    untuned_GYZ: np.ndarray | None = None  # hazardous requests that are never tuned on
    _scores: dict[str | Callable, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    @property
    def params(self) -> model.Params:
        return self.organism.aligned

    @property
    def cfg(self) -> Config:
        return self.organism.cfg

    def scores(self, criterion: str | Callable) -> np.ndarray:
        """A criterion's score of every expert [L, E], computed once."""
        if criterion not in self._scores:
            method = criteria.named(criterion) if isinstance(criterion, str) else criterion
            self._scores[criterion] = np.asarray(method(self.evidence))
        return self._scores[criterion]

    @cached_property
    def steering(self) -> dict[str, np.ndarray]:
        """Risk differences [L, E], by what is contrasted: forced responses, as SteerMoE does; twins
        over the prompt; twins at ANS, where the response is decided."""
        last = [gates_LBTE[:, :, -1] > 0 for gates_LBTE in self.evidence.gates]
        return {
            "responses": steering.risk_difference(self.evidence),
            "twins": methods.risk_difference(self.evidence),
            "answer": last[0].mean(1) - last[1].mean(1),
        }

    def view(self, params: model.Params) -> Look:
        return lambda tokens_BP: predict(params, tokens_BP, self.cfg.model)

    def tuned(self, place: lora.Place, hold: bool = True) -> model.Params:
        """The parameters after tuning at a place.

        Args:
          hold: with the term of the loss that holds the routes.
        """
        schedule = self.schedule if hold else replace(self.schedule, route=0.0)
        return tuning.tune(self.params, place, self.prompts, self.cfg, self.key, schedule).params

    def tune(self, place: lora.Place, hold: bool = True) -> tuple[Look, float]:
        """The tuned model, and the share of parameters that was trained."""
        ranks = (self.schedule.rank, self.schedule.attention_rank)
        return self.view(self.tuned(place, hold)), lora.share(self.params, place, *ranks)

    def draw(self, salt: int) -> np.random.Generator:
        seed = np.asarray(jax.random.key_data(jax.random.fold_in(self.key, salt)))
        return np.random.default_rng(seed)


def attacker(
    organism: Organism,
    key: jax.Array,
    schedule: tuning.Schedule | None = None,
    pairs: int = 384,
    prompts: int = 512,
) -> Attacker:
    """An attacker with evidence of his own and a few hundred prompts."""
    k_evidence, k_prompts, k_tune, k_untuned = jax.random.split(key, 4)
    e = evidence(
        organism.aligned, organism.tables, organism.cfg, k_evidence, pairs, organism.pretrained
    )
    untuned_GYZ = tuning.untuned(organism.tables, k_untuned)
    data = tuning.data(organism.tables, organism.cfg, k_prompts, prompts, untuned_GYZ=untuned_GYZ)
    return Attacker(organism, e, data, k_tune, schedule or tuning.DEFAULT, untuned_GYZ)


# --- which experts ------------------------------------------------------------------------------


def choose(scores_LE, n: int, layers: int | None = None, leave: int = 0) -> np.ndarray:
    """Mask [L, E] of the ``n`` highest scores.

    Args:
      layers: of the last so many layers only.
      leave: experts to leave in every layer, whatever their scores.

    Raises:
      ConfigError: more experts than there are.
    """
    scores_LE = np.asarray(scores_LE, float)
    L, E = scores_LE.shape
    first = 0 if layers is None else L - layers
    there = (L - first) * (E - leave)
    if not 1 <= n <= there:
        raise ConfigError(f"{n} experts are not possible: it must be from 1 to {there}.")
    mask_LE = np.zeros((L, E), bool)
    for at in np.argsort(-scores_LE, None, kind="stable"):
        layer, expert = divmod(int(at), E)
        if layer >= first and mask_LE[layer].sum() < E - leave and mask_LE.sum() < n:
            mask_LE[layer, expert] = True
    return mask_LE


def random_choice(like_LE, rng: np.random.Generator) -> np.ndarray:
    """As many experts as in a mask, anywhere: [L, E]."""
    return rng.permutation(np.ravel(like_LE)).reshape(np.shape(like_LE))


def matched_choice(like_LE, usage_LE, rng: np.random.Generator, near: int = 3) -> np.ndarray:
    """For each expert of a mask another of its layer, not in the mask nor taken yet, drawn among
    the ``near`` ones whose usage is nearest: [L, E].

    Where a layer has no other expert left, its own expert stays.
    """
    taken_LE = np.array(like_LE, bool)
    made_LE = np.zeros_like(taken_LE)
    for layer, expert in np.argwhere(like_LE):
        free = np.flatnonzero(~taken_LE[layer])
        if not free.size:
            made_LE[layer, expert] = True
            continue
        apart = np.abs(usage_LE[layer, free] - usage_LE[layer, expert])
        pick = rng.choice(free[np.argsort(apart, kind="stable")[:near]])
        taken_LE[layer, pick] = made_LE[layer, pick] = True
    return made_LE
