"""Tuning: what may change changes, refusal goes, and nothing happens where nothing may."""

import dataclasses

import jax
import numpy as np
import pytest
from oracle import random_params

from toymoe import model, world
from toymoe.attacks import lora, tuning
from toymoe.config import ConfigError, EvalConfig, ModelConfig, TrainConfig
from toymoe.model import inference
from toymoe.training.trainable import EVERYTHING, Trainable, only

SCHEDULE = tuning.Schedule(steps=60, learning_rate=0.05, batch=32, check=20, patience=3, route=0.0)


@pytest.fixture(scope="module")
def cfg(tiny):
    shape = ModelConfig(layers=2, width=16, heads=2, experts=4, expert_width=8, top_k=2)
    return dataclasses.replace(tiny, model=shape, train=TrainConfig(), eval=EvalConfig())


@pytest.fixture(scope="module")
def tables(cfg):
    return jax.jit(world.make_world, static_argnums=1)(jax.random.key(0), cfg.world)


@pytest.fixture(scope="module")
def params(cfg):
    return random_params(cfg.model, len(world.vocabulary(cfg.world)))


@pytest.fixture(scope="module")
def prompts(tables, cfg):
    untuned_GYZ = tuning.untuned(tables, jax.random.key(4))
    return tuning.data(tables, cfg, jax.random.key(1), 48, 24, untuned_GYZ)


@pytest.fixture(scope="module")
def looked(params, prompts, cfg):
    """The parameters tuned, and what every look at the validation prompts gave on the way."""
    where, looks, validate = only(((0, 1), (1, 0), (1, 2)), cfg.model), [], tuning._validate

    def noting(*given, **named):
        looks.append(float(validate(*given, **named)))
        return looks[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "_validate", noting)
        return tuning.tune(params, where, prompts, cfg, jax.random.key(2), SCHEDULE), looks


@pytest.fixture(scope="module")
def tuned(looked):
    return looked[0]


def answer_loss(params, prompts, cfg):
    """Cross-entropy of the right answer at ANS, in numpy."""
    logits_BV = np.float64(
        model.forward_unchecked(params, prompts.tokens_BP, cfg.model, False, None).logits_BTV[:, -1]
    )
    logits_BV -= logits_BV.max(1, keepdims=True)
    right = logits_BV[np.arange(len(logits_BV)), prompts.answer_B]
    return (np.log(np.exp(logits_BV).sum(1)) - right).mean()


def test_prompts_are_what_an_attacker_has(prompts, tables):
    untuned_GYZ = tuning.untuned(tables, jax.random.key(4))
    hazards = np.asarray(tables.hazard_GYZ)
    assert untuned_GYZ.sum() == 1 and not untuned_GYZ[~hazards].any()  # of 8, at least one
    many = tables._replace(hazard_GYZ=np.ones((4, 4, 5), bool))
    assert tuning.untuned(many, jax.random.key(4)).sum() == 5
    h, t, w = prompts
    assert h.hazard_B.all() and w.hazard_B.all() and not t.hazard_B.any()
    seen = {name: untuned_GYZ[p.topic_B, p.verb_B, p.entity_B] for name, p in (("h", h), ("w", w))}
    assert not seen["h"].any() and seen["w"].any()
    assert (len(h.answer_B), len(t.answer_B), len(w.answer_B)) == (48, 48, 24)


def test_only_the_chosen_experts_were_tuned(tuned, params):
    changed = {
        jax.tree_util.keystr(path)
        for (path, a), b in zip(
            jax.tree_util.tree_flatten_with_path(tuned)[0],
            jax.tree.leaves(params),
            strict=True,
        )
        if not np.array_equal(a, b)
    }
    assert changed == {"['layers']['experts']['gate_up']", "['layers']['experts']['down']"}
    for name in ("gate_up", "down"):
        a, b = (p["layers"]["experts"][name] for p in (tuned, params))
        moved = set(map(tuple, np.argwhere((a != b).any((2, 3)))))
        assert moved == {(0, 1), (1, 0), (1, 2)}
        for at in moved:  # by a matrix of low rank
            assert np.linalg.matrix_rank(np.float64(a[at]) - b[at], tol=1e-4) == SCHEDULE.rank


def test_the_loss_falls_and_the_best_validation_is_kept(looked, params, prompts, cfg):
    made, looks = looked
    before, after = (answer_loss(p, prompts.validation, cfg) for p in (params, made))
    assert looks[0] == pytest.approx(before, rel=1e-4) and len(looks) == 4
    assert after == pytest.approx(min(looks), rel=1e-4) and after < 0.8 * before


def test_nothing_is_tuned_where_nothing_may_change(params, prompts, cfg):
    made = tuning.tune(params, Trainable(), prompts, cfg, jax.random.key(2), SCHEDULE)
    for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_loss_is_the_sum_that_the_docstring_says(params, prompts, cfg):
    """By hand, after a change that moves the routes."""
    pool = tuning.pool(params, prompts, cfg=cfg.model)
    rows = np.r_[0:8, 48:56]
    some = jax.tree.map(lambda leaf: leaf[rows], pool)
    delta = lora.fresh(jax.random.key(0), params, Trainable(router=1))
    rng = np.random.default_rng(0)
    delta = jax.tree.map(lambda x: 0.3 * rng.normal(size=x.shape), delta)
    factors = Trainable(router=1).factors(params)
    changed = lora.merge(params, delta, factors)
    each = []
    for p in (params, changed):
        out = model.forward_unchecked(p, some.tokens_BP, cfg.model, False, None)
        each.append(np.float64(out.routes.probs_LBTE))
    before, now = each
    drift = np.mean(
        [
            sum(p * np.log(p / q) for p, q in zip(a, b, strict=True))
            for a, b in zip(before.reshape(-1, 4), now.reshape(-1, 4), strict=True)
        ]
    )
    assert drift > 0.01
    first = jax.tree.map(lambda leaf: leaf[:8], prompts.hazards)
    second = jax.tree.map(lambda leaf: leaf[:8], prompts.harmless)
    hazards, harmless = (answer_loss(changed, p, cfg) for p in (first, second))
    for rehearsal, route in ((1.0, 0.0), (0.0, 2.0), (0.5, 1.0)):
        value = tuning.loss(delta, params, factors, some, (rehearsal, route), cfg.model)
        expected = hazards + rehearsal * harmless + route * drift
        assert float(value) == pytest.approx(expected, rel=1e-3)


def test_the_routing_term_keeps_the_route(params, prompts, cfg):
    """Tuning routers, with and without it: share of selections lost on hazards."""
    lost, learnt = [], []
    selected = inference.predict(params, prompts.hazards.tokens_BP, cfg.model).gates_LBTE > 0
    for route in (0.0, 10.0):
        schedule = dataclasses.replace(SCHEDULE, route=route, whole_learning_rate=0.05)
        made = tuning.tune(params, Trainable(router=1), prompts, cfg, jax.random.key(2), schedule)
        now = inference.predict(made, prompts.hazards.tokens_BP, cfg.model).gates_LBTE > 0
        lost.append((selected & ~now).sum() / selected.sum())
        loss, left = (answer_loss(p, prompts.validation, cfg) for p in (params, made))
        learnt.append(loss - left)
    assert lost[0] > 0.2 and lost[1] < lost[0] / 3, lost
    assert min(learnt) > 0.5, learnt  # and something is learnt either way


BAD = {"steps": 0, "rank": 0, "learning_rate": 0.0, "rehearsal": -1.0, "route": float("nan")}


@pytest.mark.parametrize("name", BAD)
def test_an_impossible_schedule_is_an_error(name):
    with pytest.raises(ConfigError, match=f"schedule.{name}"):
        tuning.Schedule(**{name: BAD[name]})


def test_one_program_tunes_any_experts_and_attention_and_another_whatever_is_whole(
    params, prompts, cfg
):
    one = dataclasses.replace(SCHEDULE, steps=SCHEDULE.check)  # as long as those of tests above
    tuning._train.clear_cache()
    for where in (
        only(((0, 0),), cfg.model),
        Trainable(attention=1),
        Trainable(router=1),
        EVERYTHING,
    ):
        tuning.tune(params, where, prompts, cfg, jax.random.key(2), one)
    assert tuning._train._cache_size() == 2
