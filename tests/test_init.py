"""What importing the package does to its surroundings."""

import ast
import importlib
import os
from pathlib import Path

import jax
import pytest

import toymoe

LEVEL = "--xla_backend_optimization_level"
FOLDER = Path(toymoe.__file__).parent
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
    monkeypatch.setattr(toymoe, "TRAINING", toymoe.TRAINING)
    for _ in range(2):  # a process that this one starts finds the same
        importlib.reload(toymoe)
        assert os.environ["XLA_FLAGS"] == left
        assert bool(toymoe.TRAINING) == bool(CHOICE and EMITTERS not in (given or ""))


def stages():
    """The modules of the package docstring, with how far down they are."""
    (block,) = (b for b in toymoe.__doc__.split("\n\n") if b.lstrip().startswith("config ->"))
    lists = [stage.split(",") for stage in block.split("->")]
    return {name.strip(): depth for depth, names in enumerate(lists) for name in names}


def imported(path):
    """The modules of toymoe that a file imports, wherever in it."""
    package = path.relative_to(FOLDER).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = (*package[: len(package) + 1 - node.level], *(node.module or "").split("."))
            for name in node.names:
                yield ".".join(filter(None, (*above, name.name)))


def stage_of(module, depth):
    """Its own, or that of its package."""
    while module and module not in depth:
        module = module.rpartition(".")[0]
    return module


def test_the_docstring_s_list_has_every_module_and_none_imports_one_further_down():
    depth, count = stages(), 0
    modules = {
        ".".join(p.relative_to(FOLDER).with_suffix("").parts).removesuffix(".__init__"): p
        for p in FOLDER.rglob("*.py")
        if p != FOLDER / "__init__.py"
    }
    assert {stage_of(module, depth) for module in modules} == set(depth)
    for module, path in modules.items():
        own = stage_of(module, depth)
        for name in imported(path):
            other = stage_of(name, depth)
            assert other == own or not other or depth[other] < depth[own], (module, name)
            count += bool(other)
    assert count > 150
