"""The toy language against slow loops, hand tables and expected frequencies."""

import dataclasses
import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toymoe import world
from toymoe.config import HAZARD_RULES, ConfigError, WorldConfig

pytestmark = pytest.mark.core
few = settings(max_examples=25, deadline=None)
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
RULES = {rule: dataclasses.replace(CFG, hazard_rule=rule) for rule in HAZARD_RULES}
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
    tables, swap = jax.tree.map(jnp.asarray, tables), getattr(world, f"{name}_twin")
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


@pytest.fixture(scope="module")
def tables():
    return {rule: make(cfg) for rule, cfg in RULES.items()}


@pytest.fixture(scope="module")
def mixed(tables):
    return draw(tables["conjunction"], CFG)


# --- vocabulary and positions -------------------------------------------------------------------


def test_vocabulary_by_hand():
    # 2 of 4 words are shared, one with each neighbour on the ring alps - boat - clay - dune - alps.
    assert " ".join(world.vocabulary(CFG)) == (
        "BOS ASK ANS REFUSE SORRY OKAY END NOTE "
        "alps1 alps2 boat1 boat2 clay1 clay2 dune1 dune2 "
        "alps-dune1 alps-boat1 boat-clay1 clay-dune1 "
        "lift seal turn mark key box rope lamp coin "
        "answer0 answer1 answer2 answer3 answer4 answer5"
    )
    assert world.names(CFG) == ["alps", "boat", "clay", "dune"]


def test_positions_by_hand():
    cfg = dataclasses.replace(CFG, context=2)
    assert " ".join(world.roles(cfg)) == (
        "BOS context context ASK verb entity ANS response response response"
    )


@few
@given(st.integers(2, 64), st.integers(2, 40), st.floats(0, 1), st.integers(2, 64))
def test_topics_share_words_with_their_neighbours_only(G, W, overlap, many):
    cfg = dataclasses.replace(ODD, topics=G, words=W, overlap=overlap, verbs=many)
    words = [set(row) for row in world._layout(cfg)[0].tolist()]
    assert [len(s) for s in words] == [W] * G
    shared = len(words[0] & set().union(*words[1:]))
    assert abs(W * overlap - shared) <= 0.5
    halves = (shared // 2, (shared + 1) // 2) if G > 2 else (shared,)
    for g, h in itertools.combinations(range(G), 2):
        assert len(words[g] & words[h]) in (halves if h - g in (1, G - 1) else (0,))
    union = set().union(*words)
    assert union == set(range(8, 8 + len(union)))
    vocabulary = world.vocabulary(cfg)
    assert len(set(vocabulary)) == len(vocabulary) == 8 + len(union) + many + 2 + 2


# --- the tables ---------------------------------------------------------------------------------


def test_a_hazard_needs_all_three(tables):
    hazard = tables["conjunction"].hazard_GYZ
    topics, verbs, entities = ingredients(hazard)
    assert len(topics) == 2 and len(verbs) == 2 and all(len(entities[g]) == 2 for g in topics)
    for g, y, z in cells(hazard):
        assert hazard[g, y, z] == (g in topics and y in verbs and z in entities[g])
    # No ingredient decides alone: each occurs in harmless requests too.
    harmless = [cell for cell in cells(hazard) if not hazard[cell]]
    assert topics <= {g for g, _, _ in harmless} and verbs <= {y for _, y, _ in harmless}
    assert all(entities[g] <= {z for h, _, z in harmless if h == g} for g in topics)


def test_controls_lack_one_ingredient(tables):
    hazard, control = tables["conjunction"].hazard_GYZ, tables["conjunction"].control_GYZ
    topics, verbs, entities = ingredients(hazard)
    for g, y, z in cells(hazard):
        expected = 0
        if g in topics and (y in verbs) != (z in entities[g]):
            expected = 1 if y in verbs else 2
        elif g not in topics and any(hazard[h, y, z] for h in topics):
            expected = 3
        assert control[g, y, z] == expected
    assert set(np.unique(control)) == {0, 1, 2, 3}
    assert not tables["trigger"].control_GYZ.any() and not tables["topic"].control_GYZ.any()
    assert [len(world.controls(cfg)) for cfg in RULES.values()] == [3, 0, 0]


def test_the_other_hazard_rules(tables):
    trigger, topic = tables["trigger"].hazard_GYZ, tables["topic"].hazard_GYZ
    verbs = [y for y in range(4) if trigger[:, y].all()]
    assert len(verbs) == 1 and trigger.sum() == 4 * 5  # that verb with every topic and entity
    topics = [g for g in range(4) if topic[g].all()]
    assert len(topics) == 2 and topic.sum() == 2 * 4 * 5


def test_every_topic_can_become_hazardous():
    found = [ingredients(make(CFG, seed).hazard_GYZ) for seed in range(20)]
    assert set.union(*(topics for topics, _, _ in found)) == set(range(4))
    assert set.union(*(verbs for _, verbs, _ in found)) == set(range(4))
    assert set.union(*(e[g] for _, _, e in found for g in e)) == set(range(5))
    assert any(len({frozenset(e[g]) for g in topics}) == 2 for topics, _, e in found)


@few
@given(
    seed=st.integers(0, 1000),
    rule=st.sampled_from(HAZARD_RULES),
    counts=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)),
    held=st.tuples(st.floats(0.01, 0.8), st.floats(0, 0.8)),
)
def test_shares_are_exact(seed, rule, counts, held):
    cfg = dataclasses.replace(
        CFG,
        hazard_rule=rule,
        hazardous_topics=counts[0],
        hazardous_verbs=counts[1],
        hazardous_entities=counts[2],
        held_out=held[0],
        held_out_harmless=held[1],
    )
    made = make(cfg, seed)
    expected = {"conjunction": np.prod(counts), "trigger": 4 * 5, "topic": counts[0] * 4 * 5}
    assert made.hazard_GYZ.sum() == expected[rule]
    for among, share in ((made.hazard_GYZ, held[0]), (~made.hazard_GYZ, held[1])):
        held, total = (made.held_out_GYZ & among).sum(), among.sum()
        least, most = int(share > 0), total - 1  # some, and never all
        assert min(least, most) <= held <= most
        assert held in (least, most) or abs(held - share * total) < 0.501


@pytest.mark.parametrize("rule", HAZARD_RULES)
def test_never_all_is_held_out_and_nothing_where_the_share_is_0(rule):
    few = dict(topics=2, hazardous_topics=1, verbs=2, entities=2, held_out=0.8)
    cfg = dataclasses.replace(
        CFG, hazardous_verbs=1, hazardous_entities=1, held_out_harmless=0.0, hazard_rule=rule, **few
    )
    made = make(cfg)
    hazards = {"conjunction": 1, "trigger": 4, "topic": 4}[rule]
    assert made.hazard_GYZ.sum() == hazards
    assert (made.held_out_GYZ & made.hazard_GYZ).sum() == {1: 0, 4: 3}[hazards]
    assert not (made.held_out_GYZ & ~made.hazard_GYZ).any()


@pytest.mark.parametrize("answers", [6, 3])
def test_facts_conflict(answers):
    answer = make(dataclasses.replace(CFG, answers=answers)).answer_GYZ
    tokens = range(29, 29 + answers)  # after 8 specials, 12 words, 4 verbs and 5 entities
    assert set(answer.ravel().tolist()) == set(tokens)
    for y, z in itertools.product(range(4), range(5)):
        assert len(set(answer[:, y, z].tolist())) == min(answers, 4)
        assert (answer[0, y, z] == answer[3, y, z]) == (answers == 3)  # three have to do for four
    assert all(len(set(answer[g].ravel().tolist())) == answers for g in range(4))


# --- sampling -----------------------------------------------------------------------------------


def check_prompts(prompts, tables, cfg, n=200):
    """Read the first prompts token by token, and hold the labels against the tables."""
    vocab, C = world.vocabulary(cfg), cfg.context
    answer = len(vocab) - cfg.answers
    entity = answer - cfg.entities
    verb = entity - cfg.verbs
    for i in range(n):
        tokens, (g, y, z) = prompts.tokens_BP[i].tolist(), requests(prompts)[i]
        assert [vocab[t] for t in (tokens[0], tokens[1 + C], tokens[-1])] == ["BOS", "ASK", "ANS"]
        assert set(tokens[1 : 1 + C]) <= set(tables.word_GW[g].tolist())
        assert tokens[2 + C :] == [verb + y, entity + z, tokens[-1]] and len(tokens) == C + 5
        labels = [label[i] for label in prompts[4:]]
        assert labels == [table[g, y, z] for table in tables[2:]]
        assert answer <= labels[0] < len(vocab)


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


@pytest.mark.parametrize("rule", HAZARD_RULES)
def test_each_kind_is_uniform_over_its_requests(tables, rule):
    made, cfg = tables[rule], RULES[rule]
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
        ValueError, match=r"'hazard' do not exist.*one of any, mixed, .*harmless_topic"
    ):
        draw(tables["conjunction"], CFG, "hazard")
    with pytest.raises(ValueError, match=r"'hazardous_verb' .* rule 'trigger': .*, harmless$"):
        draw(tables["trigger"], RULES["trigger"], "hazardous_verb")


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


# --- twins --------------------------------------------------------------------------------------


# Which part of the request each twin changes (topic, verb, entity), and whether the hazard flips.
TWINS = {"intent": (1, True), "neutral": (1, False), "object": (2, True), "topic": (0, None)}


def check_twins(name, made, cfg, prompts, n=100):
    axis, flip = TWINS[name]
    if name == "intent" and cfg.hazard_rule == "topic":
        axis = 0
    twins, exists = twin(name, made, cfg, prompts)
    check_prompts(twins, made, cfg, n)
    position = {1: cfg.context + 2, 2: cfg.context + 3}
    for i in range(n):
        before, after = requests(prompts)[i], requests(twins)[i]
        hazard = made.hazard_GYZ[before]
        options = [(*before[:axis], v, *before[axis + 1 :]) for v in range(made[3].shape[axis])]
        allowed = [
            option
            for option in options
            if option != before and (flip is None or (made.hazard_GYZ[option] != hazard) == flip)
        ]
        assert exists[i] == bool(allowed)
        assert after in (allowed or [before])
        changed = np.flatnonzero(prompts.tokens_BP[i] != twins.tokens_BP[i]).tolist()
        if axis:
            assert changed == [position[axis]] * bool(allowed)
        else:
            assert all(1 <= p <= cfg.context for p in changed)
    return exists


@pytest.mark.parametrize("rule", HAZARD_RULES)
def test_twins_are_the_minimal_change(tables, rule):
    exists = {
        name: check_twins(name, tables[rule], RULES[rule], draw(tables[rule], RULES[rule]))
        for name in TWINS
    }
    assert exists["topic"].all()
    assert exists["intent"].all() == (rule != "conjunction")
    # No entity decides under the other two rules, and the only trigger has no neutral twin.
    assert exists["object"].any() == (rule == "conjunction")
    assert exists["neutral"].all() == (rule != "trigger")


def test_tables_may_be_numpy(tables):
    cfg, numpy = RULES["conjunction"], tables["conjunction"]
    prompts, arrays = draw(numpy, cfg), jax.tree.map(jnp.asarray, numpy)
    assert isinstance(numpy.chain_GWW, np.ndarray)
    made = (world.topic_twin(jax.random.key(0), t, cfg, prompts)[0] for t in (numpy, arrays))
    for a, b in zip(*made, strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_twins_under_any_hazards(tables, mixed, seed, density):
    hazard = np.random.default_rng(seed).random((4, 4, 5)) < density
    planted = tables["conjunction"]._replace(hazard_GYZ=hazard)
    prompts = mixed._replace(hazard_B=hazard[mixed.topic_B, mixed.verb_B, mixed.entity_B])
    for name in TWINS:
        check_twins(name, planted, CFG, prompts, n=30)


def test_twins_are_any_of_the_possible_ones(tables, mixed):
    harmless = tables["conjunction"]._replace(hazard_GYZ=np.zeros((4, 4, 5), bool))
    twins, _ = twin("neutral", harmless, CFG, mixed._replace(hazard_B=np.zeros(N, bool)))
    shift = Counter(((twins.verb_B - mixed.verb_B) % 4).tolist())
    assert set(shift) == {1, 2, 3}
    assert chi_square(list(shift.values()), [N / 3] * 3) < 4


# --- for people ---------------------------------------------------------------------------------


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
