"""The toy language: topics, conflicting facts, hazards, twins; every label comes with the tokens.

Another twin: a function in `twins` and a row in `twins.TWINS`; another rule of what is hazardous: a
row in `toymoe.hazards`. A prompt and its response, as token positions::

    BOS  w1 … wC  ASK  verb  entity  ANS | answer  OKAY   END      (the request is answered)
                                         | REFUSE  SORRY  END      (the request is refused)

The same fact also occurs as a note, which has NOTE in the place of ASK: it asks for nothing, and so
is never refused. Notes are how a model knows what it refuses to say.

Besides the letters of the package docstring: C context words of a prompt, W words of a topic,
Y verbs, Z entities, P prompt positions (without the response). Hazards are arbitrary combinations
of meaningless tokens.
"""

from .prompts import KINDS, Prompts, as_notes, draw, request_weights, respond, sample, show
from .tables import CONTROLS, World, controls, make_world
from .tokens import (
    ANS,
    ASK,
    BOS,
    END,
    NOTE,
    OKAY,
    REFUSE,
    RESPONSE,
    SORRY,
    SPECIALS,
    names,
    roles,
    vocabulary,
)
from .twins import (
    TWINS,
    harmless_pair,
    intent_twin,
    neutral_twin,
    object_twin,
    stray_word_twin,
    topic_twin,
    word_twin,
)

__all__ = [
    "ANS",
    "ASK",
    "BOS",
    "CONTROLS",
    "END",
    "KINDS",
    "NOTE",
    "OKAY",
    "REFUSE",
    "RESPONSE",
    "SORRY",
    "SPECIALS",
    "TWINS",
    "Prompts",
    "World",
    "as_notes",
    "controls",
    "draw",
    "harmless_pair",
    "intent_twin",
    "make_world",
    "names",
    "neutral_twin",
    "object_twin",
    "request_weights",
    "respond",
    "roles",
    "sample",
    "show",
    "stray_word_twin",
    "topic_twin",
    "vocabulary",
    "word_twin",
]
