"""How JAX is started: the flags added, and those that stay."""

import os

import jax
import pytest

from toymoe import start

LEVEL = "--xla_backend_optimization_level"
DEVICES = "--xla_force_host_platform_device_count"
EMITTERS = "--xla_cpu_use_fusion_emitters"
SCHEDULER = "--xla_cpu_scheduler_type"
ORDER = (
    f" {SCHEDULER}=CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED" if jax.__version_info__ < (0, 13) else ""
)
CHOICE = f" {EMITTERS}=false" if jax.__version_info__ < (0, 11) else ""
REST = ORDER + CHOICE


@pytest.mark.parametrize(
    "given, left",
    [
        (None, f"{LEVEL}=1 {DEVICES}=2{REST}"),
        ("--xla_other=3", f"--xla_other=3 {LEVEL}=1 {DEVICES}=2{REST}"),
        (f"{LEVEL}=3", f"{LEVEL}=3 {DEVICES}=2{REST}"),
        (f"{DEVICES}=4", f"{DEVICES}=4 {LEVEL}=1{REST}"),
        (f"{LEVEL}=3 {DEVICES}=1", f"{LEVEL}=3 {DEVICES}=1{REST}"),
        (f"{SCHEDULER}=X", f"{SCHEDULER}=X {LEVEL}=1 {DEVICES}=2{CHOICE}"),
        (f"{EMITTERS}=true", f"{EMITTERS}=true {LEVEL}=1 {DEVICES}=2{ORDER}"),
    ],
)
def test_what_one_has_set_oneself_stays(given, left, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", given or "")
    monkeypatch.setenv("TOYMOE_XLA_FLAGS", "")
    if given is None:
        monkeypatch.delenv("XLA_FLAGS")
    for _ in range(2):  # a process that this one starts finds the same
        start.set_flags()
        assert os.environ["XLA_FLAGS"] == left
        assert bool(start.training_options()) == bool(CHOICE and EMITTERS not in (given or ""))
