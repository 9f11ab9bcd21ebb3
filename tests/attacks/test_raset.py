"""Criteria and choices, where the right outcome is known; importing RASET draws nothing."""

import dataclasses
import subprocess
import sys

import jax
import numpy as np

from toymoe.attacks import raset, tuning
from toymoe.attacks.attacker import Attacker
from toymoe.attribution import CRITERION, REFERENCE, methods


def test_every_studied_criterion_gives_a_score_for_every_expert(e):
    assert {CRITERION, REFERENCE, "random"} < {*raset.studied()}
    for name in raset.studied():
        scores = methods.named(name)(e)
        assert scores.shape == (2, 8) and np.isfinite(scores).all(), name


def test_an_expert_alone_is_tuned_as_far_as_the_first_look(organism, e, monkeypatch):
    given = []

    def tune(params, trainable, prompts, cfg, key, schedule):
        given.append((trainable, schedule))
        return params

    monkeypatch.setattr(tuning, "tune", tune)
    schedule = tuning.Schedule(steps=60, check=7, batch=5)
    a = Attacker(organism, e, None, jax.random.key(0), schedule)
    said = raset.alone(a, 1, 3).predictor(e.hazards.tokens_BP)
    (trainable, used) = given[0]
    assert np.argwhere(trainable.experts).tolist() == [[1, 3]] and not any(trainable[1:])
    assert used == dataclasses.replace(schedule, steps=7) and a.schedule == schedule
    np.testing.assert_array_equal(said.predicted_B, e.answers[0].predicted_B)


# --- what it stands on --------------------------------------------------------------------------

DRAWING = ("matplotlib", "toymoe.pages", "toymoe.runs.plots", "toymoe.runs.report",
           "toymoe.runs.painter")  # fmt: skip
LOADED = """
import importlib, sys
for name in ("toymoe.attacks.raset", "toymoe.attacks.catalogue", "toymoe.attacks.report"):
    importlib.import_module(name)
    print(*sys.modules)
"""


def test_an_attack_is_imported_without_pages_and_figures_which_its_own_page_loads():
    ran = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    attack, every, page = (line.split() for line in ran.stdout.splitlines())
    assert "toymoe.attacks.raset" in attack and "toymoe.organism.stored" in attack
    assert [name for name in attack if name.startswith(("toymoe.runs", *DRAWING))] == []
    assert "toymoe.attacks.catalogue" in every and not {*DRAWING} & {*every}
    assert "toymoe.pages" in page
