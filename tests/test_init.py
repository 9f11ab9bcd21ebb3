"""What importing the package does to its surroundings."""

import importlib
import os

import pytest

import toymoe

OURS = "--xla_backend_optimization_level"


@pytest.mark.parametrize(
    "given, left",
    [
        (None, f"{OURS}=1"),
        ("--xla_other=3", f"--xla_other=3 {OURS}=1"),
        (f"{OURS}=3", f"{OURS}=3"),
    ],
)
def test_a_level_of_optimisation_of_ones_own_stays(given, left, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", given or "")
    if given is None:
        monkeypatch.delenv("XLA_FLAGS")
    importlib.reload(toymoe)
    assert os.environ["XLA_FLAGS"] == left
