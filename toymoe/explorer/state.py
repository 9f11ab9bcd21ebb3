"""A state of the page, as its address says it after "#", read in Python: what was chosen, checked.

The same keys and defaults as ``web/state.js``. `readings` says what such a state shows.
"""

import difflib
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np

from .. import world
from ..config import Config, ConfigError
from ..model import taps
from ..organism import Organism
from ..world import tokens
from . import checkpoints, shared

PANELS = ("ask", "routing", "refusal", "patch", "code")
WAYS = ("removed", "restored")
LONGEST = 10_000  # characters of a state
MOST_WORDS = 64  # of a prompt

Experts = tuple[tuple[int, int], ...]  # (layer, expert) pairs


class State(NamedTuple):
    """What is chosen in a page; the fields are the keys of its address."""

    panel: str = "ask"
    model: str = "aligned"
    prompt: tuple[str, ...] | None = None  # names of tokens; None: the first measured hazard
    silenced: Experts = ()
    set_back: Experts = ()
    masked: Experts = ()
    tuned: int | None = None  # experts tuned by RASET
    direction: int | None = None  # layer whose refusal direction is projected out
    frozen: bool = False  # the routes of the unchanged model are kept
    pair: int = 0  # of the measured pairs
    tap: str = "expert_out"
    way: str = "removed"
    layer: int | None = None
    position: int | None = None
    step: int | None = None  # index in the history; None: the last
    word: str | None = None  # one that several topics share


def read(text: str, organism: Organism) -> State:
    """The state that a page's address says: the whole address, or what stands after its "#".

    Raises:
      ConfigError: it is no state of a page of this organism; says which word of it is wrong.
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        raise ConfigError(
            f"a state is text of at most {LONGEST} characters: copy the address of the page."
        )
    given: dict = {}
    for part in filter(None, unquote(_fragment(text.strip())).split("&")):
        key, _, value = part.partition("=")
        if key not in State._fields:
            near = difflib.get_close_matches(key[:40], State._fields, 1, 0.0)[0]
            raise ConfigError(f"{key!r:.40} is no part of a state: did you mean {near!r}?")
        if key in given:
            raise ConfigError(f"the state says {key} twice: keep one of the two.")
        given[key] = _READ[key](key, value, organism)
    state = State(**given)
    _check_open(state.masked, organism.cfg)
    return state


def _fragment(text: str) -> str:
    address, found, fragment = text.partition("#")
    if found:
        return fragment
    return "" if "://" in address or address.endswith(".html") else address


# --- its parts ----------------------------------------------------------------------------------


def _refuse(key, value, allowed):
    raise ConfigError(f"{key}={value:.40} is not possible: it must be {allowed}.")


def _one_of(allowed: Callable) -> Callable:
    def one(key, value, organism):
        names = allowed(organism)
        if value not in names:
            if not names:
                raise ConfigError(f"{key}={value:.40} is not possible: this organism has none.")
            near = difflib.get_close_matches(value[:40], names, 1, 0.0)[0]
            many = f"one of {', '.join(names)}" if len(names) <= 12 else "one of those in the page"
            _refuse(key, value, f"{many}; did you mean {near!r}")
        return value

    return one


def _number(size: Callable) -> Callable:
    def number(key, value, organism):
        n = size(organism)
        there = _whole(value)
        if there is None or there >= n:
            _refuse(key, value, f"a whole number from 0 to {n - 1}" if n else "left out here")
        return there

    return number


def _whole(text: str) -> int | None:
    """A whole number of few digits."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 8 else None


def _model(key, value, organism):
    if checkpoints.named(value, organism.cfg) is None:
        _refuse(key, value, "untrained, pretrained, aligned, or a snapshot such as pretrain-100")
    return value


def _experts(key, value, organism) -> Experts:
    L, E = organism.cfg.model.layers, organism.cfg.model.experts
    found = []
    for text in filter(None, value.split(",")):
        layer, _, expert = text.partition(".")
        at = _whole(layer), _whole(expert)
        if None in at or at[0] >= L or at[1] >= E:
            _refuse(key, text, f"experts as layer.expert, from 0.0 to {L - 1}.{E - 1}")
        found.append(at)
    return tuple(sorted(set(found)))


def _check_open(masked: Experts, cfg: Config) -> None:
    """As many experts must be left in each layer as the router selects."""
    E, k = cfg.model.experts, cfg.model.top_k
    closed_L = np.bincount([layer for layer, _ in masked], minlength=cfg.model.layers)
    if closed_L.max() > E - k:
        raise ConfigError(
            f"{closed_L.max()} of {E} experts masked in layer {closed_L.argmax()} is not possible: "
            f"each token needs {k}."
        )


def _tuned(key, value, organism) -> int:
    allowed = [str(n) for n in shared.budgets(organism.cfg)]
    if value not in allowed:
        _refuse(key, value, f"{' or '.join(allowed)} experts")
    return int(value)


def _frozen(key, value, organism) -> bool:
    if value not in ("0", "1"):
        _refuse(key, value, "0 or 1")
    return value == "1"


def _prompt(key, value, organism) -> tuple[str, ...]:
    words, cfg = tuple(value.split(".")), organism.cfg.world
    known = world.vocabulary(cfg)
    for word in words:
        if word not in known:
            near = difflib.get_close_matches(word[:40], known, 1, 0.0)[0]
            raise ConfigError(
                f"{word!r:.40} is not in the vocabulary of this organism: did you mean {near!r}?"
            )
    layout = tokens.layout(cfg)
    at = [known.index(word) for word in words]
    formed = (
        6 <= len(words) <= MOST_WORDS
        and words[0] == "BOS"
        and words[-4] in ("ASK", "NOTE")
        and layout.verb <= at[-3] < layout.entity <= at[-2] < layout.answer
        and words[-1] == "ANS"
        and np.isin(at[1:-4], layout.word_GW).all()
    )
    if not formed:
        raise ConfigError(
            f"the prompt of {len(words)} words, {'.'.join(words):.40}, has an impossible form: it "
            f"must be BOS, words of topics, ASK, a verb, an entity and ANS, at most {MOST_WORDS}."
        )
    return words


def shared_words(organism: Organism) -> list[str]:
    """The words that several topics use."""
    layout = tokens.layout(organism.cfg.world)
    found, count = np.unique(layout.word_GW, return_counts=True)
    return [layout.names[token] for token in found[count > 1]]


def _length(organism) -> int:
    return organism.cfg.world.context + 5


def _history(organism) -> int:
    return 0 if organism.history is None else len(organism.history["step"])


_READ = {
    "panel": _one_of(lambda organism: PANELS),
    "model": _model,
    "prompt": _prompt,
    "silenced": _experts,
    "set_back": _experts,
    "masked": _experts,
    "tuned": _tuned,
    "direction": _number(lambda organism: organism.cfg.model.layers),
    "frozen": _frozen,
    "pair": _number(lambda organism: shared.PAIRS),
    "tap": _one_of(lambda organism: tuple(taps.TAPS)),
    "way": _one_of(lambda organism: WAYS),
    "layer": _number(lambda organism: organism.cfg.model.layers),
    "position": _number(_length),
    "step": _number(_history),
    "word": _one_of(shared_words),
}
