"""The toy language in JavaScript held against its tables and twins, under every hazard rule."""

import dataclasses
import itertools
from functools import cache

import jax
import numpy as np
import pytest
from explorer.engine import Engine, text_of

from toymoe import hazards, world
from toymoe.config import WorldConfig
from toymoe.world import tokens

pytestmark = pytest.mark.browser

PARTS = {"context": "topic", "verb": "verb", "entity": "entity"}


@cache
def made(rule):
    cfg = WorldConfig(hazard_rule=rule, held_out_harmless=0.1)
    return cfg, world.make_world(jax.random.key(3), cfg)


def told(rule):
    """What a page is told of a world; its chains have four digits."""
    cfg, tables = made(rule)
    row, layout = hazards.RULES[rule], tokens.layout(cfg)
    lists = {name: np.asarray(table).tolist() for name, table in tables._asdict().items()}
    return {
        "config": {"world": dataclasses.asdict(cfg)},
        "names": list(layout.names),
        "specials": {name: i for i, name in enumerate(tokens.SPECIALS)},
        "verb": layout.verb,
        "entity": layout.entity,
        "answer": layout.answer,
        "topics": tokens.names(cfg),
        "controls": list(hazards.CONTROLS),
        "rule": {"name": rule, "meaning": row.meaning, "swaps": row.swaps, "parts": hazards.PARTS},
        "tables": lists | {"chain_GWW": np.round(tables.chain_GWW, 4).tolist()},
    }


def begun(page, rule, text=None):
    engine = Engine(page, text)
    engine.keep(data=told(rule))
    return engine


def prompts_of(rule, n=128):
    cfg, tables = made(rule)
    drawn = world.sample(jax.random.key(8), tables, cfg, n)
    return world.Prompts(*map(np.asarray, drawn))


every_rule = pytest.mark.parametrize("rule", hazards.RULES)


# --- labels -------------------------------------------------------------------------------------


@every_rule
def test_labels_of_every_request(page, rule):
    cfg, tables = made(rule)
    requests = list(np.ndindex(*tables.hazard_GYZ.shape))
    mine = begun(page, rule).run(
        "return requests.map((request) => labelled(...request, data))", requests=requests
    )
    assert len(mine) == cfg.topics * cfg.verbs * cfg.entities
    for request, labels in zip(requests, mine, strict=True):
        assert labels == {
            "topic": request[0],
            "verb": request[1],
            "entity": request[2],
            "answer": int(tables.answer_GYZ[request]),
            "hazard": bool(tables.hazard_GYZ[request]),
            "control": int(tables.control_GYZ[request]),
            "held_out": bool(tables.held_out_GYZ[request]),
        }


@every_rule
def test_reading_prompts(page, rule):
    prompts = prompts_of(rule)
    mine = begun(page, rule).run(
        "return prompts.map((tokens) => request_of(tokens, data))",
        prompts=prompts.tokens_BP.tolist(),
    )
    fields = ("topic", "verb", "entity", "answer", "hazard", "control", "held_out")
    for name in fields:
        labels_B = getattr(prompts, f"{name}_B")
        np.testing.assert_array_equal([labels[name] for labels in mine], labels_B, err_msg=name)
    assert len(set(prompts.topic_B.tolist())) > 4


def test_the_topic_of_shared_words_alone(page):
    """Where every word belongs to two topics, their chains decide."""
    cfg, tables = made("conjunction")
    context, topic = [], 2
    shared = [t for t in np.asarray(tables.word_GW)[2] if t in np.asarray(tables.word_GW)[3]]
    assert len(shared) > 1
    steps = {
        g: {t: i for i, t in enumerate(np.asarray(tables.word_GW)[g].tolist())} for g in (2, 3)
    }

    def likely(g, words):
        cumulative_WW = np.asarray(tables.chain_GWW)[g]
        probs_WW = np.diff(cumulative_WW, axis=1, prepend=0)
        at = [steps[g][t] for t in words]
        return np.log([probs_WW[a, b] for a, b in itertools.pairwise(at)]).sum()

    engine, rng = begun(page, "conjunction"), np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        context = [int(t) for t in rng.choice(shared, cfg.context)]
        topic = engine.run("return topic_of(context, data)", context=context)
        assert topic == max((2, 3), key=lambda g: likely(g, context))
        seen.add(topic)
    assert seen == {2, 3}


def test_what_is_no_prompt(page):
    engine = begun(page, "conjunction")
    tokens_P = prompts_of("conjunction").tokens_BP[0].tolist()
    engine.keep(tokens=tokens_P)
    assert engine.run("return request_of(tokens, data)")
    for code in (
        "tokens.slice(1)",
        "tokens.slice(0, -1)",
        "tokens.with(-4, data.specials.NOTE)",
        "tokens.with(-3, data.entity)",
        "tokens.with(3, data.verb)",
        "[0, 1, data.verb, data.entity, 2]",
    ):
        assert engine.run(f"return request_of({code}, data)") is None, code


def test_words_and_tokens(page):
    engine, tokens_P = begun(page, "conjunction"), prompts_of("conjunction").tokens_BP[0].tolist()
    names = world.vocabulary(made("conjunction")[0])
    words = [names[t] for t in tokens_P]
    assert engine.run("return words_of(tokens, data)", tokens=tokens_P) == words
    for given in (words, ".".join(words), " ".join(words)):
        assert engine.run("return tokens_of(words, data)", words=given) == tokens_P
    message = "try { tokens_of('BOS sing', data) } catch (error) { return error.message }"
    assert "sing is no word" in engine.run(message)


# --- what decides -------------------------------------------------------------------------------


def others(tables, request, part, flip):
    """The other choices of a part, by brute force."""
    hazard_GYZ, axis = np.asarray(tables.hazard_GYZ), hazards.PARTS.index(part)
    found = []
    for other in range(hazard_GYZ.shape[axis]):
        changed = (*request[:axis], other, *request[axis + 1 :])
        flips = hazard_GYZ[changed] != hazard_GYZ[request]
        if other != request[axis] and (flip is None or flips == flip):
            found.append(other)
    return found


@every_rule
def test_what_decides_every_request(page, rule):
    tables = made(rule)[1]
    requests = list(np.ndindex(*tables.hazard_GYZ.shape))
    mine = begun(page, rule).run(
        """return requests.map((request) => {
          const labels = labelled(...request, data);
          const options = data.rule.parts.map((part) => [true, false, null].map((flip) =>
            options_of(labels, data, part, flip)));
          return { options, parts: deciding(labels, data), why: why(labels, data) };
        })""",
        requests=requests,
    )
    for request, found in zip(requests, mine, strict=True):
        theirs = [
            [others(tables, request, part, flip) for flip in (True, False, None)]
            for part in hazards.PARTS
        ]
        assert found["options"] == theirs
        parts = [part for part, (flips, *_) in zip(hazards.PARTS, theirs, strict=True) if flips]
        assert found["parts"] == parts
        hazard, control = (bool(t[request]) for t in (tables.hazard_GYZ, tables.control_GYZ))
        assert found["why"].startswith("Hazardous" if hazard else "Harmless")
        assert hazards.RULES[rule].meaning in found["why"]
        assert ("looks like a hazard" in found["why"]) == control
        assert all(part in found["why"].split("Another")[-1] for part in parts)
        assert ("Another" in found["why"]) == bool(parts)


# --- drawing ------------------------------------------------------------------------------------


def test_contexts_come_from_the_chain(page):
    cfg, tables = made("conjunction")
    luck = np.random.default_rng(5).random((30, cfg.context))
    mine = begun(page, "conjunction").run(
        "return luck.map((row) => { let i = 0;"
        " return context_of(() => row[i++], data, 4, row.length) })",
        luck=luck.tolist(),
    )
    chain_WW = np.round(np.asarray(tables.chain_GWW)[4], 4)
    for row, words in zip(luck, mine, strict=True):
        at = [int(row[0] * cfg.words)]
        for u in row[1:]:
            at.append(min(np.searchsorted(chain_WW[at[-1]], u, side="right"), cfg.words - 1))
        assert words == np.asarray(tables.word_GW)[4][at].tolist()


def test_drawn_prompts(page):
    cfg, _ = made("conjunction")
    engine = begun(page, "conjunction")
    mine = engine.run(
        "const rng = seeded(3); return Array.from({ length: 400 }, () => draw(rng, data))"
    )
    read = engine.run("return mine.map((tokens) => request_of(tokens, data))", mine=mine)
    for name, n in (("topic", cfg.topics), ("verb", cfg.verbs), ("entity", cfg.entities)):
        counts = np.bincount([x[name] for x in read], minlength=n)
        assert len(counts) == n and (np.abs(counts - 400 / n) < 5 * (400 / n) ** 0.5).all()
    given = {"topic": 5, "verb": 0, "entity": 11}
    again = "return [7, 7, 8].map((seed) => draw(seeded(seed), data, given))"
    first, second, third = engine.run(again, given=given)
    assert first == second != third
    assert len(first) == cfg.context + 5
    labels = engine.run("return request_of(tokens, data)", tokens=first)
    assert given.items() <= labels.items()


# --- twins --------------------------------------------------------------------------------------

KINDS = {"intent": (None, True), "neutral": ("verb", False), "object": ("entity", True)}
KINDS["topic"] = ("context", None)


@every_rule
@pytest.mark.parametrize("kind", KINDS)
def test_twins(page, rule, kind):
    cfg, tables = made(rule)
    prompts = prompts_of(rule)
    part, flip = KINDS[kind]
    part = part or hazards.RULES[rule].swaps
    axis = hazards.PARTS.index(part)
    theirs, exists_B = world.TWINS[kind](jax.random.key(1), tables, cfg, prompts)
    engine = begun(page, rule)
    mine = engine.run(
        "const rng = seeded(5); return prompts.map((tokens) => twin(rng, tokens, data, kind))",
        prompts=prompts.tokens_BP.tolist(),
        kind=kind,
    )
    read = engine.run("return mine.map((x) => x && request_of(x, data))", mine=mine)
    assert [x is not None for x in mine] == np.asarray(exists_B).tolist()
    for b, (tokens_P, labels) in enumerate(zip(mine, read, strict=True)):
        if tokens_P is None:
            continue
        before = prompts.tokens_BP[b]
        differs = np.flatnonzero(np.array(tokens_P) != before)
        place = {"verb": [cfg.context + 2], "entity": [cfg.context + 3]}.get(part)
        assert differs.tolist() == place if place else differs.max() <= cfg.context
        request = tuple(int(x[b]) for x in (prompts.topic_B, prompts.verb_B, prompts.entity_B))
        allowed = others(tables, request, part, flip)
        assert labels[PARTS[part]] in allowed
        their_request = (theirs.topic_B[b], theirs.verb_B[b], theirs.entity_B[b])
        assert int(their_request[axis]) in allowed
        if flip is not None:
            assert (labels["hazard"] != bool(prompts.hazard_B[b])) == flip


@pytest.mark.parametrize(
    "old, new",
    [
        ("flips === flip)", "true)"),  # another verb, whatever comes of it
        ("scores.indexOf(Math.max(...scores))", "0 * scores.length"),  # always the first topic
    ],
)
def test_a_planted_bug_is_found(page, old, new):
    assert old in text_of()
    prompts = prompts_of("conjunction")
    engine = begun(page, "conjunction", text_of().replace(old, new))
    read = engine.run(
        "const rng = seeded(5); return prompts.map((tokens) => {"
        " const other = twin(rng, tokens, data); return [request_of(tokens, data),"
        " other && request_of(other, data)] })",
        prompts=prompts.tokens_BP.tolist(),
    )
    topics_right = [x["topic"] for x, _ in read] == prompts.topic_B.tolist()
    flipped = all(x["hazard"] != y["hazard"] for x, y in read if y)
    assert not (topics_right and flipped)
