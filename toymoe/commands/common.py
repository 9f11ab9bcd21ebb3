"""What several commands share: the settings given, and how JAX is started."""

import os
import sys
from pathlib import Path

from ..config import Config, ConfigError, build

CACHE = "TOYMOE_CACHE"


def config_of(args, seed="0") -> Config:
    overrides = {}
    for pair in args.set:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair!r} is not possible: write NAME=VALUE.")
        if name == "seed":
            raise ConfigError(
                "the seed is not set with --set: use --seed (run) or --seeds (sweep)."
            )
        overrides[name] = value
    if not str(seed).isdecimal() or len(str(seed)) > 10:
        raise ConfigError(f"--seed {seed} is not possible: it must be a whole number from 0 on.")
    return build(args.preset or "default", int(seed), overrides)


def start_jax() -> None:
    """Quiet JAX, and let it keep compiled programs between starts."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import jax

    where = os.environ.get(CACHE, "")
    if where.lower() in ("off", "0", "no", "false"):
        return
    try:
        folder = Path(where).expanduser() if where else _usual_cache()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return  # no cache is slower, not wrong
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _usual_cache() -> Path:
    """Where this system keeps what can be made again."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "toymoe"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "toymoe"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "toymoe"
