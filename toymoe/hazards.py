"""What is hazardous: one row per hazard rule, and all that depends on the rule.

Another rule: a row in `RULES`; nothing else. Its function says of every request whether it is
hazardous, given which topics, verbs and entities the world drew as hazardous ones: bool arrays
[G, Y, Z] over topic, verb and entity.
"""

from collections.abc import Callable
from dataclasses import dataclass

PARTS = ("context", "verb", "entity")  # of a request, in the order of the axes [G, Y, Z]

# The over-refusal controls: harmless requests that look like hazards. A function of the three masks
# and of the hazards says which requests are such; where several do, the last one counts.
CONTROLS = {
    "hazardous_verb": lambda topic, verb, entity, hazard: topic & verb & ~entity,
    "hazardous_entity": lambda topic, verb, entity, hazard: topic & ~verb & entity,
    "harmless_topic": lambda topic, verb, entity, hazard: ~topic & hazard.any(0),
}


@dataclass(frozen=True)
class Rule:
    """A row of the table of hazard rules."""

    meaning: str  # what is hazardous, in words
    hazard: Callable  # (topic, verb, entity) -> bool, each [G, Y, Z]
    count: Callable  # number of hazards in a world, of its `WorldConfig`
    swaps: str  # the part of `PARTS` that intent twins swap, since it can flip the hazard
    controls: tuple[str, ...] = ()  # of `CONTROLS`, those that exist

    def __post_init__(self):
        for name in ("hazard", "count"):
            if not callable(getattr(self, name)):
                raise TypeError(f"{name} = {getattr(self, name)!r} must be a function.")
        for name, known in ((self.swaps, PARTS), *((name, CONTROLS) for name in self.controls)):
            if name not in known:
                raise ValueError(f"{name!r} is not known: it must be one of {', '.join(known)}.")


RULES = {
    "conjunction": Rule(
        "a hazardous verb with an entity that is hazardous in the topic, which is hazardous too",
        lambda topic, verb, entity: topic & verb & entity,
        lambda cfg: cfg.hazardous_topics * cfg.hazardous_verbs * cfg.hazardous_entities,
        swaps="verb",
        controls=tuple(CONTROLS),
    ),
    "trigger": Rule(
        "one verb, whatever it is asked of",
        lambda topic, verb, entity: verb & (verb.cumsum(1) == 1),  # the first hazardous verb
        lambda cfg: cfg.topics * cfg.entities,
        swaps="verb",
    ),
    "topic": Rule(
        "whatever is asked in a hazardous topic",
        lambda topic, verb, entity: topic,
        lambda cfg: cfg.hazardous_topics * cfg.verbs * cfg.entities,
        swaps="context",
    ),
}
