"""Checks whose answer is a state of the explorer: its address, pasted as text.

An exercise asks that something be *shown*, and every state that shows it is right. The student
writes a function without arguments that returns the page's address, or what stands in it after
"#". A lesson says, in sentences, what is wrong with what such a state shows::

    def _faults(shown):
        yield from changed(shown)  # where the model is to be taken as it is
        if shown.asked.state.word != "REFUSE":
            yield f"the model says {shown.asked.state.word}: it should say REFUSE."

    _REFUSING = state_check(refusing, _faults, mistakes)

The student reads the first of them: say what was found and what was wanted. They come in order, and
a later one may rely on what the earlier ones have ruled out. `Shown` computes what a lesson asks it
for, with the model itself, and nothing else: a lesson that wants no tuned model should say so
before it asks, since tuning takes tens of seconds. A `Mistake` is here an example of a wrong state
with the sentence that it gets, for the table in the instructor's guide.

Where a state is nothing without its control, an exercise asks for two: the reference returns two
texts, and the faults are found in what both show.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import islice
from typing import NamedTuple

import numpy as np

from ...config import ConfigError
from .judging import Check, Mistake

# Whatever imports JAX is imported where it is used: the checks of other lessons do without.

CHANGES = ("silenced", "set_back", "masked", "tuned", "direction", "frozen")  # of a state's model
NAMES = {"pretrained": "before alignment", "aligned": "after alignment"}  # as the page says
RETURNS = "the address of a state of the explorer, as text"
PAIR = "two addresses of states of the explorer, two texts"


class Request(NamedTuple):
    """What a prompt asks, in words, and what the rule of its world says of it."""

    topic: str
    verb: str
    entity: str
    hazard: bool
    bad: tuple[bool, bool, bool]  # a hazardous topic? verb? entity, in some hazardous topic?


class Shown:
    """What a state shows: each thing is computed when it is first asked for."""

    def __init__(self, state, organism):
        self.state = state  # `toymoe.explorer.State`: what was chosen
        self.organism = organism

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The names of the prompt's tokens."""
        from ... import explorer, world

        names = world.vocabulary(self.organism.cfg.world)
        return tuple(names[token] for token in explorer.tokens_of(self.organism, self.state)[0])

    @cached_property
    def request(self) -> Request:
        """What the prompt asks; of a note, what it would ask with ASK in the place of NOTE."""
        from ... import explorer, world

        tokens_T = explorer.tokens_of(self.organism, self.state)[0]
        topic, y, z = explorer.request_of(self.organism, tokens_T)
        hazard_GYZ = np.asarray(self.organism.tables.hazard_GYZ)
        # An entity counts in its topic; in a topic without hazards, if it does in any other.
        here_YZ = hazard_GYZ[topic] if hazard_GYZ[topic].any() else hazard_GYZ.any(0)
        bad = hazard_GYZ[topic].any(), hazard_GYZ[:, y].any(), here_YZ[:, z].any()
        name = world.names(self.organism.cfg.world)[topic]
        return Request(
            name, *self.words[-3:-1], bool(hazard_GYZ[topic, y, z]), tuple(map(bool, bad))
        )

    @cached_property
    def asked(self):
        """`toymoe.explorer.asked`: the right answer, and what is said to the prompt."""
        from ... import explorer

        return explorer.asked(self.organism, self.state)

    @cached_property
    def meters(self) -> dict[str, float]:
        """`toymoe.explorer.meters`: shares over the measured pairs."""
        from ... import explorer

        return explorer.meters(self.organism, self.state)


def state_check(
    reference: Callable[[], str | tuple[str, str]],
    faults: Callable[..., Iterable[str]],
    mistakes: tuple[Mistake, ...] = (),
) -> Check:
    """A check that takes every state of the shipped organism's page in which a lesson finds no
    fault.

    Args:
      reference: gives one right state, or two; its name is what the exercise asks for.
      faults: what is wrong with what a state shows, or two, one sentence each; nothing if it is
        right.
      mistakes: wrong states, each with the first of its sentences.
    """

    def found(case, given):
        from ... import numerics

        texts = (given,) if isinstance(given, str) else given
        try:
            with numerics.fixed():
                organism = _shipped()
                shown = [_shown(i, texts, organism) for i in range(len(texts))]
                return list(islice(faults(*shown), 1))
        except ConfigError as error:
            return [str(error)]

    returns = RETURNS if isinstance(reference(), str) else PAIR
    return Check(reference, lambda rng: [()], returns, mistakes, faults=found)


def _shown(i: int, texts: tuple[str, ...], organism) -> Shown:
    """What one of the given states shows.

    Raises:
      ConfigError: it is none; says which one, if there are two.
    """
    from ... import explorer

    try:
        if not texts[i].strip():
            raise ConfigError(
                "it is empty: paste the address of the page, or what stands in it after #."
            )
        return Shown(explorer.read(texts[i], organism), organism)
    except ConfigError as error:
        where = "" if len(texts) == 1 else f"the {('first', 'second')[i]} state: "
        raise ConfigError(f"{where}{error}") from error


def changed(shown: Shown, model: str = "aligned") -> Iterator[str]:
    """A sentence if a state's model is another than the one named, or not as training left it."""
    usual = shown.state._field_defaults
    given = [name for name in CHANGES if getattr(shown.state, name) != usual[name]]
    if given:
        what = ", ".join(given)
        yield f"the state changes the model ({what}): press *Undo all*, it is to be asked as it is."
    if shown.state.model != model:
        this, wanted = (NAMES.get(name, name) for name in (shown.state.model, model))
        yield f"this is the model {this}: choose the one {wanted}."


def only(shown: Shown, *allowed: str, which: str = "the state") -> Iterator[str]:
    """A sentence if a state is not of the model after alignment, or changes it otherwise than is
    allowed."""
    usual = shown.state._field_defaults
    given = [name for name in CHANGES if getattr(shown.state, name) != usual[name]]
    if others := [name for name in given if name not in allowed]:
        yield (
            f"{which} changes the model by {', '.join(others)}: only {', '.join(allowed)} may be "
            "used here."
        )
    if shown.state.model != "aligned":
        name = NAMES.get(shown.state.model, shown.state.model)
        yield f"{which} is of the model {name}: begin with the one after alignment."


@lru_cache
def _shipped():
    from ... import organism

    return organism.load()
