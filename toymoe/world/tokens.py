"""Every token and its name, and what stands at each position of prompt and response."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..config import WorldConfig

BOS, ASK, ANS, REFUSE, SORRY, OKAY, END, NOTE = range(8)
SPECIALS = ("BOS", "ASK", "ANS", "REFUSE", "SORRY", "OKAY", "END", "NOTE")
RESPONSE = 3  # tokens in a response

_TOPICS = "alps boat clay dune echo fern glow hive".split()
_VERBS = "lift seal turn mark fold melt trade copy".split()
_ENTITIES = "key box rope lamp coin jar bell wire drum mask seed gate".split()


class Layout(NamedTuple):
    """Which token is what."""

    names: tuple[str, ...]  # of every token
    word_GW: np.ndarray  # token of each word of each topic
    verb: int  # token of the first verb, …
    entity: int
    answer: int


@lru_cache
def layout(cfg: WorldConfig) -> Layout:
    """The tokens of a world: specials, words, verbs, entities, answers."""
    word_GW, words = _words(cfg)
    verb = len(SPECIALS) + len(words)
    entity = verb + cfg.verbs
    names = (
        *SPECIALS,
        *words,
        *_numbered(_VERBS, "verb", cfg.verbs),
        *_numbered(_ENTITIES, "thing", cfg.entities),
        *(f"answer{i}" for i in range(cfg.answers)),
    )
    return Layout(names, word_GW, verb, entity, entity + cfg.entities)


def _words(cfg: WorldConfig) -> tuple[np.ndarray, list[str]]:
    """Word tokens [G, W], and the name of each: the topics that use it, numbered."""
    G, W, shared = cfg.topics, cfg.words, round(cfg.words * cfg.overlap)
    own, first = W - shared, len(SPECIALS)
    # Neighbours on a ring of topics share half of their shared words each. One pool word is left
    # to the last topic alone if G * shared is odd.
    pool = (G * shared + 1) // 2
    own_GW = first + np.arange(G * own).reshape(G, own)
    in_pool_GW = ((np.arange(G) * shared) // 2)[:, None] + np.arange(shared)
    word_GW = np.concatenate([own_GW, first + G * own + in_pool_GW % max(pool, 1)], 1)
    topics, counts, words = names(cfg), {}, []
    for token in range(first, first + G * own + pool):
        users = "-".join(topics[g] for g in np.flatnonzero((word_GW == token).any(1)))
        counts[users] = counts.get(users, 0) + 1
        words.append(f"{users}{counts[users]}")
    return word_GW, words


def _numbered(known: list[str], fallback: str, n: int) -> list[str]:
    return [known[i] if i < len(known) else f"{fallback}{i}" for i in range(n)]


def names(cfg: WorldConfig) -> list[str]:
    """The topics' names."""
    return _numbered(_TOPICS, "topic", cfg.topics)


def vocabulary(cfg: WorldConfig) -> tuple[str, ...]:
    """The name of every token; its length is the vocabulary size V."""
    return layout(cfg).names


def roles(cfg: WorldConfig) -> tuple[str, ...]:
    """What stands at each position of prompt and response: BOS, context, ASK, verb, … [T]."""
    prompt = ("BOS", *("context",) * cfg.context, "ASK", "verb", "entity", "ANS")
    return (*prompt, *("response",) * RESPONSE)
