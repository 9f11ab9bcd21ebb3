"""toymoe: a toy mixture-of-experts language model to watch, dissect, edit and defend.

Data flows one way through the modules, and no module imports one further down:

    config -> world -> moe -> taps -> probe -> model -> reading -> behaviour, routing
           -> optimiser -> train, checkpoint
           -> measure -> history
           -> evidence -> ablation, decomposition, patching -> swaps -> attribution -> inside
           -> paper, captions -> plots -> inside_plots -> drawing, report -> runner
           -> sweep -> studies -> planted -> validate
           -> adapters -> tuning, criteria, steering -> raset -> arms, raset_plots -> raset_run
           -> raset_report, defended -> defences -> defences_run -> defences_report
           -> seeds, bench, doctor, screen, notebook, checks -> grading
           -> commands.common -> organism, lesson, lesson_plots -> commands -> cli

Axis letters, the same everywhere (einsum strings use them in lower case)::

    B prompts        T positions       D model width       H heads
    K head width     E experts         F expert width      V vocabulary
    L layers         S seeds or steps  N tokens (B * T)    A selected experts
    G topics

An array called ``gates_LBTE`` has the axes layer, prompt, position, expert.
"""

import os
from importlib.metadata import PackageNotFoundError, version

__version__ = "0.1.0"

# Read when JAX first looks for devices; what you set yourself stays. At optimisation level 1 of 3
# `toymoe run` compiles for a quarter less time, and a training step takes as long. The second
# simulated device is the second worker of `toymoe.train`: two devices use two cores better than
# the matmuls of one device do (docs/tuning.md).
_flags = {"--xla_backend_optimization_level": 1, "--xla_force_host_platform_device_count": 2}

# XLA ends a process that names a flag it does not know, so two flags depend on its version.
try:
    _version = tuple(map(int, version("jaxlib").split(".")[:2]))
except PackageNotFoundError:
    _version = (99, 0)  # `toymoe doctor` says so

# One operation after the other, with few buffers, instead of many at once: these are too small to
# share out, and training steps are a twentieth faster (docs/tuning.md). Known up to jaxlib 0.12.
if _version < (0, 13):
    _flags["--xla_cpu_scheduler_type"] = "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"

# Without XLA's fusion emitters most programs compile in about two thirds of the processor time.
# The training loop has them (`TRAINING`), since without them it rounds otherwise, and every table
# of the docs would have to be made anew. From jaxlib 0.11 on there is no choice.
TRAINING: dict[str, bool] = {}  # compiler options of that loop
_EMITTERS = "xla_cpu_use_fusion_emitters"

# What stands there already is yours, but for what the process that started this one added.
_added = os.environ.get("TOYMOE_XLA_FLAGS", "").split()
_yours = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag not in _added]
if _version < (0, 11):
    _flags[f"--{_EMITTERS}"] = "false"
    if not any(_EMITTERS in flag for flag in _yours):
        TRAINING = {_EMITTERS: True}
_ours = [f"{name}={x}" for name, x in _flags.items() if not any(name in flag for flag in _yours)]
os.environ["TOYMOE_XLA_FLAGS"] = " ".join(_ours)
os.environ["XLA_FLAGS"] = " ".join(_yours + _ours)
