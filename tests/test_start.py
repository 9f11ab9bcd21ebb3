"""How JAX is started: the flags added, those that stay, and what is said where it does not."""

import os
import subprocess
import sys

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


@pytest.mark.parametrize(
    ("given", "threads"),
    [({}, "2"), ({"PJRT_NPROC": "5"}, "5"), ({"NPROC": "5"}, None)],
)
def test_as_many_threads_whatever_machine_it_is(given, threads, monkeypatch):
    """Or as many as one has said oneself, in either of the variables that XLA reads."""
    for name in ("PJRT_NPROC", "NPROC"):
        monkeypatch.setenv(name, "")  # put back after the test
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    start.set_flags()
    assert os.environ.get("PJRT_NPROC") == threads


@pytest.mark.parametrize(
    ("platforms", "cpu"),
    [(None, True), ("", True), ("cpu", True), ("cpu,cuda", True)]
    + [(other, False) for other in ("cuda", "tpu", "cuda,cpu")],
)
def test_flags_and_options_of_the_processor_are_for_the_processor(platforms, cpu, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_mine=1")
    monkeypatch.setenv("TOYMOE_XLA_FLAGS", "")
    monkeypatch.setenv("JAX_PLATFORMS", platforms or "")
    if platforms is None:
        monkeypatch.delenv("JAX_PLATFORMS")
    start.set_flags()
    assert (os.environ["XLA_FLAGS"] == "--xla_mine=1") is not cpu
    assert (DEVICES in os.environ["XLA_FLAGS"]) is cpu
    assert bool(start.training_options()) is (cpu and bool(CHOICE))
    assert os.environ["JAX_PLATFORMS"] == ("cpu" if platforms is None else platforms)


@pytest.mark.parametrize("own", [None, "bfloat16"])
def test_products_are_whole_float32_unless_you_say_otherwise(own, monkeypatch):
    """Elsewhere than on a processor the default is less."""
    before = getattr(jax.config, start.PRECISION)
    monkeypatch.setenv(start.PRECISION.upper(), own or "")
    if own is None:
        monkeypatch.delenv(start.PRECISION.upper())
    try:
        jax.config.update(start.PRECISION, None)  # JAX was imported before
        start.start_jax()
        assert getattr(jax.config, start.PRECISION) == (own or "highest")
    finally:
        jax.config.update(start.PRECISION, before)


@pytest.mark.parametrize("which", ["", "-1", "two"])
def test_a_process_that_cannot_join_the_others_says_why(which):
    """Nothing says which one it is, or what cannot be."""
    joins = ["sweep", "--together", "--seeds", "0", "--out", "x"]
    settings = {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:9", "JAX_NUM_PROCESSES": "2"}
    done = started("-m", "toymoe.cli", *joins, **settings, JAX_PROCESS_ID=which)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "JAX does not join the processes of 127.0.0.1:9" in done.stderr
    assert "start all of them, by srun or mpirun, or with JAX_NUM_PROCESSES" in done.stderr


PLATFORMS = ("cuda", "nonsense", "cpu,nonsense")
NOT_THERE = f"""
import os
from toymoe import cli
for os.environ["JAX_PLATFORMS"] in {PLATFORMS}:
    print(cli.main(["run", "--out", "x"]))
"""


def test_a_device_that_is_not_there_is_one_sentence():
    """JAX says of the first one only that an assertion failed."""
    done = started("-c", NOT_THERE)
    assert done.stdout.split() == ["2"] * len(PLATFORMS)
    assert done.stderr.splitlines() == [
        f"toymoe: JAX finds nothing that is called {platforms!r}; unset the variable JAX_PLATFORMS "
        "to compute on the processor."
        for platforms in PLATFORMS
    ]


def test_a_setting_that_jax_does_not_take_is_one_sentence():
    done = started(*RUN, JAX_ENABLE_X64="perhaps")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "'JAX_ENABLE_X64'; change or unset that variable." in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space")
def test_a_jax_that_there_is_no_room_for_is_one_sentence():
    limited = "import resource as r, sys; r.setrlimit(r.RLIMIT_AS, (2 * 10**8,) * 2);"
    done = started("-c", f"{limited} from toymoe import cli; sys.exit(cli.main())", *RUN[2:])
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "JAX does not start" in done.stderr and "(`ulimit -v`)." in done.stderr


def test_a_jax_that_cannot_be_imported_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    for platforms in ("cpu", "cuda"):  # which is not what is wrong
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
        with pytest.raises(
            start.StartError, match=r"JAX does not start.*; install it anew"
        ) as told:
            start.start_jax()
        assert "\n" not in str(told.value)


def test_the_processor_is_meant_even_if_jax_was_imported_before():
    code = (
        "import os, jax; os.environ.pop('JAX_PLATFORMS', None); from toymoe import start;"
        "start.start_jax(); print(jax.config.jax_platforms, len(jax.devices()))"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JAX", "XLA", "TOYMOE_XLA"))}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("cpu 2\n", "")


def test_a_cache_that_cannot_be_written_is_no_cache(monkeypatch, tmp_path):
    kept = jax.config.jax_compilation_cache_dir
    (tmp_path / "file").touch()
    for where in (tmp_path / "file", tmp_path / "file" / "cache", "/proc"):
        monkeypatch.setenv("TOYMOE_CACHE", str(where))
        start.start_jax()
        assert jax.config.jax_compilation_cache_dir == kept


RUN = ("-m", "toymoe.cli", "run", "--out", "x")


def started(*argv: str, **settings: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *argv]
    return subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
