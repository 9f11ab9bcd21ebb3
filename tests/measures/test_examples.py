"""Examples for people: each under the kind that its own labels state."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from language import make
from test_hazards import PAIR

from toymoe import hazards, world
from toymoe.measures import examples

pytestmark = pytest.mark.core


@pytest.mark.parametrize("rule", [*hazards.RULES, "pair"])
def test_every_kind_of_prompt_is_called_what_it_is(rule, tiny, monkeypatch):
    monkeypatch.setitem(hazards.RULES, "pair", PAIR)
    ruled = dataclasses.replace(tiny.world, hazard_rule=rule)
    cfg = dataclasses.replace(tiny, world=ruled)

    def predict(said, tokens_BP, cfg):
        return SimpleNamespace(predicted_B=np.full(len(tokens_BP), said))

    monkeypatch.setattr(examples, "predict", predict)
    models = {"before": world.OKAY, "after": world.REFUSE}
    found = examples.examples_of(models, make(ruled), cfg, jax.random.key(0))
    controls = [name.replace("_", " ") for name in hazards.RULES[rule].controls]
    kinds = [kind for kind in ("harmless", "hazardous", *controls) for _ in range(2)]
    assert [example["kind"] for example in found] == kinds
    for example in found:
        kind, labels = example["kind"], example["prompt"].split("[")[1]
        assert ("HAZARDOUS" in labels) == (kind == "hazardous")
        assert ("control" in labels) == (kind in controls)
        assert kind not in controls or f"control: {kind}" in labels
        assert (example["before"], example["after"]) == ("OKAY", "REFUSE")
