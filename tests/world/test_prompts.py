"""Prompts and their labels against slow loops, hand tables and expected frequencies."""

import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from language import BY_RULE, CFG, ODD, N, cells, check_prompts, chi_square, draw, make, requests

from toymoe import hazards, world
from toymoe.config import ConfigError

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def tables():
    return {rule: make(cfg) for rule, cfg in BY_RULE.items()}


@pytest.fixture(scope="module")
def mixed(tables):
    return draw(tables["conjunction"], CFG)


def everything(key, cfg):
    """Tables, prompts, and their intent and topic twins."""
    keys = jax.random.split(key, 3)
    made = world.make_world(keys[0], cfg)
    prompts = world.sample(keys[1], made, cfg, N)
    intent = world.intent_twin(keys[2], made, cfg, prompts)
    return made, prompts, intent, world.topic_twin(keys[2], made, cfg, prompts)


compiled = jax.jit(everything, static_argnums=1)


@pytest.mark.parametrize("cfg", [CFG, ODD], ids=["even", "odd"])
def test_prompts_carry_their_labels(cfg):
    made, prompts, (intent, _), (topic, exists) = jax.tree.map(
        np.asarray, everything(jax.random.key(0), cfg)
    )
    for some in (prompts, intent, topic):
        check_prompts(some, made, cfg)
    assert exists.all() and (topic.topic_B != prompts.topic_B).all()
    assert made.hazard_GYZ.sum() == (
        cfg.hazardous_topics * cfg.hazardous_verbs * cfg.hazardous_entities
    )


def test_compiled_and_not_draw_the_same(tables, mixed):
    both = (run(jax.random.key(4), ODD) for run in (compiled, everything))
    for a, b in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    other = draw(tables["conjunction"], CFG, seed=9)
    assert (other.tokens_BP != mixed.tokens_BP).any()


def test_requests_come_at_their_shares(tables, mixed):
    hazard, control = tables["conjunction"].hazard_GYZ, tables["conjunction"].control_GYZ
    # Hazards .4, each kind of control .3 / 3, and the remaining .3 for other harmless requests.
    shares = {(True, 0): 0.4, (False, 0): 0.3, **{(False, 1 + i): 0.1 for i in range(3)}}
    kinds = Counter((bool(hazard[cell]), int(control[cell])) for cell in cells(hazard))
    expected = np.zeros(hazard.shape)
    for cell in cells(hazard):
        kind = (bool(hazard[cell]), int(control[cell]))
        expected[cell] = shares[kind] / kinds[kind]
    weights = world.request_weights(jax.tree.map(jnp.asarray, tables["conjunction"]), CFG)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    counts = np.zeros(hazard.shape)
    for cell in requests(mixed):
        counts[cell] += 1
    assert chi_square(counts, N * expected) < 1.6  # 79 degrees of freedom
    assert chi_square(counts, np.full(hazard.shape, N / 80)) > 5


@pytest.mark.parametrize("rule", hazards.RULES)
def test_each_kind_is_uniform_over_its_requests(tables, rule):
    made, cfg = tables[rule], BY_RULE[rule]
    kinds = {"hazardous": made.hazard_GYZ, "harmless": ~made.hazard_GYZ}
    kinds |= {name: made.control_GYZ == 1 + i for i, name in enumerate(world.controls(cfg))}
    for name, mask in kinds.items():
        seen = Counter(requests(draw(made, cfg, name)))
        assert set(seen) == {cell for cell in cells(mask) if mask[cell]}
        counts = [seen[cell] for cell in sorted(seen)]
        assert chi_square(counts, [N / len(seen)] * len(seen)) < 2.5
    shares = draw(made, cfg).hazard_B.mean()
    assert shares == pytest.approx(0.4, abs=0.05)


def test_kinds_that_do_not_exist_are_named(tables):
    with pytest.raises(
        ConfigError, match=r"'hazard' do not exist.*one of any, mixed, .*harmless_topic"
    ):
        draw(tables["conjunction"], CFG, "hazard")
    with pytest.raises(ConfigError, match=r"'hazardous_verb' .* rule 'trigger': .*, harmless\.$"):
        draw(tables["trigger"], BY_RULE["trigger"], "hazardous_verb")


@pytest.mark.parametrize("kind", ["mixed", "hazardous", "harmless"])
def test_held_out_when_asked(tables, kind):
    made = tables["conjunction"]
    everywhere = set(requests(draw(made, CFG, kind)))
    held, kept = (set(requests(draw(made, CFG, kind, held_out=out))) for out in (True, False))
    assert held and all(made.held_out_GYZ[cell] for cell in held)
    assert kept and not any(made.held_out_GYZ[cell] for cell in kept)
    assert held | kept == everywhere


def test_requests_that_do_not_exist_are_an_error_and_not_the_last_one(tables):
    made = tables["conjunction"]
    none, every = (
        made._replace(held_out_GYZ=np.full(made.hazard_GYZ.shape, held)) for held in (False, True)
    )
    for kind in ("mixed", "hazardous", "hazardous_verb"):
        for planted, held_out in ((none, True), (every, False)):
            message = f"no request of kind '{kind}' with held_out={held_out}:"
            with pytest.raises(ConfigError, match=message):
                draw(planted, CFG, kind, held_out)
            draw(planted, CFG, kind, not held_out)
    harmless = made._replace(hazard_GYZ=np.zeros_like(made.hazard_GYZ))
    with pytest.raises(ConfigError, match="no request of kind 'hazardous': ask for others"):
        draw(harmless, CFG, "hazardous")
    jax.jit(lambda key: world.sample(key, none, CFG, 2, "hazardous", True))(jax.random.key(0))


def test_context_follows_the_topics_chain(tables, mixed):
    made = tables["conjunction"]
    counts = np.zeros((4, 4, 4))  # topic, word, next word
    first = np.zeros(4)
    for topic, tokens in zip(mixed.topic_B, mixed.tokens_BP[:, 1:6].tolist(), strict=True):
        words = [made.word_GW[topic].tolist().index(t) for t in tokens]
        first[words[0]] += 1
        for word, following in itertools.pairwise(words):
            counts[topic, word, following] += 1
    chain = np.diff(made.chain_GWW, prepend=0)
    assert (chain > 0).all() and np.allclose(chain.sum(-1), 1)
    leaving = counts.sum(-1, keepdims=True)
    assert chi_square(counts, leaving * chain) < 1.6
    assert chi_square(counts, leaving * np.roll(chain, 1, 0)) > 10  # another topic's chain
    assert chi_square(first, [N / 4] * 4) < 4


def test_planted_chain_is_followed_to_the_letter(tables):
    cycle = np.cumsum(np.eye(4)[[1, 2, 3, 0]], -1)
    planted = tables["conjunction"]._replace(chain_GWW=np.broadcast_to(cycle, (4, 4, 4)))
    prompts = draw(planted, CFG)
    for topic, tokens in zip(prompts.topic_B, prompts.tokens_BP[:, 1:6].tolist(), strict=True):
        words = [planted.word_GW[topic].tolist().index(t) for t in tokens]
        assert words == [(words[0] + i) % 4 for i in range(5)]


def test_responses_by_hand(mixed):
    refuse = np.arange(N) % 2 == 0
    tokens = np.asarray(world.respond(mixed, refuse))
    assert tokens.shape == (N, len(world.roles(CFG)))
    np.testing.assert_array_equal(tokens[:, :-3], mixed.tokens_BP)
    words = np.array(world.vocabulary(CFG))[tokens[:, -3:]]
    assert (words[::2] == ["REFUSE", "SORRY", "END"]).all()
    assert (words[1::2, 1:] == ["OKAY", "END"]).all()
    np.testing.assert_array_equal(tokens[1::2, -3], mixed.answer_B[1::2])


def test_show_is_readable(tables):
    tokens = np.array([[0, 12, 13, 18, 19, 12, 1, 21, 26, 2]] * 2)
    prompts = world.Prompts(
        tokens, *np.array([[2, 2], [1, 1], [2, 2], [31, 31], [1, 0]]), *[[]] * 2
    )
    prompts = prompts._replace(control_B=np.array([0, 3]), held_out_B=np.array([False, True]))
    text = "BOS clay1 clay2 boat-clay1 clay-dune1 clay1 ASK seal rope ANS\n    "
    made = tables["conjunction"]
    assert world.show(prompts, made, CFG) == text + "[topic clay; HAZARDOUS; answer answer2]"
    assert world.show(prompts, made, CFG, 1) == text + (
        "[topic clay; harmless; answer answer2; control: harmless topic; held out of alignment]"
    )
