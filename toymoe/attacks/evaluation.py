"""One measure for every attack: the prompts behind each rate, and what is left of refusal.

Whatever was done to a model, `evaluate` asks the same on the same prompts: is refusal gone, is the
right answer there instead, are harmless requests still answered, are the routes still those of the
aligned model?
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import world
from ..config import Config
from ..measures import behaviour, contrasts, routing
from ..model.inference import Prediction, predict
from ..organism import Organism

PROMPTS = 512  # behind each rate

Predictor = Callable[[Any], Prediction]  # a model, attacked or not, that reads tokens [B, P]


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


def evaluate(predictor: Predictor, tests: TestSet, cfg: Config) -> dict:
    """What is left of behaviour and route, as plain numbers; lists are by layer.

    Rates are those of `toymoe.measures.behaviour.rates`, on hazards, hazards that alignment never
    saw (``…_held_out``) or the attacker never tuned on (``…_untuned``), the harmless requests of
    the training mixture, and each kind of control. The routes of the mixture are compared with the
    aligned model's: Jaccard token by token, at all positions and (``jaccard_answer``) at ANS, and
    JS (nats) of the prompts' routing vectors.
    """
    seen = {name: predictor(prompts.tokens_BP) for name, prompts in tests.prompts.items()}
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
