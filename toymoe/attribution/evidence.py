"""Pairs of a hazardous prompt and its harmless twin: what every attribution method looks at.

A twin differs from its hazard in the verb alone, so what the two do differently is about the
hazard and not about the topic. Where the topic is the hazard, it differs in the context instead.
"""

import dataclasses
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

CHUNK = 128  # prompts worked on at a time: few enough to stay in cache


class EvidenceError(ToymoeError, ValueError):
    """One sentence for the reader: what was given, what is allowed, what to do."""


class Answers(NamedTuple):
    """What a model says at ANS, prompt by prompt."""

    margin_B: np.ndarray  # logit(REFUSE) - logit(right answer)
    predicted_B: np.ndarray  # the most probable token


@dataclass(frozen=True, eq=False)
class Evidence:
    """A model and paired prompts.

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
    _made: dict[str, Any] = dataclasses.field(default_factory=dict, init=False, repr=False)
    _from: tuple["Evidence", Any] | None = dataclasses.field(default=None, init=False, repr=False)

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

    def once(self, name: str, make):
        """``make()``, computed the first time it is asked for under this name."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def each(self, name: str, function):
        """``function(prompts)`` of the hazards and of the twins, computed the first time it is
        asked for under this name; trees of arrays whose last axis is B.

        What shuffled or resampled evidence has of each prompt is what its source has, rearranged.
        """
        if self._from is not None:
            source, rearrange = self._from
            return self.once(name, lambda: rearrange(*source.each(name, function)))
        return self.once(
            name,
            lambda: tuple(
                jax.tree.map(np.asarray, function(p)) for p in (self.hazards, self.twins)
            ),
        )

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
        swap_B = np.asarray(jax.random.bernoulli(key, 0.5, (len(self.hazards.answer_B),)))
        return self._rearranged(partial(_mix, swap_B))

    def resampled(self, key: jax.Array) -> "Evidence":
        """As many pairs, drawn with replacement: a bootstrap sample."""
        B = len(self.hazards.answer_B)
        rows_B = np.asarray(jax.random.randint(key, (B,), 0, B))
        return self._rearranged(lambda *both: jax.tree.map(lambda x: x[..., rows_B], both))

    def _rearranged(self, rearrange):
        columns = (world.Prompts(*(np.asarray(x).T for x in p)) for p in (self.hazards, self.twins))
        hazards, twins = (world.Prompts(*(x.T for x in p)) for p in rearrange(*columns))
        made = dataclasses.replace(self, hazards=hazards, twins=twins)
        object.__setattr__(made, "_from", (self, rearrange))
        return made

    @property
    def source(self) -> "Evidence":
        """The evidence that this one was shuffled or resampled from; itself if from none."""
        return self._from[0] if self._from else self

    @property
    def gates(self) -> tuple[np.ndarray, np.ndarray]:
        """Gates [L, B, T, E] of the hazards and of the twins, 0 where not selected."""
        found = self.each(
            "gates",
            lambda p: np.moveaxis(read(self.params, p.tokens_BP, self.cfg)[0], 1, -1),
        )
        return tuple(np.moveaxis(gates_LTEB, -1, 1) for gates_LTEB in found)

    @property
    def spoken(self) -> tuple[Answers, Answers]:
        """What the model says to the hazards and to the twins."""
        return self.each("spoken", lambda prompts: speak(self.params, self.cfg, prompts))


def _mix(swap_B, hazards, twins):
    """The two trees, prompts exchanged where ``swap_B``; B is the last axis."""
    return tuple(
        jax.tree.map(lambda x, y: np.where(swap_B, y, x), a, b)
        for a, b in ((hazards, twins), (twins, hazards))
    )


def evidence(
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


def margin(logits_BV, answer_B):
    """logit(REFUSE) - logit(right answer), in nats: [B]."""
    return logits_BV[:, world.REFUSE] - logits_BV[np.arange(len(answer_B)), answer_B]


def speak(params: model.Params, cfg: ModelConfig, prompts: world.Prompts) -> Answers:
    """What a model says to some prompts."""
    _, logits_BV = read(params, prompts.tokens_BP, cfg)
    return Answers(margin(logits_BV, np.asarray(prompts.answer_B)), logits_BV.argmax(-1))


def by_chunks(function, arrays, size: int = CHUNK):
    """``function`` of arrays [B, …], some prompts at a time; for use under jit.

    B must be the last axis of everything that ``function`` returns.
    """
    B = jax.tree.leaves(arrays)[0].shape[0]
    size = min(size, B)
    count = -(-B // size)
    rows = np.arange(count * size).reshape(count, size) % B  # the last chunk starts over
    parts = jax.lax.map(function, jax.tree.map(lambda x: jnp.asarray(x)[rows], arrays))
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
