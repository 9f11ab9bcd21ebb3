"""Where training stands, in state.npz after every chunk; gone on with only if all of it fits."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from .. import checkpoint, world
from ..config import Config, to_dict
from ..measures import history
from ..organism import seeded, stored
from ..training import loop, phases, snapshots
from .clock import STAGES


class Standing(NamedTuple):
    """What training goes on from."""

    phase: str
    step: int  # of the phase, done
    state: loop.State
    raw: history.Raw
    seconds: dict[str, float]  # by stage, until now


def begun(out: Path, cfg: Config, blank: history.Raw, seconds: dict[str, float]) -> Standing:
    """Where training goes on, or begins.

    Args:
      blank, seconds: the history and the seconds of a run that begins.
    """
    if not (out / "state.npz").is_file():
        fresh = phases.start(seeded.params(cfg), cfg, "pretrain")
        return Standing("pretrain", 0, fresh, blank, seconds)
    now = read(out, cfg, blank)
    if now.phase == "align":
        stored.params(out, cfg, "pretrain")  # alignment ends with it, so it must be there
    return now


def further(
    out: Path, cfg: Config, now: Standing, chunk: phases.Chunk, seconds: dict[str, float]
) -> Standing:
    """A chunk on, written; and the model with it, where it is one to keep."""
    raw, total = history.append(now.raw, chunk, now.phase), phases.steps(cfg, now.phase)
    if chunk.step in snapshots.kept_steps(total, cfg.train.chunk, cfg.train.snapshots):
        stored.write_snapshot(out, cfg, now.phase, chunk.step, chunk.state.params)
    now = Standing(now.phase, chunk.step, chunk.state, raw, seconds)
    write(out, cfg, now)
    return now


def ended(out: Path, cfg: Config, now: Standing) -> Standing:
    """At the end of a phase, written: the model, and the beginning of the phase that follows."""
    stored.write_params(out, cfg, now.phase, jax.tree.map(np.asarray, now.state.params))
    if now.phase == "pretrain":
        begin = phases.start(now.state.params, cfg, "align")
        now = now._replace(phase="align", step=0, state=begin)
        write(out, cfg, now)
    return now


def write(out: Path, cfg: Config, now: Standing) -> None:
    """Into state.npz."""
    leaves = {f"{i:03}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(now.state))}
    meta = {"config": to_dict(cfg), "phase": now.phase, "step": now.step, "seconds": now.seconds}
    checkpoint.save(out / "state.npz", {"state": leaves, "history": now.raw._asdict()}, meta)


def read(out: Path, cfg: Config, blank: history.Raw) -> Standing:
    """What `write` wrote.

    Args:
      blank: the history before the first snapshot.

    Raises:
      CheckpointError: damaged, of other settings or another version, or no state that training can
        come to.
    """
    path = out / "state.npz"
    tree, meta = checkpoint.load(path)
    if meta.get("config") != to_dict(cfg):
        raise checkpoint.CheckpointError(
            f"{path} belongs to a run with other settings than config.json beside it: delete {out} "
            "and run again."
        )
    wrong = _wrong_place(meta, cfg) or _wrong_state(tree, meta, cfg)
    wrong = wrong or _wrong_history(tree, meta, cfg, blank)
    if wrong:
        raise checkpoint.CheckpointError(
            f"{path} is not the state of a run, or of another version of toymoe ({wrong}): delete "
            f"{out} and run again."
        )
    like = jax.tree.structure(_like(cfg, meta["phase"]))
    state = jax.tree.unflatten(like, _leaves(tree))
    raw = history.Raw(**tree["history"])
    return Standing(meta["phase"], meta["step"], state, raw, meta["seconds"])


# --- what is wrong with it; empty where nothing is ----------------------------------------------


def _wrong_place(meta: dict, cfg: Config) -> str:
    phase, step, seconds = (meta.get(name) for name in ("phase", "step", "seconds"))
    if phase not in phases.PHASES:
        return f"phase {phase!r:.40}"
    total = phases.steps(cfg, phase)
    if type(step) is not int or not (step == total or step in range(0, total, cfg.train.chunk)):
        return f"step {step!r:.40} of {total}"
    if not isinstance(seconds, dict) or seconds.keys() != set(STAGES):
        return "seconds of other stages"
    if not all(type(s) is float and 0 <= s < float("inf") for s in seconds.values()):
        return "seconds that are no times"
    return ""


def _wrong_state(tree: dict, meta: dict, cfg: Config) -> str:
    leaves, like = _leaves(tree), jax.tree_util.tree_leaves_with_path(_like(cfg, meta["phase"]))
    if _shapes(leaves) != _shapes(leaf for _, leaf in like):
        return "other arrays in the optimiser's state"
    for (path, _), leaf in zip(like, leaves, strict=True):
        name = jax.tree_util.keystr(path)
        if leaf.dtype.kind == "i" and (leaf != meta["step"]).any():  # the optimiser counts steps
            return f"{name} is not the step"
        if not np.isfinite(leaf).all() or (".nu" in name and (leaf < 0).any()):  # nu: mean squares
            return f"{name} holds impossible numbers"
    return ""


def _wrong_history(tree: dict, meta: dict, cfg: Config, blank: history.Raw) -> str:
    raw = tree.get("history")
    if not isinstance(raw, dict) or raw.keys() != {*blank._fields}:
        return "another history"
    done = _steps_done(cfg, meta["phase"], meta["step"])
    phase_S, step_S = _snapshots(cfg, done)
    lengths = {f"loss_{phase}": n for phase, n in done.items()}
    like = {
        name: ((lengths.get(name, len(step_S)), *x.shape[1:]), x.dtype)
        for name, x in blank._asdict().items()
    }
    if _shapes(raw[name] for name in like) != [*like.values()]:
        return "a history of other lengths"
    if raw["phase_S"].tolist() != phase_S or raw["step_S"].tolist() != step_S:
        return "a history of other steps"
    V = len(world.vocabulary(cfg.world))
    for name, end in (("experts_SLBPA", cfg.model.experts), ("predicted_SB", V)):
        if raw[name].size and not 0 <= raw[name].min() <= raw[name].max() < end:
            return f"{name} beyond {end}"
    finite = all(np.isfinite(raw[f"loss_{phase}"]).all() for phase in phases.PHASES)
    return "" if finite else "losses that are not finite"


def _steps_done(cfg: Config, phase: str, step: int) -> dict[str, int]:
    """By phase, at a step of one of them."""
    before = phases.PHASES[: phases.PHASES.index(phase)]
    done = {name: phases.steps(cfg, name) for name in before} | {phase: step}
    return dict.fromkeys(phases.PHASES, 0) | done


def _snapshots(cfg: Config, done: dict[str, int]) -> tuple[list[int], list[int]]:
    """Phases and steps of the snapshots taken until then."""
    taken = [
        (i, step)
        for i, phase in enumerate(phases.PHASES)
        for step in snapshots.record_steps(phases.steps(cfg, phase))
        if step < done[phase] or step == done[phase] == phases.steps(cfg, phase)
    ]
    return [i for i, _ in taken], [step for _, step in taken]


def _like(cfg: Config, phase: str) -> loop.State:
    """Shapes."""
    return jax.eval_shape(lambda: phases.start(seeded.params(cfg), cfg, phase))


def _leaves(tree: dict) -> list:
    """Of the state, in order; none where it is no state."""
    state = tree.get("state")
    return [leaf for _, leaf in sorted(state.items())] if isinstance(state, dict) else []


def _shapes(arrays: Iterable) -> list:
    """Shape and dtype of each; None of what is no array."""
    return [(getattr(x, "shape", None), getattr(x, "dtype", None)) for x in arrays]
