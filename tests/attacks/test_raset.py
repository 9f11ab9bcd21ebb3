"""Criteria and choices, where the right outcome is known; importing RASET draws nothing."""

import subprocess
import sys

import numpy as np
import pytest

from toymoe.attacks import raset
from toymoe.attribution import CRITERION, REFERENCE, methods
from toymoe.config import ConfigError


def test_every_studied_criterion_gives_a_score_for_every_expert(e):
    assert {CRITERION, REFERENCE, "random"} < {*raset.studied()}
    for name in raset.studied():
        scores = methods.named(name)(e)
        assert scores.shape == (2, 8) and np.isfinite(scores).all(), name


# --- choices ------------------------------------------------------------------------------------

SCORES = np.array([[0.9, 0.1, 0.5, 0.0], [0.4, 0.8, 0.2, 0.3]])


def chosen(mask):
    return set(map(tuple, np.argwhere(mask).tolist()))


def test_the_highest_scores_are_chosen():
    assert chosen(raset.choose(SCORES, 3)) == {(0, 0), (1, 1), (0, 2)}
    assert chosen(raset.choose(SCORES, 3, layers=1)) == {(1, 1), (1, 0), (1, 3)}
    assert raset.choose(SCORES, 8).all()
    assert chosen(raset.choose(SCORES, 4, leave=2)) == {(0, 0), (0, 2), (1, 1), (1, 0)}
    for n, layers in ((0, None), (9, None), (5, 1)):
        with pytest.raises(ConfigError, match=f"{n} experts are not possible"):
            raset.choose(SCORES, n, layers)


def test_random_choices_are_as_many_anywhere():
    like = raset.choose(SCORES, 3)
    rng = np.random.default_rng(0)
    counts = sum(raset.random_choice(like, rng).astype(int) for _ in range(400))
    assert counts.sum() == 1200 and counts.min() > 100


def test_matched_choices_are_others_of_near_usage():
    usage = np.array([[0.1, 0.12, 0.5, 0.9], [0.3, 0.2, 0.6, 0.7]])
    like = np.array([[True, False, False, False], [False, False, True, True]])
    rng = np.random.default_rng(0)
    for _ in range(20):
        made = raset.matched_choice(like, usage, rng, near=1)
        assert chosen(made) == {(0, 1), (1, 0), (1, 1)}
    everything = np.ones((1, 3), bool)
    assert raset.matched_choice(everything, np.ones((1, 3)), rng).all()


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
