"""One run, from a configuration to a folder of results, that may be cut off anywhere and resumed.

`folder` lists the files.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import jax
import numpy as np

from .. import checkpoint, model, numerics, world
from ..attribution import localisation
from ..config import Config, to_dict
from ..measures import contrasts, history, weights
from ..measures.behaviour import behaviour_of
from ..measures.examples import examples_of
from ..organism import seeded, stored
from ..training import phases
from . import folder, report, state
from .clock import Clock
from .painter import Painter
from .progress import Progress


@numerics.fixed()
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
      ConfigError: there is no memory here for such a model.
      CheckpointError: a file of the folder is damaged or belongs to other settings.
      TrainingError: the loss is not finite any more.
      DrawingError: a figure could not be drawn.
    """
    model.check_size(cfg.model, len(world.vocabulary(cfg.world)))
    folder.begin(out, cfg)
    with closing(Clock()) as clock, Painter() if pictures else nullcontext() as painter:
        return _run(cfg, out, watch, painter, clock)


def _run(cfg, out, watch, painter, clock):
    with clock("pretrain_s"):
        key = phases.keys(cfg.seed).measure
        tables = stored.first_tables(out, cfg)
        prompts = history.probes(key, tables, cfg)
    raw, trained = _train(cfg, out, tables, prompts, clock, watch)
    watch(Progress("analyse", 0, 1))
    with clock("analysis_s"):
        metrics, curves, examples = _measure(raw, trained, tables, prompts, cfg, out, key, painter)
    if painter:
        watch(Progress("draw", 0, 1))
        with clock("figures_s"):
            _draw(cfg, out, metrics, curves, examples, painter)
    metrics["timing"] = clock.timing(_tokens(cfg))
    checkpoint.write_json(out / "metrics.json", metrics)
    (out / "state.npz").unlink(missing_ok=True)
    return metrics


# --- training -----------------------------------------------------------------------------------


def _train(cfg, out, tables, prompts, clock, watch):
    """The history, and the parameters after each phase."""
    with clock("pretrain_s"):
        now = state.begun(out, cfg, history.empty(cfg, prompts), clock.seconds)
        clock.seconds |= now.seconds
    for phase in phases.PHASES[phases.PHASES.index(now.phase) :]:
        now = _train_phase(cfg, out, tables, prompts, clock, watch, now)
        with clock(f"{phase}_s"):
            now = state.ended(out, cfg, now)
    aligned = jax.tree.map(np.asarray, now.state.params)
    return now.raw, {"pretrained": stored.params(out, cfg, "pretrain"), "aligned": aligned}


def _train_phase(cfg, out, tables, prompts, clock, watch, now):
    """To the end of a phase, kept after every chunk."""
    phase, total = now.phase, phases.steps(cfg, now.phase)
    watch(Progress(phase, now.step, total))
    chunks = phases.run_phase(now.state, now.step, tables, prompts.tokens_BP, cfg, phase)
    while True:
        with clock(f"{phase}_s"):
            chunk = next(chunks, None)
        if chunk is None:
            return now
        with clock(f"{phase}_s"):
            now = state.further(out, cfg, now, chunk, clock.seconds)
            shown = history.latest(now.raw, prompts, cfg)
        watch(Progress(phase, chunk.step, total, float(chunk.losses_S.mean()), **shown))


# --- measuring and drawing ----------------------------------------------------------------------


def _measure(raw, trained, tables, prompts, cfg, out, key, painter):
    """History and metrics, at once: a measure compiles, or waits for one core, for most of its
    time."""
    with ThreadPoolExecutor(1) as pool:
        analysed = _submit(pool, _analyse, trained, tables, cfg, key, painter)
        curves = history.curves(raw, prompts, cfg, cfg.seed)
        checkpoint.save(out / "history.npz", curves, {"config": to_dict(cfg)})
        if painter:
            hazardous = np.asarray(tables.hazard_GYZ).any((1, 2))
            marked = (hazardous & ~hazardous.all()).tolist()  # where all are, none need be
            painter.draw(curves=curves, topics=world.names(cfg.world), hazardous=marked)
        metrics, examples = analysed.result()
        return metrics, curves, examples


def _analyse(trained, tables, cfg, key, painter):
    """What metrics.json says of the trained models, and for pictures what they say themselves."""
    untrained, models = seeded.params(cfg), tuple(trained.values())
    k_behaviour, k_routing, k_examples = jax.random.split(key, 3)
    with ThreadPoolExecutor(2) as pool:
        submit = partial(_submit, pool)
        within = submit(localisation.localise, *models, tables, cfg, jax.random.fold_in(key, 3))
        routing = submit(contrasts.routing_of, untrained, *models, tables, cfg, k_routing)
        behaviour = {
            name: submit(behaviour_of, params, tables, cfg, k_behaviour)
            for name, params in trained.items()
        }
        examples = painter and submit(examples_of, trained, tables, cfg, k_examples)
        if painter:  # each as soon as it is there
            painter.draw(**within.result(), roles=world.roles(cfg.world))
            painter.draw(routing=routing.result(), hazard_rule=cfg.world.hazard_rule)
        metrics = {
            "seed": cfg.seed,
            "parameters": model.count(untrained),
            "behaviour": {name: rates.result() for name, rates in behaviour.items()},
            "routing": routing.result(),
            "weights": weights.change(*models),
            "inside": within.result(),
            "config": to_dict(cfg),
            "versions": numerics.versions(),
        }
        return metrics, examples.result() if painter else []


def _submit(pool, function, *args):
    """Into another thread, where JAX's settings are the user's again."""
    return pool.submit(numerics.fixed()(function), *args)


def _draw(cfg, out, metrics, curves, examples, painter):
    images = painter.images()
    (out / "figures").mkdir(exist_ok=True)
    for name, image in images.items():
        checkpoint.write_atomic(out / "figures" / f"{name}.png", image)
    page = report.render(cfg, metrics, curves, images, examples)
    checkpoint.write_atomic(out / "report.html", page.encode())


def _tokens(cfg):
    """Tokens the model reads in both phases."""
    positions = len(world.roles(cfg.world)) - 1
    return sum(phases.steps(cfg, phase) for phase in phases.PHASES) * cfg.train.batch * positions
