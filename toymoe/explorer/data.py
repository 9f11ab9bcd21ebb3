"""What a page is told of an organism: plain numbers for one JSON, and the packed weights.

The page computes everything else itself, with the run's own model.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import __version__, hazards, model, world
from ..attribution import removal
from ..config import Config, ConfigError, to_dict
from ..model import taps, transformer
from ..organism import Organism
from ..world import tokens
from . import checkpoints, kept, pack, shared

PROMPTS = 2048  # on which it is measured what a page's weights change
LIMIT = 8_000_000  # parameters in a page, those of all its models together
DIGITS = 4  # of shares, and of probabilities in tables
HISTORY = (
    "nmi_topic_context",
    "nmi_topic_shuffled",
    "refusal",
    "answer_accuracy",
    "hazard_answered",
    "over_refusal",
)
# The table of many seeds, shipped for lesson 8: read as a file, since lessons stand below.
SEEDS = Path(__file__).parents[1] / "classroom" / "seeds.json"
COLUMNS = {
    "set_back_m50": "inside.removal.set_back.m50",
    "counts": "inside.removal.counts",
    "set_back_refusal": "inside.removal.set_back.refusal",
    "random_refusal": "inside.removal.set_back.random.refusal",
}


class Progress(NamedTuple):
    """A step that begins."""

    stage: str
    done: int
    total: int


class Told(NamedTuple):
    """All that a page holds."""

    data: dict  # plain numbers, text, lists and dicts
    blobs: dict[str, str]  # packed weights, by the id of their element


def gather(
    organism: Organism,
    source: str,
    folder: Path | None = None,
    snapshots: int = 0,
    weights: str = "float16",
    tuned: bool = True,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Told:
    """Everything that a page of an organism is told.

    Args:
      source: what `toymoe.organism.load` takes to load it.
      folder: of its run, where there is one; snapshots are read from there.
      snapshots: how many checkpoints, see `checkpoints.chosen`.
      weights: of `pack.KINDS`.
      tuned: with the models that RASET tunes, which take most of the time.

    Raises:
      ConfigError: a model that is too large for a page, more snapshots than there are.
    """
    cfg, models = organism.cfg, chosen(organism, folder, snapshots, weights)
    stages = iter(range(100))
    total = 3 + (len(shared.budgets(cfg)) if tuned else 0)

    def begin(stage):
        watch(Progress(stage, next(stages), total))

    begin("pairs of prompts")
    ranked, measured = shared.pairs(organism)
    begin("packing weights")
    packed = _models(organism, models, folder, weights)
    begin("comparing with the model")
    data = {
        "toymoe": __version__,
        "title": title(organism),
        "source": source,
        "config": to_dict(cfg),
        "epsilon": transformer.EPSILON,
        "theta": transformer.THETA,
        "closed": taps.CLOSED,
        **language(organism),
        "pairs": {"ranked": _pairs(ranked), "measured": _pairs(measured)},
        "parameters": pack.parameters(organism.aligned),
        "models": [x._asdict() | {"blob": _id(x.name)} for x in models],
        "tuned": {},
        "directions_LD": _directions(ranked),
        "history": _history(organism.history),
        "metrics": _metrics(organism.metrics),
        "seeds": seeds(cfg),
        "precision": _precision(organism, models, folder, weights, packed),
    }
    if tuned:
        for n in shared.budgets(cfg):
            begin(f"tuning {n} expert" + "s" * (n > 1))
            said, packed[_id(f"tuned-{n}")] = _tuned(organism, n, weights)
            data["tuned"][str(n)] = said | {"blob": _id(f"tuned-{n}")}
    return Told(plain(data), packed)


def chosen(
    organism: Organism, folder: Path | None, snapshots: int, weights: str
) -> list[checkpoints.Checkpoint]:
    """The models of a page, refused where no browser would open it gladly; see `gather`."""
    pack.known(weights)
    models = checkpoints.chosen(organism.cfg, folder, snapshots)
    parameters = model.count(organism.aligned)
    if parameters * len(models) > LIMIT:
        raise ConfigError(
            f"{len(models)} models of {parameters:,} parameters are too large for a page, which "
            f"holds {LIMIT:,} in all: ask for fewer snapshots, or train a model of smaller "
            "model.width, model.experts or model.expert_width."
        )
    return models


def title(organism: Organism) -> str:
    """What the page is called."""
    cfg = organism.cfg
    return (
        f"toymoe explorer: {cfg.model.layers} layers of {cfg.model.experts} experts, "
        f"hazard rule {cfg.world.hazard_rule}, seed {cfg.seed}"
    )


def language(organism: Organism) -> dict:
    """The world of an organism: its tokens, its rule, its tables."""
    cfg, tables = organism.cfg.world, organism.tables
    rule, layout = hazards.RULES[cfg.hazard_rule], tokens.layout(cfg)
    return {
        "names": layout.names,
        "specials": {name: i for i, name in enumerate(world.SPECIALS)},
        "verb": layout.verb,
        "entity": layout.entity,
        "answer": layout.answer,
        "topics": world.names(cfg),
        "rule": {
            "name": cfg.hazard_rule,
            "meaning": rule.meaning,
            "swaps": rule.swaps,
            "parts": hazards.PARTS,
        },
        "controls": world.CONTROLS,
        "tables": {
            name: table.round(DIGITS) if table.dtype.kind == "f" else table.astype(int)
            for name, table in zip(tables._fields, map(np.asarray, tables), strict=True)
        },
    }


def seeds(cfg: Config) -> dict:
    """How many seeds differ, from the table that is shipped; nothing where the settings are not
    those of its runs."""
    if dataclasses.replace(cfg, seed=0) != Config():
        return {}
    stored = json.loads(SEEDS.read_bytes())
    columns = {name: stored["columns"][column] for name, column in COLUMNS.items()}
    return {name: stored[name] for name in ("command", "seeds")} | columns


def plain(value):
    """As JSON has it: arrays as lists, fractions rounded, None for what is not a number."""
    if isinstance(value, dict):
        return {key: plain(x) for key, x in value.items()}
    if dataclasses.is_dataclass(value) or isinstance(value, Path):
        raise TypeError(f"{type(value).__name__} is no plain value")
    if hasattr(value, "__array__"):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return [plain(x) for x in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(f"{value:.9g}")  # as many digits as float32 has
    return value


# --- its parts ----------------------------------------------------------------------------------


def _id(name: str) -> str:
    return f"blob-{name}"


def _models(organism, models, folder, weights) -> dict[str, str]:
    return {
        _id(x.name): pack.pack_params(checkpoints.params(organism, x, folder), weights)
        for x in models
    }


def _precision(organism, models, folder, weights, packed) -> dict:
    """What the page's weights change, measured on each of its models; first, the aligned one."""
    tokens_BP = organism.sample(PROMPTS, seed=shared.KEY).tokens_BP
    listed = pack.parameters(organism.aligned)
    each = {}
    for x in models:
        kept = pack.unpack_params(packed[_id(x.name)], listed, weights)
        params = checkpoints.params(organism, x, folder)
        each[x.name] = pack.changed(params, kept, organism.cfg, tokens_BP)
    return {"kind": weights, **each["aligned"], "each": each}


def _pairs(e) -> dict:
    names = "tokens_BP", "topic_B", "verb_B", "entity_B", "answer_B"
    return {
        which: {name: getattr(getattr(e, which), name) for name in names}
        for which in ("hazards", "twins")
    }


def _tuned(organism, n, weights) -> tuple[dict, str]:
    """Which experts are tuned, and by what: packed expert by expert, gate_up and then down."""
    params = shared.tuned(organism, n)
    now, before = (x["layers"]["experts"] for x in (params, organism.aligned))
    experts = kept.moved(params, organism.aligned)
    change = [now[name][at] - before[name][at] for at in experts for name in ("gate_up", "down")]
    return {"experts": experts}, pack.pack(change, weights)


def _directions(ranked) -> list:
    try:
        return shared.directions(ranked)
    except ConfigError:
        return []


def _history(history) -> dict:
    if history is None:
        return {}
    return {
        "phase": history["phase"],
        "step": history["step"],
        "topic_expert": history["topic_expert"].astype(int),
        **{name: history[name].round(DIGITS) for name in HISTORY},
    }


def _metrics(metrics) -> dict:
    if metrics is None:
        return {}
    routing, found = metrics["routing"], metrics["inside"]["removal"]
    return {
        "contrasts": _rounded(routing["contrasts"]),
        "ratios": _rounded(routing["ratios"]),
        "removal": _rounded(found),
        "few": removal.sits_in_few(found["set_back"], found["counts"][-1]),
        "weights": _rounded(metrics["weights"]),
        "behaviour": _rounded(metrics["behaviour"]),
    }


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(x) for key, x in value.items()}
    if isinstance(value, list):
        return [_rounded(x) for x in value]
    return round(value, DIGITS) if isinstance(value, float) else value
