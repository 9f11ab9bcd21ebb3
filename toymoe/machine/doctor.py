"""Can this machine run toymoe, and how long will a run take? Found out in about three seconds.

JAX is imported only once everything it needs is known to be there, so a missing or broken JAX is a
finding with advice, not a traceback.
"""

import os
import platform
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import NamedTuple

from .. import start
from ..config import Config, build
from ..start import REINSTALL, StartError, find_devices, your_flags

PYTHON = "3.11"
# Python 3.11 has its own line of JAX. What jaxlib a version of jax allows, it checks itself.
JAX, FLAX = ("0.10", "0.12.7") if sys.version_info < (3, 12) else ("0.11.1", "0.12.10")
MINIMUM = {  # as in pyproject.toml
    "numpy": "2.1",
    "scipy": "1.15",
    "jax": JAX,
    "jaxlib": JAX,
    "flax": FLAX,
    "optax": "0.2.8",
    "matplotlib": "3.10",
    "rich": "13",
}
MEMORY_GB = 1.5  # what a run of the default preset needs

# The machine the estimate is scaled from: two cores of an AMD EPYC server with AVX2, Linux, jax
# 0.10.2. First what `_probe` measures there, then what `toymoe run` takes there, in seconds, at the
# slow end of that machine's pace; ``compile_s`` is what the cache saves a second run.
REFERENCE = {"compile_s": 2.6, "step_s": 0.0187}
RUN = {"compile_s": 37.0, "step_s": 0.044, "rest_s": 30.0}


class Row(NamedTuple):
    """One finding."""

    name: str
    value: str
    ok: bool | None  # None: cannot be told here, or does not matter
    advice: str  # what to do; empty if there is nothing to do


class Report(NamedTuple):
    """What `examine` found."""

    rows: list[Row]
    estimate: dict[str, float] | None  # seconds; None where nothing could be measured
    ok: bool  # whether this machine can run toymoe


def examine() -> Report:
    """Look at Python, packages, processor and memory, and measure how fast JAX is here.

    The estimate is for `toymoe run` with the default preset and an empty compilation cache:
    ``compile_s``, ``train_s``, ``rest_s`` (tracing, measures, figures, report) and their sum
    ``total_s``; ``again_s`` is the total once the cache holds the compiled programs. It scales what
    a run takes on a reference machine (see ``RUN``) by how long one layer's gradient takes to
    compile and to run here, and is good to a factor of about 1.5.
    """
    packages, vectors = [package(name, least) for name, least in MINIMUM.items()], avx()
    flags = xla_flags() if _no_problem(*packages, vectors) else []
    rows = [python(), *packages, system(), cores(), vectors, memory(), *flags]
    if _no_problem(*packages, vectors, *flags):
        row, estimate = jax_works()
    else:
        row, estimate = Row("JAX", "not tried", None, "see above"), None
    return Report([*rows, row], estimate, _no_problem(*rows, row))


def _no_problem(*rows: Row) -> bool:
    return all(row.ok is not False for row in rows)


# --- rows ---------------------------------------------------------------------------------------


def python() -> Row:
    """The Python that runs this."""
    ok = sys.version_info[:2] >= _numbers(PYTHON) and sys.maxsize > 2**32
    advice = "" if ok else f"make the environment with a 64-bit Python {PYTHON} or later"
    return Row("Python", platform.python_version(), ok, advice)


def package(name: str, least: str) -> Row:
    """An installed package and whether it is recent enough."""
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Row(name, "not installed", False, f'pip install "{name}>={least}"')
    ok = _numbers(found) >= _numbers(least)
    return Row(name, found, ok, "" if ok else f'too old: pip install --upgrade "{name}>={least}"')


def _numbers(version: str) -> tuple[int, ...]:
    """1.26.0rc1 -> (1, 26, 0)"""
    return tuple(int(part) for part in re.match(r"[\d.]*", version)[0].split(".") if part)


def system() -> Row:
    """Operating system and kind of processor."""
    name, machine = platform.system(), platform.machine()
    if (name, machine) == ("Darwin", "x86_64"):
        advice = "recent versions of JAX have no builds for Intel Macs: use another machine"
        return Row("system", f"{name} {machine}", False, advice)
    return Row("system", f"{name} {machine}", True, "")


def cores() -> Row:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        n = len(os.sched_getaffinity(0))
    else:
        n = os.cpu_count() or 1
    return Row("cores", str(n), True, "" if n > 1 else "it works with one; two are faster")


def avx() -> Row:
    """Vector instructions: on x86 processors, jaxlib stops without AVX."""
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return Row("AVX", f"not needed on {platform.machine()}", True, "")
    flags = _cpu_flags()
    if flags is None:
        return Row("AVX", "unknown", None, "JAX needs AVX: any x86 processor since 2013 has it")
    has = [name for name in ("avx", "avx2") if name in flags]
    if not has:
        advice = "JAX cannot run on this processor: use another machine (or let the VM pass AVX on)"
        return Row("AVX", "none", False, advice)
    advice = "" if "avx2" in has else "it works without AVX2, at about half the speed"
    return Row("AVX", ", ".join(name.upper() for name in has), True, advice)


def _cpu_flags() -> set[str] | None:
    """Names of the processor's features, lower case; None if they cannot be read."""
    try:
        if sys.platform == "darwin":
            names = ("machdep.cpu.features", "machdep.cpu.leaf7_features")
            text = subprocess.run(
                ["sysctl", "-n", *names], capture_output=True, text=True, timeout=5
            ).stdout
            # macOS names AVX "AVX1.0".
            return set(text.lower().replace("avx1.0", "avx").split()) or None
        text = Path("/proc/cpuinfo").read_text()
    except (OSError, subprocess.SubprocessError):
        return None
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return set(flags[1].lower().split()) if flags else None


def memory() -> Row:
    """Memory, as far as this process may use it."""
    available = start.memory()
    if available is None:
        return Row("memory", "unknown", None, f"a run needs {MEMORY_GB} GB")
    gb = available / 1e9
    advice = f"a run needs {MEMORY_GB} GB: close other programs, or use a smaller train.batch"
    ok = gb >= MEMORY_GB
    return Row("memory", f"{gb:.1f} GB available", ok, "" if ok else advice)


def xla_flags() -> list[Row]:
    """Whether XLA knows your flags; no row if you have none. A second process tries them, since XLA
    ends one in which it meets another."""
    if not your_flags():
        return []
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    said = subprocess.run(command, capture_output=True, text=True).stderr
    fatal = re.search(r"^F\d{4} .*?parse_flags\S+ (.{,80})", said, re.MULTILINE)
    if fatal is None:
        return [Row("XLA_FLAGS", " ".join(your_flags()), True, "")]
    advice = "change or unset XLA_FLAGS: XLA ends any process that finds this there"
    return [Row("XLA_FLAGS", fatal[1], False, advice)]


def jax_works() -> tuple[Row, dict[str, float] | None]:
    """Whether JAX finds a device and computes on it, and if so the estimate."""
    try:
        find_devices()
        return Row("JAX", "compiles and computes", True, ""), estimated(*_probe())
    except StartError as error:
        return Row("JAX", error.what, False, error.advice), None
    except Exception as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        return Row("JAX", what, False, REINSTALL), None


# --- how long -----------------------------------------------------------------------------------


def _probe(seconds: float = 1.0) -> tuple[float, float]:
    """Seconds to compile, and to compute, the gradient of a one-layer model on a default batch."""
    import jax
    import jax.numpy as jnp

    from .. import world
    from ..training import objective, phases

    cfg = build(overrides={"model.layers": 1})
    shapes = jax.eval_shape(lambda: phases.fresh_params(jax.random.key(0), cfg))
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1, leaf.dtype), shapes)
    tokens_BT = jnp.full((cfg.train.batch, len(world.roles(cfg.world))), world.BOS)
    salt = time.time_ns() % 1_000_003  # another program each time, so that no cache knows it
    gradient = jax.jit(jax.grad(lambda params: objective.loss(params, tokens_BT, cfg) * (1 + salt)))
    begin = time.perf_counter()
    jax.block_until_ready(gradient(params))
    compile_s = time.perf_counter() - begin
    times, begin = [], time.perf_counter()
    while not times or time.perf_counter() - begin < seconds:
        before = time.perf_counter()
        jax.block_until_ready(gradient(params))
        times.append(time.perf_counter() - before)
    return compile_s, median(times)


def estimated(compile_s: float, step_s: float) -> dict[str, float]:
    """Seconds a run takes where the probe takes these times to compile and to compute."""
    cfg = Config()
    slower, steps = compile_s / REFERENCE["compile_s"], cfg.pretrain.steps
    parts = {
        "compile_s": RUN["compile_s"] * slower,
        "train_s": (steps + cfg.align.steps) * RUN["step_s"] * step_s / REFERENCE["step_s"],
        "rest_s": RUN["rest_s"] * slower,
    }
    total = sum(parts.values())
    return parts | {"total_s": total, "again_s": total - parts["compile_s"]}
