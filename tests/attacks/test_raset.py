"""Criteria and choices, where the right outcome is known; importing RASET draws nothing."""

import subprocess
import sys

import numpy as np
import pytest

from toymoe.attacks import raset
from toymoe.attribution import CRITERION, REFERENCE, methods


def test_every_studied_criterion_gives_a_score_for_every_expert(e):
    assert {CRITERION, REFERENCE, "random"} < {*raset.studied()}
    for name in raset.studied():
        scores = methods.named(name)(e)
        assert scores.shape == (2, 8) and np.isfinite(scores).all(), name


# --- what it stands on --------------------------------------------------------------------------

DRAWING = ("matplotlib", "toymoe.pages", "toymoe.runs.plots", "toymoe.runs.report",
           "toymoe.runs.painter")  # fmt: skip


@pytest.mark.parametrize("imported", ["toymoe.attacks.raset", "toymoe.attacks.catalogue"])
def test_an_attack_is_imported_without_pages_and_figures(imported):
    code = f"import sys, {imported}; print(*[m for m in {DRAWING} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "\n"


def test_the_page_of_attacks_does_load_them():
    code = f"import sys, toymoe.attacks.report; print(*[m for m in {DRAWING} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "toymoe.pages" in ran.stdout.split()
