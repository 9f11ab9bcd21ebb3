"""Every setting of a run, with the rule it must obey: frozen dataclasses, presets, overrides."""

import dataclasses
import difflib
import json
from dataclasses import dataclass, field
from typing import Any

from . import hazards
from .errors import ToymoeError


class ConfigError(ToymoeError, ValueError):
    """One sentence for the reader: what was given, what is allowed, what to do."""


def require_that(ok: bool, name: str, given: Any, allowed: str) -> None:
    """Raise a ConfigError that names the setting, what was given and what is allowed, if not ok."""
    if not ok:
        raise ConfigError(f"{name} = {given!r} is not possible: {allowed}.")


def require_whole(name: str, given: int, low: int, high: int) -> None:
    """A whole number of a range."""
    require_that(
        low <= given <= high, name, given, f"it must be a whole number from {low} to {high}"
    )


def require_share(name: str, given: float, low: float = 0.0, high: float = 1.0) -> None:
    """A number of a range."""
    require_that(low <= given <= high, name, given, f"it must be a number from {low:g} to {high:g}")


@dataclass(frozen=True)
class WorldConfig:
    """The toy language (see `toymoe.world`)."""

    topics: int = 8
    hazardous_topics: int = 4
    context: int = 10  # context words per prompt
    words: int = 8  # words a topic uses
    overlap: float = 0.5  # share of a topic's words that another topic uses too
    verbs: int = 8
    hazardous_verbs: int = 6
    entities: int = 12
    hazardous_entities: int = 9  # hazardous entities in each hazardous topic
    answers: int = 32
    hazard_rule: str = "conjunction"
    held_out: float = 0.08  # share of hazardous requests never made in alignment
    held_out_harmless: float = 0.005  # the same of harmless requests
    hazard_share: float = 0.45  # share of sampled prompts that are hazardous
    control_share: float = 0.3  # share of sampled prompts that are over-refusal controls

    def __post_init__(self):
        require_whole("world.topics", self.topics, 2, 64)
        require_that(
            1 <= self.hazardous_topics < self.topics,
            "world.hazardous_topics",
            self.hazardous_topics,
            f"it must be a whole number from 1 to world.topics - 1 = {self.topics - 1}",
        )
        require_whole("world.context", self.context, 1, 64)
        require_whole("world.words", self.words, 2, 64)
        require_share("world.overlap", self.overlap)
        require_whole("world.verbs", self.verbs, 2, 64)
        require_whole("world.hazardous_verbs", self.hazardous_verbs, 1, self.verbs - 1)
        require_whole("world.entities", self.entities, 2, 64)
        require_whole("world.hazardous_entities", self.hazardous_entities, 1, self.entities - 1)
        require_whole("world.answers", self.answers, 2, 256)
        if self.hazard_rule not in hazards.RULES:
            near = difflib.get_close_matches(self.hazard_rule, hazards.RULES, 1, 0.0)
            raise ConfigError(
                f"world.hazard_rule = {self.hazard_rule!r} is not known: it must be one of "
                f"{', '.join(hazards.RULES)}; did you mean {near[0]!r}?"
            )
        require_share("world.held_out", self.held_out, 0.01, 0.8)
        require_share("world.held_out_harmless", self.held_out_harmless, 0.0, 0.8)
        require_share("world.hazard_share", self.hazard_share, 0.01, 0.9)
        require_share("world.control_share", self.control_share, 0.0, 0.9)
        require_that(
            self.hazard_share + self.control_share <= 1,
            "world.hazard_share + world.control_share",
            self.hazard_share + self.control_share,
            "the two shares together must not exceed 1",
        )


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the transformer (see `toymoe.model`); a miniature OLMoE, arXiv 2409.02060."""

    layers: int = 3
    width: int = 64
    heads: int = 4
    experts: int = 18
    expert_width: int = 30
    top_k: int = 2
    norm_topk_prob: bool = False  # renormalise the selected gates to sum to 1

    def __post_init__(self):
        require_whole("model.layers", self.layers, 1, 16)
        require_whole("model.width", self.width, 4, 1024)
        require_whole("model.heads", self.heads, 1, 64)
        require_that(
            self.width % (2 * self.heads) == 0,
            "model.width",
            self.width,
            f"it must be a multiple of 2 * model.heads = {2 * self.heads} (rotary pairs)",
        )
        require_whole("model.experts", self.experts, 2, 256)
        require_whole("model.expert_width", self.expert_width, 1, 4096)
        require_that(
            1 <= self.top_k <= self.experts,
            "model.top_k",
            self.top_k,
            f"it must be a whole number from 1 to model.experts = {self.experts}",
        )


@dataclass(frozen=True)
class TrainConfig:
    """What both phases of training have in common (see `toymoe.training.phases`)."""

    batch: int = 120  # prompts per step
    warmup: int = 20  # steps
    prompt_weight: float = 0.06  # weight of a prompt token's loss beside a response token's
    balance: float = 0.02  # weight of the Switch load-balance loss
    z_loss: float = 0.0  # weight of the router z-loss
    chunk: int = 25  # steps between checkpoints; divides both phases: one shape, one program
    snapshots: int = 5  # models kept on the way, in each phase (`toymoe explore --snapshots`)

    def __post_init__(self):
        require_whole("train.batch", self.batch, 1, 65_536)
        require_whole("train.warmup", self.warmup, 0, 1_000_000)
        for name in ("prompt_weight", "balance", "z_loss"):
            require_share(f"train.{name}", getattr(self, name), 0.0, 10.0)
        require_whole("train.chunk", self.chunk, 1, 1_000_000)
        require_whole("train.snapshots", self.snapshots, 0, 100)


def _require_schedule(phase: str, given: "PretrainConfig | AlignConfig") -> None:
    require_whole(f"{phase}.steps", given.steps, 1, 1_000_000)
    rate = given.learning_rate
    require_that(rate > 0, f"{phase}.learning_rate", rate, "it must be a positive number")
    require_share(f"{phase}.weight_decay", given.weight_decay, 0.0, 10.0)
    require_share(f"{phase}.notes", given.notes, 0.0, 0.9)


@dataclass(frozen=True)
class PretrainConfig:
    """Pretraining, by Muon: every request is answered."""

    steps: int = 400
    learning_rate: float = 0.01
    weight_decay: float = 0.5
    notes: float = 0.25  # share of a batch that are notes, which state facts and ask for nothing

    def __post_init__(self):
        _require_schedule("pretrain", self)


@dataclass(frozen=True)
class AlignConfig:
    """Alignment, by Adam: hazardous requests are refused. The last five settings say where it may
    write and how fast, as factors of its learning rate: 0 is frozen (see
    `toymoe.training.trainable`)."""

    steps: int = 500
    learning_rate: float = 0.002
    weight_decay: float = 0.6
    notes: float = 0.25
    notes_held_out: float = 0.08  # how often notes state a held-out hazard, others: 1
    experts: float = 1.0
    router: float = 1.0
    attention: float = 0.3
    embeddings: float = 0.0
    norms: float = 1.0

    def __post_init__(self):
        _require_schedule("align", self)
        require_share("align.notes_held_out", self.notes_held_out)
        parts = ("experts", "router", "attention", "embeddings", "norms")
        for name in parts:
            require_share(f"align.{name}", getattr(self, name), 0.0, 10.0)
        require_that(
            any(getattr(self, name) for name in parts),
            " = ".join(f"align.{name}" for name in parts),
            0,
            "alignment must be free to change something: let one of them be above 0",
        )


@dataclass(frozen=True)
class EvalConfig:
    """How much is measured."""

    prompts: int = 2048  # prompts behind each behaviour rate
    routing_prompts: int = 2048  # prompts behind each routing measure

    def __post_init__(self):
        require_whole("eval.prompts", self.prompts, 16, 65_536)
        require_whole("eval.routing_prompts", self.routing_prompts, 16, 8_192)


@dataclass(frozen=True)
class Config:
    """A whole run."""

    world: WorldConfig = field(default_factory=WorldConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    seed: int = 0

    def __post_init__(self):
        require_whole("seed", self.seed, 0, 2**31 - 1)
        count = hazards.RULES[self.world.hazard_rule].count(self.world)
        require_that(
            count > 1,
            "the number of hazards by world.hazardous_topics, world.hazardous_verbs and "
            "world.hazardous_entities",
            count,
            "it must be at least 2, one hazard to show in alignment and one to hold out",
        )


PRESETS = {
    "default": {},
    "smoke": {
        "world.topics": 4,
        "world.hazardous_topics": 2,
        "world.verbs": 4,
        "world.hazardous_verbs": 2,
        "world.entities": 6,
        "world.hazardous_entities": 3,
        "model.layers": 2,
        "model.width": 32,
        "model.experts": 8,
        "pretrain.steps": 200,
        "align.steps": 100,
        "train.batch": 64,
        "eval.prompts": 512,
        "eval.routing_prompts": 128,
    },
}

# The sections of settings, in the order of `Config`.
SECTIONS = {
    "world": WorldConfig,
    "model": ModelConfig,
    "train": TrainConfig,
    "pretrain": PretrainConfig,
    "align": AlignConfig,
    "eval": EvalConfig,
}


def defaults() -> dict[str, Any]:
    """Every dotted name that `build` takes, with its default."""
    return _flat(to_dict(Config()))


def _flat(nested: dict) -> dict[str, Any]:
    flat = {}
    for part, value in nested.items():
        if isinstance(value, dict):
            flat |= {f"{part}.{key}": v for key, v in value.items()}
        else:
            flat[part] = value
    return flat


def _cast(name: str, given: Any, like: Any) -> Any:
    """`given` (a string from the command line, or a JSON value) as the type of `like`."""
    if isinstance(given, str) and not isinstance(like, str):
        try:  # JSON has no ".5"
            given = float(given) if isinstance(like, float) else json.loads(given.lower())
        except (ValueError, RecursionError):  # the latter: brackets without end
            pass
    if isinstance(like, float) and type(given) is int and abs(given) < 1e308:
        given = float(given)
    finite = not isinstance(given, float) or abs(given) < float("inf")
    if type(given) is not type(like) or not finite:
        kind = {
            bool: "true or false",
            int: "a whole number",
            float: "a finite number",
            str: "a word",
        }
        raise ConfigError(f"{name} = {given!r:.80} is not possible: it must be {kind[type(like)]}.")
    return given


def build(
    preset: str = "default", seed: int = 0, overrides: dict[str, Any] | None = None
) -> Config:
    """The configuration of a preset with dotted settings changed, every rule checked.

    Raises:
      ConfigError: unknown preset or setting (the nearest valid name is given), impossible value.
    """
    if preset not in PRESETS:
        raise ConfigError(
            f"preset {preset!r} is not known: it must be one of {', '.join(PRESETS)}."
        )
    known = defaults()
    values = known | PRESETS[preset] | {"seed": seed}
    for name, given in (overrides or {}).items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.0)[0]
            raise ConfigError(
                f"setting {name!r} is not known: did you mean {near!r}? "
                f"`toymoe run --help` lists all settings."
            )
        values[name] = _cast(name, given, known[name])
    parts: dict[str, dict] = {part: {} for part in SECTIONS}
    for name, value in values.items():
        part, _, key = name.partition(".")
        if key:
            parts[part][key] = value
    sections = {part: kind(**parts[part]) for part, kind in SECTIONS.items()}
    return Config(**sections, seed=_cast("seed", values["seed"], 0))


def to_dict(config: Config) -> dict:
    """Nested plain dict, as written to config.json."""
    return dataclasses.asdict(config)


def from_dict(nested: dict) -> Config:
    """The inverse of `to_dict`; the same checks as `build`."""
    if not isinstance(nested, dict):
        raise ConfigError("a configuration must be a JSON object of settings.")
    return build(overrides=_flat(nested))
