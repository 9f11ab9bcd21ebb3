"""What the tests of the toy language share: a small world, its slow reading, and a statistic."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from toymoe import hazards, world
from toymoe.config import WorldConfig

N = 2048  # prompts of every sample: one shape, one compilation

CFG = WorldConfig(
    topics=4,
    hazardous_topics=2,
    context=5,
    words=4,
    overlap=0.5,
    verbs=4,
    hazardous_verbs=2,
    entities=5,
    hazardous_entities=2,
    answers=6,
    hazard_rule="conjunction",
    held_out=0.3,
    held_out_harmless=0.1,
    hazard_share=0.4,
    control_share=0.3,
)
BY_RULE = {rule: dataclasses.replace(CFG, hazard_rule=rule) for rule in hazards.RULES}
# Odd and as small as can be: more topics than answers, no word that is a topic's own.
ODD = WorldConfig(3, 1, 1, 3, 1.0, 2, 1, 2, 1, 2, "conjunction", 0.01, 0.0, 0.5, 0.5)


def make(cfg, seed=0):
    """The tables, in numpy."""
    return jax.tree.map(np.asarray, world.make_world(jax.random.key(seed), cfg))


def draw(tables, cfg, kind="mixed", held_out=None, seed=1):
    tables = jax.tree.map(jnp.asarray, tables)
    prompts = world.sample(jax.random.key(seed), tables, cfg, N, kind, held_out)
    return jax.tree.map(np.asarray, prompts)


def twin(name, tables, cfg, prompts, seed=2):
    tables, swap = jax.tree.map(jnp.asarray, tables), world.TWINS[name]
    return jax.tree.map(np.asarray, swap(jax.random.key(seed), tables, cfg, prompts))


def requests(prompts):
    return list(zip(*(x.tolist() for x in prompts[1:4]), strict=True))


def cells(table):
    return list(itertools.product(*map(range, table.shape)))


def ingredients(hazard_GYZ):
    """Hazardous topics, verbs, and entities of each topic, read off the hazards alone."""
    hits = [cell for cell in cells(hazard_GYZ) if hazard_GYZ[cell]]
    entities = {g: {z for h, _, z in hits if h == g} for g in range(len(hazard_GYZ))}
    return {g for g, _, _ in hits}, {y for _, y, _ in hits}, entities


def chi_square(counts, expected):
    """Far from 1 per degree of freedom where the counts do not come from the expectation."""
    counts, expected = np.ravel(counts), np.ravel(expected)
    assert not counts[expected == 0].any()
    kept = expected > 0
    return ((counts - expected)[kept] ** 2 / expected[kept]).sum() / (kept.sum() - 1)


def check_prompts(prompts, tables, cfg, n=200):
    """Read the first prompts token by token, and hold the labels against the tables."""
    vocab, C = world.vocabulary(cfg), cfg.context
    answer = len(vocab) - cfg.answers
    entity = answer - cfg.entities
    verb = entity - cfg.verbs
    for i, (g, y, z) in enumerate(requests(prompts)[:n]):
        tokens = prompts.tokens_BP[i].tolist()
        assert [vocab[t] for t in (tokens[0], tokens[1 + C], tokens[-1])] == ["BOS", "ASK", "ANS"]
        assert set(tokens[1 : 1 + C]) <= set(tables.word_GW[g].tolist())
        assert tokens[2 + C :] == [verb + y, entity + z, tokens[-1]] and len(tokens) == C + 5
        labels = [label[i] for label in prompts[4:]]
        assert labels == [table[g, y, z] for table in tables[2:]]
        assert answer <= labels[0] < len(vocab)
