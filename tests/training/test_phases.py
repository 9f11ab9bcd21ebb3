"""Two phases: what each step saw, what was recorded, and resuming to the bit."""

import dataclasses
import re
from functools import partial

import jax
import numpy as np
import pytest

from toymoe import checkpoint, model, world
from toymoe.measures import weights
from toymoe.training import data, objective, phases, snapshots
from toymoe.training.trainable import COMPONENTS, Trainable

pytestmark = pytest.mark.core


@partial(jax.jit, static_argnames="cfg")
def set_up(keys, cfg):
    tables = world.make_world(keys.world, cfg.world)
    probe_BP = world.sample(keys.measure, tables, cfg.world, 6).tokens_BP
    return tables, probe_BP, phases.fresh_params(keys.init, cfg)


def without_seed(cfg):
    return dataclasses.replace(cfg, seed=0)


@partial(jax.jit, static_argnames=("cfg", "phase"))
def half(key, tables, cfg, phase):
    return data.batch(key, tables, cfg, phase, data.mixture(tables, cfg, phase), 2)


loss = jax.jit(objective.loss, static_argnames="cfg")
forward = jax.jit(model.forward, static_argnames="cfg")


class Run:
    """An uninterrupted run of both phases."""

    def __init__(self, cfg):
        self.tables, self.probe_BP, self.fresh = set_up(phases.keys(cfg.seed), without_seed(cfg))
        params = self.fresh
        self.chunks = {}
        for phase in phases.PHASES:
            state = phases.start(params, cfg, phase)
            chunks = phases.run_phase(state, 0, self.tables, self.probe_BP, cfg, phase)
            self.chunks[phase] = list(chunks)
            params = self.chunks[phase][-1].state.params


@pytest.fixture(scope="module")
def run(cfg) -> Run:
    return Run(cfg)


def same(tree, other):
    """Equal to the bit, in structure, shapes and dtypes too."""
    one, two = (jax.tree.map(np.asarray, t) for t in (tree, other))
    assert jax.tree.structure(one) == jax.tree.structure(two)
    return all(
        (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    )


# --- learning rates -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "warmup", "used"),
    [("pretrain", 3, 3), ("align", 3, 1), ("align", 100, 1), ("pretrain", 0, 0)],
)
def test_learning_rates_rise_and_fall_linearly(cfg, phase, warmup, used):
    """Warm-up takes at most half a phase; a step after the last would be of length 0."""
    cfg = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, warmup=warmup))
    total = phases.steps(cfg, phase)
    peak = {"pretrain": 0.01, "align": 0.003}[phase]
    rising = [peak * step / used for step in range(used)]
    falling = [peak * (1 - (step - used) / (total - used)) for step in range(used, total)]
    rates = phases.learning_rates(cfg, phase)
    np.testing.assert_allclose(rates, rising + falling, rtol=1e-5)
    assert rates.max() == np.float32(peak)


# --- a whole phase ------------------------------------------------------------------------------


def test_chunks_cover_the_phase(cfg, run):
    for phase, ends in [("pretrain", [5, 8]), ("align", [3])]:
        chunks = run.chunks[phase]
        assert [chunk.step for chunk in chunks] == ends
        assert sum(len(chunk.losses_S) for chunk in chunks) == phases.steps(cfg, phase)
        recorded = [step for chunk in chunks for step in chunk.recorded]
        assert recorded == snapshots.record_steps(phases.steps(cfg, phase))
        for chunk in chunks:
            A, P = cfg.model.top_k, run.probe_BP.shape[1]
            n = len(chunk.recorded)
            assert chunk.snapshots.experts_LBPA.shape == (n, cfg.model.layers, 6, P, A)
            assert chunk.snapshots.predicted_B.shape == (n, 6)


def slow_snapshot(params, run, cfg):
    """By the reference path."""
    out = forward(params, run.probe_BP, cfg=cfg.model)
    return out.routes.experts_LBTA, out.logits_BTV[:, -1].argmax(-1)


def test_snapshots_are_of_the_steps_they_name(cfg, run):
    first, last = run.chunks["pretrain"]
    align = run.chunks["align"][0]
    assert last.recorded[0] == first.step  # taken of the state that the first chunk ended with
    for params, chunk, index in [
        (run.fresh, first, 0),
        (first.state.params, last, 0),
        (last.state.params, last, -1),
        (last.state.params, align, 0),
        (align.state.params, align, -1),
    ]:
        experts, said = slow_snapshot(params, run, cfg)
        np.testing.assert_array_equal(chunk.snapshots.experts_LBPA[index], experts)
        np.testing.assert_array_equal(chunk.snapshots.predicted_B[index], said)
    assert (first.snapshots.experts_LBPA[0] != last.snapshots.experts_LBPA[-1]).any()


def test_losses_are_those_of_the_batches_of_each_step(cfg, run):
    """And of the parameters before the step; the rate of the first one is zero."""
    first, last = run.chunks["pretrain"]
    for phase, params, at, expected in [
        ("pretrain", run.fresh, 0, first.losses_S[0]),
        ("pretrain", run.fresh, 1, first.losses_S[1]),
        ("pretrain", first.state.params, 5, last.losses_S[0]),
        ("align", last.state.params, 0, run.chunks["align"][0].losses_S[0]),
    ]:
        key = jax.random.fold_in(getattr(phases.keys(cfg.seed), phase), at)
        keys = [jax.random.fold_in(key, worker) for worker in (0, 1)]
        halves = [half(key, run.tables, cfg=cfg, phase=phase) for key in keys]
        assert (halves[0] != halves[1]).any() and len(halves[0]) == cfg.train.batch / 2
        losses = [loss(params, tokens_BT, cfg=cfg) for tokens_BT in halves]
        np.testing.assert_allclose(np.mean(losses), expected, rtol=1e-5)


def test_resumed_is_uninterrupted_to_the_bit(cfg, run):
    first, *rest = run.chunks["pretrain"]
    state = jax.tree.map(np.array, first.state)  # as a file would hold it
    again = list(phases.run_phase(state, 5, run.tables, run.probe_BP, cfg, "pretrain"))
    assert len(again) == len(rest)
    for chunk, expected in zip(again, rest, strict=True):
        assert chunk.step == expected.step and chunk.recorded == expected.recorded
        assert same(chunk.state, expected.state)
        assert same(chunk.losses_S, expected.losses_S)
        assert same(chunk.snapshots, expected.snapshots)
    # It matters where one resumes, and that the optimiser's memory came along.
    forgetful = phases.start(first.state.params, cfg, "pretrain")
    chunk = next(phases.run_phase(forgetful, 5, run.tables, run.probe_BP, cfg, "pretrain"))
    assert not same(chunk.state.params, rest[0].state.params)


def test_a_finished_phase_has_nothing_left(cfg, run):
    state = run.chunks["pretrain"][-1].state
    assert list(phases.run_phase(state, 8, run.tables, run.probe_BP, cfg, "pretrain")) == []


@pytest.mark.parametrize("phase", phases.PHASES)
def test_a_loss_that_is_not_finite_is_an_error(phase, cfg, run):
    schedule = dataclasses.replace(getattr(cfg, phase), steps=8, learning_rate=1e30)
    cfg = dataclasses.replace(cfg, **{phase: schedule})
    state = phases.start(run.fresh, cfg, phase)
    with pytest.raises(phases.TrainingError) as error:
        list(phases.run_phase(state, 0, run.tables, run.probe_BP, cfg, phase))
    text = str(error.value)
    # A step's loss is of the parameters before it, and the first step's rate is zero.
    assert re.search(rf"at step [234] of phase {phase}: ", text)
    name = f"{phase}.learning_rate"
    assert f"a smaller {name} (it is 1e+30), such as --set {name}=2.5e+29" in text


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_parameters_that_are_not_finite_are_not_blamed_on_the_learning_rate(value, cfg, run):
    router = np.array(run.fresh["layers"]["router"])
    router[0, 2, 1:3] = value
    params = run.fresh | {"layers": run.fresh["layers"] | {"router": router}}
    with pytest.raises(phases.TrainingError) as error:
        begin = phases.start(params, cfg, "align")
        next(phases.run_phase(begin, 0, run.tables, run.probe_BP, cfg, "align"))
    assert str(error.value) == (
        f"2 of the parameters layers/router are not finite (such as {value}) before step 0 of "
        "phase align, so no learning rate can help: start from others."
    )


def test_a_phase_changes_what_may_change_and_nothing_else(cfg, run):
    """By the compiled program of alignment as it is, whatever that is."""
    before = phases._train_jit._cache_size()
    for part in ("attention", "router"):
        state, trainable = phases.start(run.fresh, cfg, "align"), Trainable(**{part: 1})
        given = run.tables, run.probe_BP, cfg, "align", trainable
        *_, last = phases.run_phase(state, 0, *given)
        for path, array in checkpoint.flatten(last.state.params).items():
            stays = np.array_equal(array, checkpoint.flatten(run.fresh)[path])
            assert stays == (path not in COMPONENTS[part]), path
    assert phases._train_jit._cache_size() == before


def test_alignment_writes_where_the_settings_say(cfg, run):
    """Attention at half of the rate, embeddings at all of it, and not at all; pretraining
    everywhere, whatever the settings."""
    first = run.chunks["pretrain"][-1].state.params
    frozen = dataclasses.replace(cfg, align=dataclasses.replace(cfg.align, embeddings=0.0))
    moved = {}
    for name, settings in (("as given", cfg), ("frozen", frozen)):
        begin = phases.start(first, settings, "align")
        *_, last = phases.run_phase(begin, 0, run.tables, run.probe_BP, settings, "align")
        moved[name] = weights.change(first, last.state.params)
    assert moved["as given"]["embeddings"]["relative"] > 0
    assert moved["frozen"]["embeddings"]["relative"] == 0
    assert all(moved["frozen"][name]["relative"] > 0 for name in COMPONENTS if name != "embeddings")
    assert all(weights.change(run.fresh, first)[name]["relative"] > 0 for name in COMPONENTS)


def test_the_first_bad_loss_is_named(cfg):
    losses = np.array([1.0, 2.0, np.inf, np.nan])
    with pytest.raises(phases.TrainingError, match=r"the loss is inf at step 42 of phase align"):
        phases.check_finite(losses, 40, cfg, "align")
    phases.check_finite(losses[:2], 40, cfg, "align")


# --- another seed -------------------------------------------------------------------------------


def test_seeds_share_nothing_but_the_program(cfg, run):
    before = phases._train_jit._cache_size()
    other = Run(dataclasses.replace(cfg, seed=4))
    assert phases._train_jit._cache_size() == before
    assert not same(other.tables, run.tables)
    assert not same(other.fresh, run.fresh)
    keys = jax.tree.map(jax.random.key_data, phases.keys(3))
    assert len({key.tobytes() for key in map(np.asarray, keys)}) == len(phases.Keys._fields)
