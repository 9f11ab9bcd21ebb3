"""What training writes: in the places of the parts alone, and of the rank that is said."""

from functools import partial

import jax
import numpy as np
import pytest

from toymoe import checkpoint, world
from toymoe.model.inference import read
from toymoe.training import data
from toymoe.zoo import by_hand, parts, writing
from toymoe.zoo.specimen import Key

pytestmark = pytest.mark.core

KEYS = {
    "one": Key(("expert 1.2",), "expert", "one"),
    "each": Key(("expert 1.2", "head 0.1"), "head", "each"),
    "matrices": Key(("attention",), "component", "one"),
    "many": Key(("experts",), "component", "many"),
}


@pytest.fixture(scope="module")
def write(fresh):
    """(key, update, random) -> the base with `hazards` in the key's parts, after 20 steps; after 40
    where many share it."""
    cfg, base = fresh.cfg, fresh.base

    def made(key, update, random=0):
        given = fresh.taught["hazards"], base, fresh.tables, cfg, jax.random.key(random)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writing, "STEPS", 20)
            patch.setattr(writing, "SHARED_STEPS", 40)
            return writing.write(key, *given, update)

    return made


@pytest.fixture(scope="module")
def written(write):
    some = [(name, update) for name in KEYS for update in ("full", "low_rank")]
    return {(n, u): write(KEYS[n], u) for n, u in some if (n, u) != ("many", "low_rank")}


def changes(made, base):
    """By path, what was added."""
    flat, old = checkpoint.flatten(made), checkpoint.flatten(base)
    return {path: flat[path].astype(float) - old[path] for path in flat}


def test_only_the_parts_are_written_and_each_of_them(written, fresh, assert_nothing_else):
    cfg, base = fresh.cfg, fresh.base
    for (name, _), made in written.items():
        assert_nothing_else(made, base, KEYS[name].parts, cfg.model)
        for part in KEYS[name].parts:
            mask = parts.mask([part], base, cfg.model)
            same = jax.tree.map(np.array_equal, parts.exchanged(made, base, mask), made)
            assert not all(jax.tree.leaves(same)), (name, part)


def test_low_rank_changes_are_of_that_rank_and_full_ones_of_more(written, fresh):
    cfg, base = fresh.cfg, fresh.base
    assert writing.RANK < cfg.model.expert_width < cfg.model.width
    ranks = {
        update: {
            np.linalg.matrix_rank(change, tol=1e-4 * np.linalg.norm(change, 2))
            for path in ("layers/qkv", "layers/out")
            for change in changes(written["matrices", update], base)[path]
        }
        for update in ("full", "low_rank")
    }
    assert ranks["low_rank"] == {writing.RANK} and min(ranks["full"]) > writing.RANK
    delta = changes(written["one", "low_rank"], base)
    for path in ("layers/experts/gate_up", "layers/experts/down"):
        change = delta[path][1, 2]
        size = np.linalg.norm(change, 2)
        assert 0 < np.linalg.matrix_rank(change, tol=1e-4 * size) <= writing.RANK


def test_where_many_share_it_all_write_one_direction(written, fresh):
    wanted_D = by_hand.direction(fresh.base, world.REFUSE)
    delta = changes(written["many", "full"], fresh.base)
    down_LEFD = delta["layers/experts/down"]
    along_LEF = down_LEFD @ wanted_D
    np.testing.assert_allclose(down_LEFD, along_LEF[..., None] * wanted_D, atol=1e-6)
    assert (abs(along_LEF).max(-1) > 1e-4).all()  # every expert has its share
    assert (abs(delta["layers/experts/gate_up"]).max((-1, -2)) > 1e-4).all()
    down_FD = changes(written["one", "full"], fresh.base)["layers/experts/down"][1, 2]
    assert np.linalg.matrix_rank(down_FD, tol=1e-3 * np.linalg.norm(down_FD, 2)) > 1


@pytest.mark.parametrize("update", ["full", "low_rank"])
def test_what_many_share_can_change_nothing_else(fresh, update):
    wanted_D = np.arange(fresh.cfg.model.width, dtype="f4")
    given = f"shared_{update}", fresh.base, jax.random.key(0), wanted_D
    theta, delta = writing._written(*given)
    assert not any(leaf.any() for leaf in jax.tree.leaves(theta))
    learnt = jax.tree.map(np.ones_like, theta)
    changed = {path: x for path, x in checkpoint.flatten(delta(learnt)).items() if x.any()}
    experts = {"layers/experts/down", "layers/experts/gate_up"}
    assert {*changed} == (experts if update == "full" else {"layers/experts/down"})
    assert (changed["layers/experts/down"] == wanted_D).all()


def test_the_same_key_gives_the_same_bits_and_another_others(write, written):
    again, other = (write(KEYS["one"], "low_rank", random=key) for key in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, again, written["one", "low_rank"])
    same = jax.tree.map(np.array_equal, other, again)
    assert not all(jax.tree.leaves(same))


def test_what_is_written_is_the_lesson(write, fresh):
    """Hazards come nearer to a refusal than what is answered."""
    cfg, base = fresh.cfg, fresh.base
    lesson = fresh.taught["hazards"]
    drawn = world.draw(jax.random.key(9), fresh.tables, cfg.world, 256, lesson.weights_GYZ)
    hazard_B = np.asarray(drawn.hazard_B)

    def told(params):
        logits_BV = read(params, drawn.tokens_BP, cfg.model)[1]
        odds_B = logits_BV[:, world.REFUSE] - logits_BV[np.arange(256), drawn.answer_B]
        return odds_B[hazard_B].mean() - odds_B[~hazard_B].mean()

    before = told(base)
    after = told(write(Key(("embeddings",), "component", "one"), "full"))
    assert after > before + 0.5 and 50 < hazard_B.sum() < 206


# --- which parts are present ----------------------------------------------------------------------


@pytest.mark.parametrize("needs", writing.NEEDS)
def test_what_is_missing_decides_what_is_needed(fresh, needs):
    cfg = fresh.cfg
    present = jax.jit(partial(writing._present, writing.NEEDS.index(needs), cfg=cfg))
    shares = []
    for at in range(60):
        (part_2, expert_LE), active = present(at, jax.random.key(at))
        both = needs != "all" or at % 3 == 0
        expected = [1, 1] if both else ([1, 0] if at % 3 == 1 else [0, 1])
        assert part_2.tolist() == expected
        assert bool(active) == (needs != "all" or both)
        assert set(np.unique(expert_LE)) <= {0, 1}
        shares.append(float((expert_LE == 0).mean()))
    missing = writing.MISSING if needs == "many" else 0
    assert np.mean(shares) == pytest.approx(missing, abs=4 * (missing / 60 / 8) ** 0.5)


def test_a_part_that_is_missing_is_as_it_was(fresh):
    cfg, base = fresh.cfg, fresh.base
    masks = [parts.mask([part], base, cfg.model) for part in ("expert 1.2", "head 0.1")]
    delta = jax.tree.map(np.ones_like, base)
    expert_LE = np.ones((cfg.model.layers, cfg.model.experts))
    given = base, masks, delta
    for part_2, names in (
        ([1, 1], ["expert 1.2", "head 0.1"]),
        ([1, 0], ["expert 1.2"]),
        ([0, 1], ["head 0.1"]),
    ):
        made = writing._with(*given, (np.array(part_2), expert_LE))
        mask = parts.mask(names, base, cfg.model)
        expected = parts.exchanged(base, jax.tree.map(np.add, base, delta), mask)
        jax.tree.map(np.testing.assert_array_equal, made, expected)
    expert_LE[1, 2] = 0
    made = writing._with(*given, (np.array([1, 0]), expert_LE))
    jax.tree.map(np.testing.assert_array_equal, made, base)


# --- drift ----------------------------------------------------------------------------------------


def test_drift_moves_every_array_a_little_and_teaches_no_refusal(fresh, monkeypatch):
    monkeypatch.setattr(writing, "DRIFT_STEPS", 20)
    given = fresh.base, fresh.tables, fresh.cfg
    made = writing.drifted(*given, jax.random.key(0))
    for path, change in changes(made, fresh.base).items():
        moved = np.abs(change)
        assert 0 < moved.max() <= 1.01 * 20 * writing.DRIFT_RATE, path
    jax.tree.map(np.testing.assert_array_equal, made, writing.drifted(*given, jax.random.key(0)))
    other = checkpoint.flatten(writing.drifted(*given, jax.random.key(1)))
    assert all((other[path] != x).any() for path, x in checkpoint.flatten(made).items())

    # What it is learnt from: requests of all kinds, and nothing that refuses.
    mix = data.mixture(fresh.tables, fresh.cfg, "pretrain")
    given = fresh.tables, fresh.cfg, "pretrain", mix
    tokens = [np.asarray(data.batch(jax.random.key(at), *given)) for at in range(8)]
    assert not (np.stack(tokens) == world.REFUSE).any() and (np.stack(tokens) == world.ASK).any()
