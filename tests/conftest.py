"""What several test modules share: one tiny run, whose every size is small or odd."""

import atexit
import gc
import os
import re
import shutil
import tempfile
import time
from contextlib import AbstractContextManager
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest
from xdist.scheduler import LoadFileScheduling

# Nearly every test compiles for longer than it runs, so training compiles like the rest, and no
# program is compiled in pieces: that shares one out among cores, but costs more on all of them.
if jax.__version_info__ < (0, 13):  # XLA ends a process that names a flag it does not know
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_parallel_codegen_split_count=1".strip()
    )
if jax.__version_info__ < (0, 11):
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

from toymoe.start import PRECISION, set_flags

set_flags()  # before JAX looks for devices, and training for its compiler options
jax.config.update(PRECISION, "highest")

from toymoe import world
from toymoe.config import Config, EvalConfig, ModelConfig, TrainConfig, WorldConfig, build
from toymoe.runs import runner
from toymoe.training import objective, phases

# Tracing makes many objects and few cycles, among the hundreds of thousands that stay.
gc.set_threshold(10_000, 20, 20)

UNOPTIMISED = "jax_disable_most_optimizations"
jax.config.update(UNOPTIMISED, True)
os.environ[UNOPTIMISED.upper()] = "1"  # of the processes that tests start, too

# What one process of the suite has compiled, no other compiles again, nor one that a test starts.
os.environ["TOYMOE_CACHE"] = "off"  # yours
PROGRAMS = {
    "jax_compilation_cache_dir": os.environ.get("JAX_COMPILATION_CACHE_DIR"),
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
if "PYTEST_XDIST_WORKER" not in os.environ:
    PROGRAMS["jax_compilation_cache_dir"] = tempfile.mkdtemp(prefix="toymoe-tests-")
    atexit.register(shutil.rmtree, PROGRAMS["jax_compilation_cache_dir"], ignore_errors=True)
for _name, _value in PROGRAMS.items():
    jax.config.update(_name, _value)
    os.environ[_name.upper()] = str(_value)

SMALL = {
    "model.width": 8,
    "model.heads": 2,
    "model.experts": 4,
    "model.expert_width": 4,
    "world.context": 3,
    "pretrain.steps": 6,
    "align.steps": 6,
    "train.batch": 8,
    "train.chunk": 3,
    "eval.prompts": 16,
    "eval.routing_prompts": 16,
}


# Fixtures that cost much: the files that name the same one run in the same process.
COSTLY = ("small_run", "taught")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """The tests of a file run in one process, those of some files in the same one."""

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return _costly_fixture(config.rootpath / file) or file

    return Together(config, log)


@cache
def _costly_fixture(file: Path) -> str | None:
    """The one that a file names, or the fixtures that its room shares."""
    files = [file, file.with_name("conftest.py")]
    texts = [f.read_text("utf-8") for f in files if f.exists() and f != Path(__file__)]
    return next((name for name in COSTLY if re.search(rf"\b{name}\b", "".join(texts))), None)


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Before there are too many of them: a compiled program takes dozens of memory maps, and a
    process that asks Linux for more than 65,530 ends in a segmentation fault."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 15_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def tiny() -> Config:
    """A conjunction world whose words each belong to one topic, and a model of two layers."""
    return Config(
        WorldConfig(
            topics=4,
            hazardous_topics=2,
            context=5,
            words=4,
            overlap=0.0,
            verbs=4,
            hazardous_verbs=2,
            entities=5,
            hazardous_entities=2,
            answers=6,
            hazard_rule="conjunction",
            held_out=0.25,
            held_out_harmless=0.1,
            hazard_share=0.4,
            control_share=0.3,
        ),
        ModelConfig(2, 8, 2, 8, 4, 1, False),
        TrainConfig(),
        EvalConfig(2048, 2048),
        seed=0,
    )


@pytest.fixture(scope="session")
def tiny_world(tiny) -> world.World:
    """Its tables."""
    return world.make_world(jax.random.key(0), tiny.world)


@pytest.fixture(scope="session")
def small_settings() -> dict:
    """What sets a small run apart from the smoke preset."""
    return SMALL


@pytest.fixture(scope="session")
def small() -> Config:
    """A run of twelve steps, too short to learn anything."""
    return build("smoke", 0, SMALL)


@pytest.fixture(scope="session")
def small_run(small, tmp_path_factory):
    """That run, whole: its folder, metrics and progress."""
    out, told, begin = tmp_path_factory.mktemp("small"), [], time.perf_counter()
    metrics = runner.run(small, out, told.append)
    wall_s = time.perf_counter() - begin
    positions = len(world.roles(small.world)) - 1
    return SimpleNamespace(out=out, metrics=metrics, told=told, wall_s=wall_s, positions=positions)


@pytest.fixture
def drawn_already(small_run, monkeypatch):
    """Runs of this process take that one's figures, and draw none for five seconds."""

    class Drawn(AbstractContextManager):
        def __exit__(self, *_):
            pass

        def draw(self, **numbers):
            pass

        def images(self):
            return {path.stem: path.read_bytes() for path in small_run.out.glob("figures/*.png")}

    monkeypatch.setattr(runner, "Painter", Drawn)
    return Drawn


@pytest.fixture(scope="session")
def begun(small, small_run, tmp_path_factory):
    """That run cut off amid a phase: its folder, by phase."""

    class Stop(Exception):
        pass

    def run(phase):
        def watch(progress):
            if (progress.stage, progress.done) == (phase, 3):
                raise Stop

        out = tmp_path_factory.mktemp(phase)
        with pytest.raises(Stop):
            runner.run(small, out, watch, pictures=False)
        return out

    return {phase: run(phase) for phase in phases.PHASES}


@pytest.fixture(scope="session")
def taught() -> SimpleNamespace:
    """A model of two layers of five experts, pretrained and aligned; ``random`` ones by seed.

    Trained by a plain loop here, because that compiles in half the time.
    """
    settings = {
        "model.width": 16,
        "model.heads": 2,
        "model.experts": 5,
        "model.expert_width": 8,
        "world.context": 4,
        "world.topics": 2,
        "world.hazardous_topics": 1,
        "pretrain.steps": 150,
        "align.steps": 80,
        "train.batch": 32,
        "train.balance": 0.01,  # these three as when its tests were written, whatever the defaults
        "train.z_loss": 0.001,
        "world.hazard_share": 0.4,
        "eval.prompts": 24,
    }
    cfg, adam = build("smoke", overrides=settings), optax.adam(4e-3)
    tables = jax.jit(world.make_world, static_argnums=1)(phases.keys(0).world, cfg.world)

    @jax.jit
    def step(params, state, tokens_BT):
        grads = jax.grad(objective.loss)(params, tokens_BT, cfg)
        updates, state = adam.update(grads, state)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def draw(at):
        key = jax.random.fold_in(jax.random.key(1), at)
        return world.sample(key, tables, cfg.world, cfg.train.batch)

    random = partial(_random_params, cfg)
    params, made = random(0), {}
    for phase, steps in (("pretrained", 250), ("aligned", 150)):
        state = adam.init(params)
        for at in range(steps):
            prompts = jax.tree.map(np.asarray, draw(at))
            tokens_BT = world.respond(prompts, prompts.hazard_B & (phase == "aligned"))
            params, state = step(params, state, tokens_BT)
        made[phase] = jax.tree.map(np.asarray, params)
    return SimpleNamespace(cfg=cfg, tables=tables, random=random, **made)


def _random_params(cfg, seed):
    """Norms are not one, so that they show."""
    rng = np.random.default_rng(seed)
    like = jax.eval_shape(partial(phases.fresh_params, cfg=cfg), jax.random.key(0))
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            rng.uniform(0.5, 1.5, leaf.shape)
            if path[-1].key.endswith("_norm")
            else rng.normal(size=leaf.shape)
            / (1 if path[-1].key == "embed" else leaf.shape[-2] ** 0.5)
        ).astype(np.float32),
        like,
    )


@pytest.fixture(scope="module")
def optimised():
    """For modules in which running takes longer than compiling."""
    jax.config.update(UNOPTIMISED, False)
    yield
    jax.config.update(UNOPTIMISED, True)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to stand in."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
