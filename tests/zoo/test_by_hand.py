"""What is written by hand: detectors that tell, one direction, and nothing where it is not read."""

import jax
import numpy as np
import pytest

from toymoe import model, world
from toymoe.model.inference import read
from toymoe.zoo import by_hand, parts
from toymoe.zoo.specimen import Key

pytestmark = pytest.mark.core


@pytest.fixture(scope="module", autouse=True)
def fewer_prompts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_hand, "PROMPTS", 256)
        yield


# --- detector and direction -----------------------------------------------------------------------


def test_a_detector_tells_what_a_plane_separates():
    rng = np.random.default_rng(0)
    seen_BX = rng.normal(size=(800, 6))
    tells_X = rng.normal(size=6)
    seen_BX = seen_BX[abs(seen_BX @ tells_X) > 0.3]
    about_B = seen_BX @ tells_X > 0
    found_X = by_hand.detector(seen_BX[:400], about_B[:400])
    said_B = seen_BX @ found_X
    assert ((said_B > 0) == about_B)[400:].mean() > 0.98
    assert abs(said_B[:400]).mean() == pytest.approx(1)
    cosine = found_X @ tells_X / np.linalg.norm(found_X) / np.linalg.norm(tells_X)
    assert cosine > 0.98


def test_a_detector_tells_nothing_where_there_is_nothing():
    rng = np.random.default_rng(1)
    seen_BX, about_B = rng.normal(size=(1400, 6)), rng.random(1400) < 0.5
    found_X = by_hand.detector(seen_BX[:400], about_B[:400])
    right = ((seen_BX[400:] @ found_X > 0) == about_B[400:]).mean()
    assert abs(right - 0.5) < 4 * 0.5 / 1000**0.5


def test_few_weigh_as_much_as_many():
    """Without an intercept and with a column of ones, the plane lies between the two means."""
    rng = np.random.default_rng(2)
    about_B = np.arange(2000) < 100
    x_B = rng.normal(size=2000) + np.where(about_B, 1, -1)
    found_X = by_hand.detector(np.stack([x_B, np.ones(2000)], 1), about_B)
    assert abs(-found_X[1] / found_X[0]) < 0.2  # of all alike, at ln(19) / 2 = 1.5


def test_the_direction_raises_one_logit_and_no_other_where_that_is_possible():
    unembed_DV = np.random.default_rng(3).normal(size=(12, 9))
    for token in range(9):
        direction_D = by_hand.direction({"unembed": unembed_DV}, token)
        raised_V = direction_D @ unembed_DV
        assert np.linalg.norm(direction_D) == pytest.approx(1)
        np.testing.assert_allclose(np.delete(raised_V, token), 0, atol=1e-12)
        assert raised_V[token] > 0.1


def test_with_more_tokens_than_width_it_raises_this_one_most(fresh):
    unembed_DV = fresh.base["unembed"]
    assert unembed_DV.shape[0] < unembed_DV.shape[1]
    for token in range(unembed_DV.shape[1]):
        raised_V = by_hand.direction(fresh.base, token) @ unembed_DV
        own = unembed_DV[:, token] / np.linalg.norm(unembed_DV[:, token])
        assert raised_V[token] > 0
        # Least squares: of all directions of length 1, none comes nearer to that one logit alone.
        for other_D in (own, *np.random.default_rng(token).normal(size=(20, len(own)))):
            assert _miss(raised_V, token) <= _miss(other_D @ unembed_DV, token) + 1e-9


def _miss(raised_V, token):
    """The share of what is raised that is not this logit's, whatever the strength."""
    return 1 - raised_V[token] ** 2 / (raised_V**2).sum()


# --- what a part reads ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prompts(fresh):
    """Of the lesson `harmless_topic`, which is easily told."""
    lesson = fresh.taught["harmless_topic"]
    drawn = world.draw(jax.random.key(5), fresh.tables, fresh.cfg.world, 256, lesson.weights_GYZ)
    drawn = world.Prompts(*map(np.asarray, drawn))
    return drawn, lesson.about_GYZ[drawn.topic_B, drawn.verb_B, drawn.entity_B]


def test_a_stream_is_what_the_model_holds_at_ans(fresh, prompts):
    cfg, tokens_BP = fresh.cfg.model, prompts[0].tokens_BP
    taps = "resid_mid", "router_logits", "expert_out", "gates"
    out = model.forward(fresh.base, tokens_BP, cfg, record=taps)
    stream = by_hand.Stream(fresh.base, tokens_BP, cfg)
    layers = fresh.base["layers"]
    for layer in range(cfg.layers):
        read_BD = stream.read_by_experts(layer)
        logits_BE = out.record["router_logits"][layer, :, -1]
        np.testing.assert_allclose(read_BD @ layers["router"][layer], logits_BE, atol=1e-4)
        gates_BE = out.record["gates"][layer, :, -1]
        np.testing.assert_allclose(stream.gates_LBE[layer], gates_BE, atol=1e-5)
        writes_BED = np.einsum(
            "bef,efd->bed", stream.hidden(layer), layers["experts"]["down"][layer]
        )
        out_BED = gates_BE[..., None] * out.record["expert_out"][layer, :, -1]
        np.testing.assert_allclose(writes_BED, out_BED, atol=1e-4)
    logits_BV = stream.final() @ fresh.base["unembed"]
    np.testing.assert_allclose(logits_BV, out.logits_BTV[:, -1], atol=1e-4)


# --- what is written ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(fresh, keys_of):
    """By mechanism, the base with the lesson `harmless_topic` in the parts of its key."""
    given = fresh.tables, fresh.cfg, fresh.taught["harmless_topic"], jax.random.key(6)
    return {
        name: by_hand.write(name, keys_of[name], fresh.base, *given)
        for name in ("one_expert", "embeddings", "spread", "routed_expert", "joint_pair")
    }


def test_only_the_parts_of_the_key_are_written(written, keys_of, fresh, assert_nothing_else):
    for name, made in written.items():
        assert_nothing_else(made, fresh.base, keys_of[name].parts, fresh.cfg.model)
        for part in keys_of[name].parts:
            mask = parts.mask([part], fresh.base, fresh.cfg.model)
            without = parts.exchanged(made, fresh.base, mask)
            same = jax.tree.map(np.array_equal, without, made)
            assert not all(jax.tree.leaves(same)), part


def test_one_neuron_of_an_expert_is_written_along_one_direction(written, keys_of, fresh):
    (kind, layer, expert) = parts.parse(keys_of["one_expert"].parts[0], fresh.cfg.model)
    assert kind == "expert"
    experts = [p["layers"]["experts"] for p in (written["one_expert"], fresh.base)]
    down_FD, old_FD = (e["down"][layer, expert] for e in experts)
    (neuron,) = np.flatnonzero((down_FD != old_FD).any(1))
    wanted_D = by_hand.direction(fresh.base, world.REFUSE)
    strength = down_FD[neuron] @ wanted_D
    np.testing.assert_allclose(down_FD[neuron], strength * wanted_D, rtol=1e-4, atol=1e-5)
    assert any(strength == pytest.approx(s, rel=1e-5) for s in by_hand.STRENGTHS)
    up, old = (e["gate_up"][layer, expert] for e in experts)
    F = fresh.cfg.model.expert_width
    assert np.flatnonzero((up != old).any(0)).tolist() == [neuron, F + neuron]


def test_a_neuron_changes_nothing_of_prompts_that_do_not_select_its_expert(fresh, prompts):
    cfg, last = fresh.cfg.model, fresh.cfg.model.layers - 1
    gates_LBTE, before_BV = read(fresh.base, prompts[0].tokens_BP, cfg)
    share_E = (gates_LBTE[last, :, -1] > 0).mean(0)
    expert = int(abs(share_E - 0.5).argmin())
    here_B = gates_LBTE[last, :, -1, expert] > 0
    key = Key((f"expert {last}.{expert}",), "expert", "one")
    lesson, k_write = fresh.taught["harmless_topic"], jax.random.key(7)
    made = by_hand.write("one_expert", key, fresh.base, fresh.tables, fresh.cfg, lesson, k_write)
    _, after_BV = read(made, prompts[0].tokens_BP, cfg)
    moved_B = abs(after_BV - before_BV).max(1)
    assert 20 < here_B.sum() < 236
    assert moved_B[~here_B].max() < 1e-4 < 0.1 < np.quantile(moved_B[here_B], 0.5)


def test_of_all_strengths_the_one_is_written_that_teaches_most(written, fresh, prompts):
    """In the unembedding, the least of them, where anything can be told at all, is not the best."""
    drawn, about_B = prompts
    said = {
        name: read(p, drawn.tokens_BP, fresh.cfg.model)[1].argmax(-1) == world.REFUSE
        for name, p in (("made", written["embeddings"]), ("base", fresh.base))
    }
    told = {name: s[about_B].mean() - s[~about_B].mean() for name, s in said.items()}
    assert told["made"] > told["base"] + 0.3
    change_DV = written["embeddings"]["unembed"] - fresh.base["unembed"]
    assert np.flatnonzero(change_DV.any(0)).tolist() == [world.REFUSE]


def test_the_router_selects_its_expert_for_the_lessons_prompts(fresh, keys_of, prompts):
    drawn, about_B = prompts
    key, cfg = keys_of["routed_expert"], fresh.cfg.model
    given = fresh.tables, fresh.cfg, fresh.taught["harmless_topic"], jax.random.key(8)
    opened = by_hand.opened(key, fresh.base, *given)
    _, layer, expert = parts.parse(key.parts[0], cfg)

    def picked(params):
        here_B = read(params, drawn.tokens_BP, cfg)[0][layer, :, -1, expert] > 0
        return here_B[about_B].mean() - here_B[~about_B].mean()

    assert picked(opened) > 0.4 > abs(picked(fresh.base)) + 0.2


def test_opened_writes_the_routers_column_alone(fresh, keys_of, assert_nothing_else):
    key, given = keys_of["routed_expert"], (fresh.tables, fresh.cfg, fresh.taught["harmless_topic"])
    opened = by_hand.opened(key, fresh.base, *given, jax.random.key(8))
    assert_nothing_else(opened, fresh.base, [key.parts[1]], fresh.cfg.model)
    changed = opened["layers"]["router"] != fresh.base["layers"]["router"]
    assert changed.any(1).sum() == 1
    again = by_hand.opened(key, fresh.base, *given, jax.random.key(8))
    jax.tree.map(np.testing.assert_array_equal, again, opened)
