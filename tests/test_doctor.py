"""The doctor on healthy, broken and pretended machines."""

import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from toymoe import doctor

pytestmark = pytest.mark.core

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def named(report):
    return {row.name: row for row in report.rows}


# --- all of it ----------------------------------------------------------------------------------


def test_a_machine_that_runs_the_tests_can_run_it():
    report = doctor.examine()
    rows = named(report)
    packages = "numpy scipy jax jaxlib flax optax matplotlib rich".split()
    assert list(rows) == ["Python", *packages, "system", "cores", "AVX", "memory", "JAX"]
    assert all(rows[name].value == metadata.version(name) for name in packages)
    assert all(rows[name].ok for name in ("Python", *packages, "JAX"))
    assert report.ok == all(row.ok is not False for row in report.rows)
    parts = [report.estimate[name] for name in ("compile_s", "train_s", "rest_s")]
    assert min(parts) > 0 and report.estimate["total_s"] == pytest.approx(sum(parts))
    assert report.estimate["again_s"] == pytest.approx(sum(parts[1:]))


def test_a_broken_jax_is_a_finding(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)  # importing it is an ImportError
    report = doctor.examine()
    row = named(report)["JAX"]
    assert row.ok is False and not report.ok and report.estimate is None
    assert "Error: " in row.value and "jax" in row.value and "\n" not in row.value
    assert row.advice.startswith("install it anew: pip install")


def test_a_jax_that_fails_at_work_is_a_finding(monkeypatch):
    def probe():
        raise RuntimeError("jaxlib version 0.1 is newer\nthan and incompatible with")

    monkeypatch.setattr(doctor, "_probe", probe)
    row = named(doctor.examine())["JAX"]
    assert row.value == "RuntimeError: jaxlib version 0.1 is newer" and row.ok is False


@pytest.mark.parametrize("missing", ["jax", "jaxlib", "rich"])
def test_a_missing_package_is_a_finding_and_jax_is_left_alone(monkeypatch, missing):
    real = metadata.version

    def version(name):
        if name == missing:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor, "_probe", lambda: pytest.fail("tried"))
    report = doctor.examine()
    rows = named(report)
    assert not report.ok and report.estimate is None
    least = doctor.MINIMUM[missing]
    expected = (missing, "not installed", False, f'pip install "{missing}>={least}"')
    assert rows[missing] == expected
    assert [row.name for row in report.rows if row.ok is False and row.name != "memory"] == [
        missing
    ]
    assert rows["JAX"].ok is None and rows["JAX"].value == "not tried"


def test_without_avx_jax_is_left_alone(monkeypatch):
    """Importing it would end the process on an illegal instruction."""
    monkeypatch.setattr(doctor.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(doctor, "_cpu_flags", lambda: {"sse2"})
    monkeypatch.setattr(doctor, "_probe", lambda: pytest.fail("tried"))
    report = doctor.examine()
    assert not report.ok and named(report)["JAX"].ok is None


def test_the_doctor_comes_without_jax():
    code = "import sys; import toymoe.doctor; print('jax' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


MISSING = """
import importlib.metadata as metadata, sys
def version(name, known=metadata.version):
    if name == {name!r}:
        raise metadata.PackageNotFoundError(name)
    return known(name)
metadata.version = version
sys.modules[{name!r}] = None
from toymoe import cli
sys.exit(cli.main(["doctor"]))
"""


@pytest.mark.parametrize("name", ["jaxlib", "rich"])
def test_what_is_missing_is_named_by_the_command(name):
    code, settings = MISSING.format(name=name), {"COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | settings
    )
    assert done.returncode == 1 and not done.stderr
    assert "not installed" in done.stdout and f'pip install "{name}>=' in done.stdout


# --- versions -----------------------------------------------------------------------------------


def test_minimums_are_those_of_pyproject():
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    lines = map(Requirement, project["dependencies"])
    here = [line for line in lines if not line.marker or line.marker.evaluate()]
    declared = {line.name: str(line.specifier).removeprefix(">=") for line in here}
    assert {name: least for name, least in doctor.MINIMUM.items() if name != "jaxlib"} == declared
    assert doctor.MINIMUM["jaxlib"] == declared["jax"]
    assert project["requires-python"] == f">={doctor.PYTHON}"


@pytest.mark.parametrize(
    ("found", "ok"),
    [
        ("0.2.5", True),
        ("0.2.5rc1", True),
        ("0.2.10", True),
        ("0.3", True),
        ("1.0.dev20260101+local", True),
        ("0.2.4", False),
        ("0.2", False),
        ("0.1.99", False),
    ],
)
def test_versions_compare_as_numbers(monkeypatch, found, ok):
    monkeypatch.setattr(doctor.metadata, "version", lambda name: found)
    advice = "" if ok else 'too old: pip install --upgrade "optax>=0.2.5"'
    assert doctor.package("optax", "0.2.5") == ("optax", found, ok, advice)


@pytest.mark.parametrize(
    ("version", "bits", "ok"),
    [((3, 11, 0), 63, True), ((3, 14, 1), 63, True), ((3, 10, 9), 63, False), ((3, 12), 31, False)],
)
def test_python(monkeypatch, version, bits, ok):
    monkeypatch.setattr(doctor.sys, "version_info", version)
    monkeypatch.setattr(doctor.sys, "maxsize", 2**bits - 1)
    row = doctor.python()
    assert row.ok is ok and ("64-bit Python 3.11 or later" in row.advice) is not ok


# --- the machine --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "flags", "value", "ok"),
    [
        ("x86_64", {"avx", "avx2", "sse"}, "AVX, AVX2", True),
        ("AMD64", {"avx"}, "AVX", True),
        ("x86_64", {"sse", "avxlike"}, "none", False),
        ("x86_64", None, "unknown", None),
        ("arm64", None, "not needed on arm64", True),
    ],
)
def test_avx(monkeypatch, machine, flags, value, ok):
    monkeypatch.setattr(doctor.platform, "machine", lambda: machine)
    monkeypatch.setattr(doctor, "_cpu_flags", lambda: flags)
    row = doctor.avx()
    assert (row.value, row.ok) == (value, ok)
    assert bool(row.advice) == (value in ("AVX", "none", "unknown"))


CPUINFO = "processor\t: 0\nflags\t\t: fpu sse2 AVX avx2\nbugs\t\t: none\n\nprocessor\t: 1\n"


def files(monkeypatch, contents):
    """Only these files exist."""

    def read_text(path):
        if str(path) not in contents:
            raise FileNotFoundError(path)
        return contents[str(path)]

    monkeypatch.setattr(doctor.Path, "read_text", read_text)


def test_flags_on_linux(monkeypatch):
    monkeypatch.setattr(doctor.sys, "platform", "linux")
    files(monkeypatch, {"/proc/cpuinfo": CPUINFO})
    assert doctor._cpu_flags() == {"fpu", "sse2", "avx", "avx2"}
    files(monkeypatch, {"/proc/cpuinfo": "processor: 0\n"})
    assert doctor._cpu_flags() is None
    files(monkeypatch, {})
    assert doctor._cpu_flags() is None


def test_flags_on_a_mac(monkeypatch):
    monkeypatch.setattr(doctor.sys, "platform", "darwin")

    def sysctl(output):
        def run(command, **_):
            assert command[:2] == ["sysctl", "-n"]
            return subprocess.CompletedProcess(command, 0, output, "")

        monkeypatch.setattr(doctor.subprocess, "run", run)

    sysctl("FPU SSE2 AVX1.0\nRDWRFSGSBASE AVX2\n")
    assert {"avx", "avx2"} <= doctor._cpu_flags()
    sysctl("")
    assert doctor._cpu_flags() is None


@pytest.mark.parametrize(
    ("contents", "value", "ok"),
    [
        ({"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  4000000 kB\n"}, "4.1 GB", True),
        ({"/proc/meminfo": "MemAvailable: 1000000 kB\n"}, "1.0 GB", False),
        (
            {
                "/proc/meminfo": "MemAvailable: 4000000 kB\n",
                "/sys/fs/cgroup/memory.max": "1200000000\n",
            },
            "1.2 GB",
            False,
        ),
        (
            {"/proc/meminfo": "MemAvailable: 4000000 kB\n", "/sys/fs/cgroup/memory.max": "max\n"},
            "4.1 GB",
            True,
        ),
        ({}, "8.2 GB", True),
    ],
)
def test_memory(monkeypatch, contents, value, ok):
    files(monkeypatch, contents)
    sizes = {"SC_PHYS_PAGES": 2_000_000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(doctor.os, "sysconf", sizes.__getitem__, raising=False)
    row = doctor.memory()
    assert (row.value, row.ok) == (f"{value} available", ok)
    assert ("needs 1.5 GB" in row.advice) is not ok


def test_memory_that_cannot_be_told(monkeypatch):
    files(monkeypatch, {})
    monkeypatch.delattr(doctor.os, "sysconf", raising=False)
    assert doctor.memory()[1:3] == ("unknown", None)


def test_cores(monkeypatch):
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert doctor.cores()[1:] == ("3", True, "")
    monkeypatch.delattr(doctor.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 1)
    assert doctor.cores()[1:] == ("1", True, "it works with one; two are faster")


@pytest.mark.parametrize(
    ("name", "machine", "ok"),
    [("Darwin", "x86_64", False), ("Darwin", "arm64", True), ("Linux", "x86_64", True)],
)
def test_system(monkeypatch, name, machine, ok):
    monkeypatch.setattr(doctor.platform, "system", lambda: name)
    monkeypatch.setattr(doctor.platform, "machine", lambda: machine)
    assert doctor.system()[1:3] == (f"{name} {machine}", ok)


# --- how long -----------------------------------------------------------------------------------


def test_estimate_scales_with_the_probe():
    reference = doctor.estimated(**doctor.REFERENCE)
    assert reference["compile_s"] == doctor.RUN["compile_s"]
    assert reference["rest_s"] == doctor.RUN["rest_s"]
    slow = doctor.estimated(2 * doctor.REFERENCE["compile_s"], 3 * doctor.REFERENCE["step_s"])
    for name, factor in [("compile_s", 2), ("rest_s", 2), ("train_s", 3)]:
        assert slow[name] == pytest.approx(factor * reference[name])
