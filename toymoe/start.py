"""How commands and lessons start JAX: flags for XLA, and a cache of compiled programs.

`import toymoe` changes nothing; `start_jax` does, and before JAX first looks for devices, or the
flags come too late. What you set yourself stays. `memory` is how much there is for it.
"""

import os
import re
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .errors import ToymoeError

CACHE = "TOYMOE_CACHE"  # names the folder of compiled programs, or is "off"
REINSTALL = "install it anew: pip install --force-reinstall jax jaxlib flax optax"
MORE_MEMORY = "close other programs, or raise the limit on memory (`ulimit -v`)"
# How many threads share out a matmul decides how its sums round: with one for every core, as XLA
# has it, machines of two kinds would train two models. With two, one for each simulated device,
# many processes on many cores do not crowd each other either (docs/many.md).
THREADS = "2"
COORDINATOR = "JAX_COORDINATOR_ADDRESS"
PRECISION = "jax_default_matmul_precision"
_ADDED = "TOYMOE_XLA_FLAGS"  # what the process that started this one added to XLA_FLAGS
_EMITTERS = "xla_cpu_use_fusion_emitters"

# XLA ends a process that names a flag it does not know, so two flags depend on its version.
try:
    _VERSION = tuple(map(int, version("jaxlib").split(".")[:2]))
except PackageNotFoundError:
    _VERSION = (99, 0)  # `toymoe doctor` says so


class StartError(ToymoeError):
    """JAX does not start here: what it does, and what to do about it."""

    def __init__(self, what: str, advice: str):
        super().__init__(f"JAX {what}; {advice}.")
        self.what, self.advice = what, advice


def your_flags() -> list[str]:
    """The flags of XLA_FLAGS that toymoe did not add."""
    added = os.environ.get(_ADDED, "").split()
    return [flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag not in added]


def on_cpu() -> bool:
    """Whether JAX is to compute on the processor, which is what the flags here are meant for."""
    return os.environ.get("JAX_PLATFORMS", "").split(",")[0] in ("", "cpu")


def _flags() -> dict[str, int | str]:
    # At optimisation level 1 of 3 `toymoe run` compiles for a quarter less time, and a training
    # step takes as long. The second simulated device is the second worker of `toymoe.training`:
    # two devices use two cores better than the matmuls of one device do (docs/tuning.md).
    flags = {"--xla_backend_optimization_level": 1, "--xla_force_host_platform_device_count": 2}
    # One operation after the other, with few buffers, instead of many at once: these are too small
    # to share out, and training steps are a twentieth faster (docs/tuning.md). Up to jaxlib 0.12.
    if _VERSION < (0, 13):
        flags["--xla_cpu_scheduler_type"] = "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"
    # Without XLA's fusion emitters most programs compile in about two thirds of the processor time.
    # From jaxlib 0.11 on there is no choice.
    if _VERSION < (0, 11):
        flags[f"--{_EMITTERS}"] = "false"
    return flags


def training_options() -> dict[str, bool]:
    """Compiler options of the training loop: it has the fusion emitters, since without them it
    rounds otherwise, and every table of the docs would have to be made anew."""
    free = _VERSION < (0, 11) and not any(_EMITTERS in flag for flag in your_flags())
    return {_EMITTERS: True} if free and on_cpu() else {}


def set_flags() -> None:
    """Set what you have not set yet in the variables of XLA and JAX; JAX need not be there."""
    yours, flags = your_flags(), _flags() if on_cpu() else {}
    ours = [f"{name}={x}" for name, x in flags.items() if not any(name in f for f in yours)]
    os.environ[_ADDED] = " ".join(ours)
    os.environ["XLA_FLAGS"] = " ".join(yours + ours)
    if "NPROC" not in os.environ:
        os.environ.setdefault("PJRT_NPROC", THREADS)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # The same bits as without on a processor; GPUs and TPUs would round to fewer (TF32, bfloat16).
    os.environ.setdefault(PRECISION.upper(), "highest")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def find_devices() -> None:
    """Import JAX and let it look for devices, which it else does at its first computation.

    It does what JAX_PLATFORMS and JAX_DEFAULT_MATMUL_PRECISION say now, even if it was imported
    before they were set.

    Raises:
      StartError: it finds none, or cannot be imported.
    """
    try:
        import jax

        jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS") or None)
        jax.config.update(PRECISION, os.environ.get(PRECISION.upper()) or None)
        jax.devices()
    except Exception as error:  # whatever a broken installation comes up with
        wanted = os.environ.get("JAX_PLATFORMS", "")
        if wanted not in ("", "cpu") and not isinstance(error, ImportError):
            what = f"finds nothing that is called {wanted!r}"
            advice = "unset the variable JAX_PLATFORMS to compute on the processor"
        else:
            what = f"does not start: {type(error).__name__}: {error}".splitlines()[0]
            wrong_setting = isinstance(error, ValueError)  # such as JAX_ENABLE_X64=perhaps
            advice = "change or unset that variable" if wrong_setting else REINSTALL
            advice = MORE_MEMORY if lacks_memory(error) else advice
        raise StartError(what, advice) from error


def join_others() -> None:
    """Wait for the other processes of one program: how many they are, and which this one is, say
    SLURM, MPI or the variables JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises:
      StartError: nothing says so, or they do not come.
    """
    import jax

    try:
        n, which = (os.environ.get(f"JAX_{name}") for name in ("NUM_PROCESSES", "PROCESS_ID"))
        jax.distributed.initialize(num_processes=n and int(n), process_id=which and int(which))
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise StartError(
            f"does not join the processes of {os.environ[COORDINATOR]} ({said})",
            "start all of them, by srun or mpirun, or with JAX_NUM_PROCESSES and JAX_PROCESS_ID",
        ) from error


def start_jax(join: bool = False) -> None:
    """Quiet JAX on the processor, which keeps compiled programs between starts.

    Args:
      join: one of the processes that JAX_COORDINATOR_ADDRESS names the first of, if it names one.

    Raises:
      StartError: see `find_devices`, `join_others`.
    """
    set_flags()
    if join and os.environ.get(COORDINATOR):
        join_others()
    find_devices()
    import jax

    where = os.environ.get(CACHE, "")
    if where.lower() in ("off", "0", "no", "false"):
        return
    try:
        folder = Path(where).expanduser() if where else _usual_cache()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # or JAX would complain of every program
            pass
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return  # no cache is slower, not wrong
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def lacks_memory(error: Exception) -> bool:
    """Whether there was no room for an array, a thread or a library; each has words of its own."""
    words = "RESOURCE_EXHAUSTED|can't start new thread|failed to map segment|cannot allocate memory"
    return isinstance(error, MemoryError) or bool(re.search(words, str(error), re.IGNORECASE))


def memory() -> int | None:
    """Bytes of memory this process may use, if the system says: on Linux what is available, and no
    more than a container allows; elsewhere all there is."""
    limits = []
    try:
        found = re.search(r"^MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
        limits.append(int(found[1]) * 1024)
    except (OSError, TypeError):
        try:
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (AttributeError, OSError, ValueError):
            return None
    try:
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no container, or "max": no limit
        pass
    return min(limits)


def _usual_cache() -> Path:
    """Where this system keeps what can be made again."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "toymoe"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "toymoe"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "toymoe"
