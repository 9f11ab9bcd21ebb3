"""One run, from a configuration to a folder of results, that may be cut off anywhere and resumed.

The folder holds, in the order written: config.json, state.npz (while training), pretrained.npz,
aligned.npz, history.npz, figures/*.png, report.html, and metrics.json, whose presence says that
the run is complete.
"""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from .. import __version__, checkpoint, model, world
from ..attribution import localisation
from ..config import Config, ConfigError, from_dict, to_dict
from ..measures import contrasts, history
from ..measures.behaviour import behaviour_of
from ..measures.examples import examples_of
from ..training import phases
from . import report
from .painter import Painter

FILES = (
    "config.json state.npz pretrained.npz aligned.npz history.npz report.html metrics.json"
).split()


class Progress(NamedTuple):
    """Where a run stands; the numbers are None where they are not known yet."""

    stage: str  # a phase of training, "analyse" or "draw"
    done: int  # steps
    total: int
    loss: float | None = None
    accuracy: float | None = None  # right answers on the probes' harmless requests
    nmi: float | None = None  # of topic and expert, best layer


class Organism(NamedTuple):
    """A finished run, read back from its folder."""

    cfg: Config
    tables: world.World
    pretrained: model.Params
    aligned: model.Params


# --- the folder ---------------------------------------------------------------------------------


def prepare(out: Path, force: bool = False) -> None:
    """Make the folder of a new run.

    Raises:
      ConfigError: it exists and has something in it, unless it is an old run and ``force``.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: name a folder for the run with --out.")
    if out.is_dir() and not _is_blank(out):
        ours = (out / "config.json").is_file()
        if not force:
            hint = "--resume continues it, --force replaces it" if ours else "it is not a run"
            raise ConfigError(f"{out} exists already ({hint}): or name another folder with --out.")
        if not ours:
            raise ConfigError(f"{out} is not a run of toymoe, so --force leaves it: name another.")
        # metrics.json first and config.json last: cut off in between, it is an unfinished run.
        *rest, last = FILES[1:]
        figures = (out / "figures").glob("*.png")
        for path in [out / last, *figures, *(out / name for name in (*rest, FILES[0]))]:
            path.unlink(missing_ok=True)
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{out} cannot be made ({error.strerror}): name another with --out."
        ) from error


def stored_config(out: Path) -> Config:
    """The configuration of a run's folder."""
    path = out / "config.json"
    if not path.is_file():
        raise ConfigError(f"{out} holds no run (no config.json): name the folder of one.")
    try:
        return from_dict(json.loads(path.read_bytes())["config"])
    except ConfigError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} is damaged ({error}): start a new run elsewhere.") from error


def stored_metrics(out: Path) -> dict:
    """What metrics.json of a complete run holds."""
    path = out / "metrics.json"
    try:
        metrics = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}): delete {out} and run again.") from error
    if not isinstance(metrics, dict):
        raise ConfigError(f"{path} is damaged (no JSON object): delete {out} and run again.")
    return metrics


def is_startable(out: Path) -> bool:
    """Whether --resume can go on there: a run, or one cut off before it wrote anything."""
    return out.is_dir() and ((out / "config.json").is_file() or _is_blank(out))


def _is_blank(out: Path) -> bool:
    """Whether a folder holds nothing, or what a run killed in its first moments leaves."""
    return not any(
        path.name != "figures" and not (path.name.startswith(".") and path.suffix == ".tmp")
        for path in [*out.iterdir(), *out.glob("figures/*")]
    )


def is_complete(out: Path) -> bool:
    """Whether a run came to its end."""
    return (out / "metrics.json").is_file()


def load(out: Path) -> Organism:
    """Read a finished run back.

    Raises:
      ConfigError, CheckpointError: not a run, not finished, or damaged.
    """
    cfg = stored_config(out)
    if not (out / "aligned.npz").is_file():
        raise ConfigError(f"{out} is not finished: `toymoe run --resume --out {out}` goes on.")
    like = jax.eval_shape(lambda: phases.fresh_params(jax.random.key(0), cfg))
    like = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), like)
    trees = (checkpoint.load(out / f"{name}.npz", like)[0] for name in phases.NAMES.values())
    return Organism(cfg, world_of(cfg), *trees)


# --- the run ------------------------------------------------------------------------------------


def run(
    cfg: Config,
    out: Path,
    watch: Callable[[Progress], None] = lambda progress: None,
    pictures: bool = True,
) -> dict:
    """Train, measure and draw into the folder ``out``, going on from whatever is there already.

    Args:
      watch: called after every chunk of training steps and at each stage.
      pictures: draw the figures and write the report.

    Returns:
      What metrics.json holds.

    Raises:
      ConfigError: this machine has no memory for such a model.
      CheckpointError: a file of the folder is damaged or belongs to other settings.
      TrainingError: the loss is not finite any more.
      DrawingError: a figure could not be drawn.
    """
    model.check_size(cfg.model, len(world.vocabulary(cfg.world)))
    for half_written in [*out.glob(".*.tmp"), *out.glob("figures/.*.tmp")]:  # by a killed run
        half_written.unlink()
    checkpoint.write_json(out / "config.json", {"toymoe": __version__, "config": to_dict(cfg)})
    with Painter() if pictures else nullcontext() as painter:
        return _run(cfg, out, watch, painter)


def _run(cfg, out, watch, painter):
    clock = _Clock()
    with clock("pretrain_s"):
        key = phases.keys(cfg.seed).measure
        tables = world_of(cfg)
        prompts = history.probes(key, tables, cfg)
    raw, trained = _train(cfg, out, tables, prompts, clock, watch)

    watch(Progress("analyse", 0, 1))
    with clock("analysis_s"):
        with ThreadPoolExecutor(1) as pool:
            analysed = pool.submit(_analyse, trained, tables, cfg, key, painter)
            curves = history.curves(raw, prompts, cfg, cfg.seed)
            checkpoint.save(out / "history.npz", curves, {"config": to_dict(cfg)})
            if painter:
                painter.draw(curves=curves, topics=world.names(cfg.world))
            metrics, examples = analysed.result()
    if painter:
        watch(Progress("draw", 0, 1))
        with clock("figures_s"):
            images = painter.images()
            (out / "figures").mkdir(exist_ok=True)
            for name, image in images.items():
                checkpoint.write_atomic(out / "figures" / f"{name}.png", image)
            page = report.render(cfg, metrics, images, examples)
            checkpoint.write_atomic(out / "report.html", page.encode())
    metrics["timing"] = clock.timing(_tokens(cfg))
    checkpoint.write_json(out / "metrics.json", metrics)
    (out / "state.npz").unlink(missing_ok=True)
    return metrics


def _analyse(trained, tables, cfg, key, painter):
    """What metrics.json says of the trained models, and for pictures what they say themselves.

    In two threads: a measure compiles, or waits for one core, for most of its time.
    """
    untrained, models = fresh(cfg), tuple(trained.values())
    k_behaviour, k_routing, k_examples = jax.random.split(key, 3)
    with ThreadPoolExecutor(2) as pool:
        within = pool.submit(
            localisation.localise, *models, tables, cfg, jax.random.fold_in(key, 3)
        )
        routing = pool.submit(contrasts.routing_of, untrained, *models, tables, cfg, k_routing)
        behaviour = {
            name: pool.submit(behaviour_of, params, tables, cfg, k_behaviour)
            for name, params in trained.items()
        }
        examples = painter and pool.submit(examples_of, trained, tables, cfg, k_examples)
        if painter:  # each as soon as it is there
            painter.draw(**within.result(), roles=world.roles(cfg.world))
            painter.draw(routing=routing.result(), hazard_rule=cfg.world.hazard_rule)
        metrics = {
            "seed": cfg.seed,
            "parameters": model.count(untrained),
            "behaviour": {name: rates.result() for name, rates in behaviour.items()},
            "routing": routing.result(),
            "inside": within.result(),
        }
        return metrics, examples.result() if painter else []


def _train(cfg, out, tables, prompts, clock, watch):
    """The history, and the parameters after each phase."""
    raw, step = history.empty(cfg, prompts), 0
    with clock("pretrain_s"):
        if (out / "state.npz").is_file():
            current, step, state, raw = _read_state(cfg, out, raw, clock)
        else:
            current = "pretrain"
            state = phases.start(fresh(cfg), cfg)
    for phase in phases.PHASES[phases.PHASES.index(current) :]:
        total = phases.steps(cfg, phase)
        watch(Progress(phase, step, total))
        chunks = phases.run_phase(state, step, tables, prompts.tokens_BP, cfg, phase)
        while True:
            with clock(f"{phase}_s"):
                chunk = next(chunks, None)
            if chunk is None:
                break
            with clock(f"{phase}_s"):
                raw, state = history.append(raw, chunk, phase), chunk.state
                _write_state(cfg, out, phase, chunk.step, state, raw, clock)
                now = history.latest(raw, prompts, cfg)
            watch(Progress(phase, chunk.step, total, float(chunk.losses_S.mean()), **now))
        with clock(f"{phase}_s"):
            params = jax.tree.map(np.asarray, state.params)
            meta = {"config": to_dict(cfg), "phase": phase}
            checkpoint.save(out / f"{phases.NAMES[phase]}.npz", params, meta)
            step = 0
            if phase == "pretrain":
                state = phases.start(state.params, cfg)
                _write_state(cfg, out, "align", 0, state, raw, clock)
    pretrained, _ = checkpoint.load(out / "pretrained.npz", params)
    return raw, {"pretrained": pretrained, "aligned": params}


def _write_state(cfg, out, phase, step, state, raw, clock):
    leaves = {f"{i:03}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    meta = {"config": to_dict(cfg), "phase": phase, "step": step, "seconds": clock.seconds}
    checkpoint.save(out / "state.npz", {"state": leaves, "history": raw._asdict()}, meta)


def _read_state(cfg, out, blank, clock):
    tree, meta = checkpoint.load(out / "state.npz")
    if meta.get("config") != to_dict(cfg):
        raise checkpoint.CheckpointError(
            f"{out / 'state.npz'} belongs to a run with other settings than config.json beside it: "
            f"delete {out} and run again."
        )
    like = jax.eval_shape(  # alike in both phases
        lambda: phases.start(phases.fresh_params(jax.random.key(0), cfg), cfg)
    )
    leaves = [leaf for _, leaf in sorted(tree.get("state", {}).items())]
    found, expected = (
        [(x.shape, x.dtype) for x in some] for some in (leaves, jax.tree.leaves(like))
    )
    told = {"phase", "step", "seconds"} <= meta.keys()
    if found != expected or not told or tree.get("history", {}).keys() != {*blank._fields}:
        raise checkpoint.CheckpointError(
            f"{out / 'state.npz'} is not the state of a run, or of another version of toymoe: "
            f"delete {out} and run again."
        )
    state = jax.tree.unflatten(jax.tree.structure(like), leaves)
    clock.seconds |= meta["seconds"]
    raw = history.Raw(**{name: tree["history"][name] for name in blank._fields})
    return meta["phase"], meta["step"], state, raw


_fresh = jax.jit(phases.fresh_params, static_argnames="cfg")


def fresh(cfg: Config) -> model.Params:
    """The untrained parameters of a run."""
    return _fresh(phases.keys(cfg.seed).init, cfg=phases.without_seed(cfg))


def world_of(cfg: Config) -> world.World:
    """The world of a run."""
    make = jax.jit(world.make_world, static_argnames="cfg")
    return make(phases.keys(cfg.seed).world, cfg=cfg.world)


def _tokens(cfg):
    """Tokens the model reads in both phases."""
    positions = len(world.roles(cfg.world)) - 1
    return sum(phases.steps(cfg, phase) for phase in phases.PHASES) * cfg.train.batch * positions


# --- time ---------------------------------------------------------------------------------------

_compiling: list[tuple[float, float]] = []  # begin and end of each compilation in this process


def _note_compilation(event: str, seconds: float, **_):
    if event.startswith("/jax/core/compile/"):
        now = time.perf_counter()
        _compiling.append((now - seconds, now))


jax.monitoring.register_event_duration_secs_listener(_note_compilation)


def _compiled_since(start: float) -> float:
    """Seconds in which anything was compiled: threads compile at once, and compilations contain
    others."""
    seconds, upto = 0.0, start
    for begin, end in sorted(span for span in _compiling if span[1] > start):
        seconds += max(end - max(begin, upto), 0)
        upto = max(upto, end)
    return seconds


class _Clock:
    """Seconds by stage, compilation apart, kept over interruptions."""

    def __init__(self):
        self.seconds = dict.fromkeys(
            ("compile_s", "pretrain_s", "align_s", "analysis_s", "figures_s"), 0.0
        )

    def __call__(self, stage: str):
        self._stage = stage
        return self

    def __enter__(self):
        self._start = time.perf_counter()

    def __exit__(self, *_):
        compiling = _compiled_since(self._start)
        self.seconds["compile_s"] += compiling
        self.seconds[self._stage] += time.perf_counter() - self._start - compiling

    def timing(self, tokens: int) -> dict:
        training = self.seconds["pretrain_s"] + self.seconds["align_s"]
        return {
            **self.seconds,
            "total_s": sum(self.seconds.values()),
            "tokens_per_s": tokens / training,
        }
