"""What importing the package does to its surroundings."""

import importlib
import os

import pytest

import toymoe

LEVEL = "--xla_backend_optimization_level"
DEVICES = "--xla_force_host_platform_device_count"


@pytest.mark.parametrize(
    "given, left",
    [
        (None, f"{LEVEL}=1 {DEVICES}=2"),
        ("--xla_other=3", f"--xla_other=3 {LEVEL}=1 {DEVICES}=2"),
        (f"{LEVEL}=3", f"{LEVEL}=3 {DEVICES}=2"),
        (f"{DEVICES}=4", f"{DEVICES}=4 {LEVEL}=1"),
        (f"{LEVEL}=3 {DEVICES}=1", f"{LEVEL}=3 {DEVICES}=1"),
    ],
)
def test_what_one_has_set_oneself_stays(given, left, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", given or "")
    if given is None:
        monkeypatch.delenv("XLA_FLAGS")
    importlib.reload(toymoe)
    assert os.environ["XLA_FLAGS"] == left
