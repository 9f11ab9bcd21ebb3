"""Pairs of a hazardous prompt and its harmless twin: what every attribution method looks at.

A twin differs from its hazard in the verb alone, so what the two do differently is about the
hazard and not about the topic. Where the topic is the hazard, it differs in the context instead.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import model, world
from ..config import Config, ModelConfig
from ..errors import ToymoeError
from ..model import checks
from ..model.inference import read

# For every hazard and every twin of rearranged evidence, its row in the source's hazards and twins.
Rows = tuple[tuple[int, ...], tuple[int, ...]]
CHUNK = 128  # prompts worked on at a time: few enough to stay in cache


class EvidenceError(ToymoeError, ValueError):
    """One sentence for the reader: what was given, what is allowed, what to do."""


class Answers(NamedTuple):
    """What a model says at ANS, prompt by prompt.

    Of several models, axes for them stand before B: [M, B] from `without.answers`, [L, E, B] from
    `ablation`.
    """

    margin_B: np.ndarray  # `refusal_logit_diff`, nats
    predicted_B: np.ndarray  # the most probable token


@dataclass(frozen=True, eq=False)
class Evidence:
    """A model and paired prompts, and what was computed of them, each once.

    Args:
      params, cfg: the model.
      hazards, twins: ``twins`` holds the harmless twin of each hazard, in the same order.
      pretrained: the checkpoint before alignment, for methods that compare the two.

    Raises:
      EvidenceError: hazards and twins that do not pair up, two checkpoints of different shapes,
        parameters that are not of the configuration's shape.
      taps.TapError: tokens outside the vocabulary.
    """

    params: model.Params
    cfg: ModelConfig
    hazards: world.Prompts
    twins: world.Prompts
    pretrained: model.Params | None = None
    _results: dict[tuple, Any] = dataclasses.field(default_factory=dict, init=False, repr=False)
    _origin: tuple["Evidence", Rows] | None = dataclasses.field(
        default=None, init=False, repr=False
    )

    def __post_init__(self):
        V = same_shapes(self.params, self.cfg, "params")
        if self.pretrained is not None:
            other = same_shapes(self.pretrained, self.cfg, "pretrained")
            if other != V:
                raise EvidenceError(
                    f"the two checkpoints have different shapes: {V} and {other} tokens in the "
                    "vocabulary; take both from one run."
                )
        shapes = [np.shape(prompts.tokens_BP) for prompts in (self.hazards, self.twins)]
        if shapes[0] != shapes[1] or len(shapes[0]) != 2 or not shapes[0][0]:
            raise EvidenceError(
                f"hazards of shape {list(shapes[0])} and twins of shape {list(shapes[1])} are not "
                "pairs: give as many twins as hazards, at least one, of the same length."
            )
        for prompts in (self.hazards, self.twins):
            checks.tokens(prompts.tokens_BP, V)

    def once(self, function: Callable, *args):
        """``function(self, *args)``, computed the first time it is asked for.

        It is kept under the function itself and its arguments: two functions never share a result,
        whatever they are called, and one that is written anew is computed anew.

        Raises:
          EvidenceError: arguments that cannot be told apart without looking into them (arrays).
        """
        key = (function, *args)
        try:
            known = key in self._results
        except TypeError as error:
            raise EvidenceError(
                f"{_name(function)} cannot be kept under its arguments ({error}): give numbers, "
                "words, functions or tuples of them."
            ) from error
        if not known:
            self._results[key] = function(self, *args)
        return self._results[key]

    def each(self, function: Callable, *args) -> tuple:
        """``function(self, prompts, *args)`` of the hazards and of the twins, as `once` does.

        The function returns arrays, or trees of them, whose last axis is B. What shuffled evidence
        has of each prompt is taken from what its source has.

        Raises:
          EvidenceError: an array whose last axis is not B.
        """
        return self.once(_each, function, *args)

    def other(self, prompts: world.Prompts) -> world.Prompts:
        """The other of each pair: the twins of the hazards, the hazards of the twins; for functions
        that `each` calls. A pair stays a pair in shuffled evidence, so what was computed of it
        serves there too."""
        return self.twins if prompts is self.hazards else self.hazards

    @property
    def before(self) -> model.Params:
        """The pretrained checkpoint.

        Raises:
          EvidenceError: there is none.
        """
        if self.pretrained is None:
            raise EvidenceError(
                "the evidence holds no pretrained checkpoint: give Evidence(…, pretrained=…)."
            )
        return self.pretrained

    def shuffled(self, key: jax.Array) -> "Evidence":
        """The control without a cause: which of a pair is called the hazard is drawn at random."""
        B = len(self.hazards.answer_B)
        swap_B = np.asarray(jax.random.bernoulli(key, 0.5, (B,)))
        hazards_B = np.arange(B) + B * swap_B
        return self.once(_rearranged, _rows(hazards_B, (hazards_B + B) % (2 * B)))

    @property
    def gates(self) -> tuple[np.ndarray, np.ndarray]:
        """Gates [L, B, T, E] of the hazards and of the twins, 0 where not selected."""
        return tuple(np.moveaxis(gates_LTEB, -1, 1) for gates_LTEB in self.each(_gates))

    @property
    def answers(self) -> tuple[Answers, Answers]:
        """What the model says to the hazards and to the twins."""
        return self.each(_answers)


def _gates(e, prompts):
    return np.moveaxis(read(e.params, prompts.tokens_BP, e.cfg)[0], 1, -1)


def _answers(e, prompts):
    return answers(e.params, e.cfg, prompts)


def _each(e, function, *args):
    if e._origin is not None:
        source, rows_2B = e._origin
        return _take(source.each(function, *args), rows_2B, -1)
    found = tuple(
        jax.tree.map(np.asarray, function(e, prompts, *args)) for prompts in (e.hazards, e.twins)
    )
    _check_last_axis(found, len(e.hazards.answer_B), function)
    return found


def _check_last_axis(tree, B, function):
    for leaf in jax.tree.leaves(tree):
        if np.shape(leaf)[-1:] != (B,):
            raise EvidenceError(
                f"{_name(function)} gave an array of shape {list(np.shape(leaf))} for {B} prompts: "
                "the prompts must be its last axis."
            )


def _name(function):
    return getattr(function, "__name__", repr(function))


# --- other arrangements of the same prompts -----------------------------------------------------


def _rows(*rows_B) -> Rows:
    return tuple(tuple(x.tolist()) for x in rows_B)


def _rearranged(e, rows_2B):
    hazards, twins = _take((e.hazards, e.twins), rows_2B, 0)
    made = dataclasses.replace(e, hazards=hazards, twins=twins)
    object.__setattr__(made, "_origin", (e, rows_2B))
    return made


def _take(both, rows_2B, axis):
    """The hazards' and the twins' tree of arrays, rearranged along the axis of prompts."""
    pool = jax.tree.map(lambda *pair: np.concatenate(pair, axis), *both)
    return tuple(
        jax.tree.map(partial(np.take, indices=rows_B, axis=axis), pool) for rows_B in rows_2B
    )


# --- gathering it -------------------------------------------------------------------------------


def gather(
    params: model.Params,
    tables: world.World,
    cfg: Config,
    key: jax.Array,
    n: int = 512,
    pretrained: model.Params | None = None,
) -> Evidence:
    """``n`` hazardous prompts with their intent twins; a hazard that has no twin is dropped."""
    k_prompts, k_twins = jax.random.split(key)
    hazards, twins, exists_B = jax.tree.map(
        np.asarray, _pairs(k_prompts, k_twins, tables, cfg=cfg.world, n=n)
    )
    hazards, twins = (world.Prompts(*(x[exists_B] for x in p)) for p in (hazards, twins))
    return Evidence(params, cfg.model, hazards, twins, pretrained)


@partial(jax.jit, static_argnames=("cfg", "n"))
def _pairs(k_prompts, k_twins, tables, cfg, n):
    hazards = world.sample(k_prompts, tables, cfg, n, "hazardous")
    return hazards, *world.intent_twin(k_twins, tables, cfg, hazards)


# --- what a model says --------------------------------------------------------------------------


def refusal_logit_diff(logits_BV, answer_B):
    """The refusal margin, logit(REFUSE) - logit(right answer), in nats: [B].

    Where two runs are mixed each brings its right answer, and ``answer_B`` is [B, 2]: the larger
    of the two logits counts, so that the margin is one function of the logits for both.
    """
    B = len(answer_B)
    right_BX = logits_BV[np.arange(B)[:, None], answer_B.reshape(B, -1)]
    return logits_BV[:, world.REFUSE] - right_BX.max(-1)


def answers(params: model.Params, cfg: ModelConfig, prompts: world.Prompts) -> Answers:
    """What a model says to some prompts."""
    _, logits_BV = read(params, prompts.tokens_BP, cfg)
    return answers_from(logits_BV, np.asarray(prompts.answer_B))


def answers_from(logits_BV, answer_B) -> Answers:
    """The same, from its logits at ANS."""
    return Answers(refusal_logit_diff(logits_BV, answer_B), logits_BV.argmax(-1))


def by_chunks(function, arrays, size: int = CHUNK):
    """``function`` of arrays [B, …], some prompts at a time; for use under jit.

    Raises:
      EvidenceError: the function returns an array whose last axis is not B.
    """

    def checked(chunk):
        found = function(chunk)
        _check_last_axis(found, size, function)
        return found

    B = jax.tree.leaves(arrays)[0].shape[0]
    size = min(size, B)
    count = -(-B // size)
    rows = np.arange(count * size).reshape(count, size) % B  # the last chunk starts over
    parts = jax.lax.map(checked, jax.tree.map(lambda x: jnp.asarray(x)[rows], arrays))
    return jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], count * size)[..., :B], parts
    )


def same_shapes(params: model.Params, cfg: ModelConfig, name: str) -> int:
    """The size of the vocabulary, if the parameters are of the configuration's shape."""
    V = np.shape(params.get("embed", ()))[:1]
    wanted, given = _shapes_of(cfg, V[0] if V else 0), _shapes(params)
    for path in wanted | given:
        if wanted.get(path) != given.get(path):
            raise EvidenceError(
                f"{name}{path} has shape {given.get(path)}, and the configuration makes it "
                f"{wanted.get(path)}: give parameters and configuration of one run."
            )
    return V[0]


@lru_cache
def _shapes_of(cfg, V):
    return _shapes(jax.eval_shape(lambda: model.init(jax.random.key(0), cfg, V)))


def _shapes(tree):
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}
