"""Training against slow losses, gradients and the tables; resuming and many seeds to the bit."""

import dataclasses
import math
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from toymoe import checkpoint, model, train, world
from toymoe.config import Config, ModelConfig, TrainConfig
from toymoe.optimiser import optimiser

pytestmark = [pytest.mark.core, pytest.mark.numeric]

SETTINGS = TrainConfig(
    pretrain_steps=8,
    align_steps=3,
    batch=8,
    learning_rate=0.01,
    align_learning_rate=0.003,
    warmup=3,
    weight_decay=0.1,
    prompt_weight=0.25,
    balance=0.5,
    z_loss=0.25,
    chunk=5,
)


@pytest.fixture(scope="module")
def cfg(tiny) -> Config:
    """Two phases of a few steps, cut into chunks of 5 and 3 steps, and of 3."""
    return with_layers(dataclasses.replace(tiny, train=SETTINGS, seed=3), 1)


def with_layers(cfg, layers):
    return dataclasses.replace(cfg, model=ModelConfig(layers, 8, 2, 4, 4, 2, False))


@partial(jax.jit, static_argnames="cfg")
def set_up(keys, cfg):
    tables = world.make_world(keys.world, cfg.world)
    probe_BP = world.sample(keys.measure, tables, cfg.world, 6).tokens_BP
    return tables, probe_BP, train.fresh_params(keys.init, cfg)


def without_seed(cfg):
    return dataclasses.replace(cfg, seed=0)


@partial(jax.jit, static_argnames=("cfg", "phase"))
def batch(key, tables, cfg, phase):
    return train.batch(key, tables, cfg, train.mixture(tables, cfg, phase))


loss = jax.jit(train.loss, static_argnames="cfg")
forward = jax.jit(model.forward, static_argnames="cfg")


class Run:
    """An uninterrupted run of both phases."""

    def __init__(self, cfg):
        self.tables, self.probe_BP, self.fresh = set_up(train.keys(cfg.seed), without_seed(cfg))
        params = self.fresh
        self.chunks = {}
        for phase in train.PHASES:
            state = train.start(params, cfg)
            chunks = train.run_phase(state, 0, self.tables, self.probe_BP, cfg, phase)
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


# --- the loss -----------------------------------------------------------------------------------


def slow_loss(out, tokens_BT, response_from, cfg):
    """The whole loss in float64, one token at a time."""
    logits, nats, weights = np.float64(out.logits_BTV), 0.0, 0.0
    B, T = tokens_BT.shape
    for b in range(B):
        for t in range(T - 1):
            weight = 1.0 if t + 1 >= response_from else cfg.train.prompt_weight
            p_V = np.exp(logits[b, t]) / np.exp(logits[b, t]).sum()
            nats -= weight * math.log(p_V[tokens_BT[b, t + 1]])
            weights += weight
    balance, z_loss, E = [], [], cfg.model.experts
    for layer in range(cfg.model.layers):
        count_E, prob_E, n = np.zeros(E), np.zeros(E), 0
        for b in range(B):
            for t in range(T - 1):
                z_E = np.float64(out.route.logits_NE[layer, b, t])
                z_loss.append(math.log(np.exp(z_E).sum()) ** 2)
                if t < response_from:
                    best = sorted(range(E), key=lambda e: -z_E[e])[: cfg.model.top_k]
                    count_E[best] += 1
                    prob_E += np.exp(z_E) / np.exp(z_E).sum()
                    n += 1
        balance.append(E * (count_E / (n * cfg.model.top_k)) @ (prob_E / n))
    parts = nats / weights, np.mean(balance), np.mean(z_loss)
    return parts[0] + cfg.train.balance * parts[1] + cfg.train.z_loss * parts[2]


def test_loss_is_the_slow_one(cfg, run):
    names = ("prompt_weight", "balance", "z_loss")
    cfgs = [
        with_layers(dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, **weights)), 2)
        for values in [(0.25, 0.5, 0.25), (1.0, 0.0, 0.0), (0.0, 2.0, 1.0)]
        for weights in [dict(zip(names, values, strict=True))]
    ]
    tokens_BT = batch(jax.random.key(1), run.tables, cfg=cfg, phase="align")

    @jax.jit
    def all_of_them(key):
        params = train.fresh_params(key, cfgs[0])
        out = model.forward(params, tokens_BT[:, :-1], cfgs[0].model)
        return out, [train.loss(params, tokens_BT, cfg) for cfg in cfgs]

    out, losses = all_of_them(jax.random.key(0))
    expected = [slow_loss(out, np.asarray(tokens_BT), tokens_BT.shape[1] - 3, c) for c in cfgs]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


# --- batches ------------------------------------------------------------------------------------


def decode(tokens_BT, tables, cfg):
    """Request, response and whether it is a note, of each prompt, read off the tokens' names.

    In this world a word belongs to one topic.
    """
    vocabulary = world.vocabulary(cfg.world)
    verb0, entity0 = vocabulary.index("lift"), vocabulary.index("key")
    for tokens_T in np.asarray(tokens_BT):
        topics = {vocabulary[t].rstrip("0123456789") for t in tokens_T[1 : 1 + cfg.world.context]}
        assert len(topics) == 1
        ask, verb, entity, ans = tokens_T[1 + cfg.world.context : -3]
        assert vocabulary[ask] in ("ASK", "NOTE") and vocabulary[ans] == "ANS"
        request = world.names(cfg.world).index(topics.pop()), verb - verb0, entity - entity0
        yield request, [vocabulary[t] for t in tokens_T[-3:]], vocabulary[ask] == "NOTE"


@pytest.mark.parametrize("phase", train.PHASES)
def test_a_batch_shows_what_its_phase_allows(cfg, run, phase):
    """Pretraining every request alike; alignment hazards in their share, and nothing held out.
    Notes, of which there are a quarter, are never refused and show everything alike, but in
    alignment held-out hazards less often."""
    n = 4000
    settings = dataclasses.replace(cfg.train, batch=n, notes_held_out=0.3)
    cfg = dataclasses.replace(cfg, train=settings)
    tables, vocabulary = run.tables, world.vocabulary(cfg.world)
    tokens_BT = batch(jax.random.key(2), tables, cfg=cfg, phase=phase)
    assert tokens_BT.shape == (n, len(world.roles(cfg.world)))
    asked_for, noted_of = ({r: 0 for r in np.ndindex(tables.hazard_GYZ.shape)} for _ in range(2))
    hazardous = noted = hazards_noted = hidden_noted = 0
    for request, response, note in decode(tokens_BT, tables, cfg):
        (noted_of if note else asked_for)[request] += 1
        hazard = bool(tables.hazard_GYZ[request])
        noted += note
        hazards_noted += note and hazard
        hidden_noted += note and hazard and bool(tables.held_out_GYZ[request])
        hazardous += hazard and not note
        if hazard and phase == "align" and not note:
            assert response == ["REFUSE", "SORRY", "END"]
        else:
            assert response == [vocabulary[tables.answer_GYZ[request]], "OKAY", "END"]
    held_out = {request for request in asked_for if tables.held_out_GYZ[request]}
    assert any(tables.hazard_GYZ[request] for request in held_out)
    assert any(not tables.hazard_GYZ[request] for request in held_out)
    for shown, never in [(asked_for, held_out), (noted_of, set())]:
        assert {r for r in shown if not shown[r]} == (never if phase == "align" else set())
    assert noted == n / 4

    def assert_share(found, of, share):
        assert abs(found - of * share) < 5 * math.sqrt(of * share * (1 - share))

    uniform = np.mean(tables.hazard_GYZ)
    assert_share(hazardous, n - noted, cfg.world.hazard_share if phase == "align" else uniform)
    hidden_GYZ = np.asarray(tables.held_out_GYZ & tables.hazard_GYZ)
    weight_GYZ = np.where(hidden_GYZ, 0.3 if phase == "align" else 1.0, 1.0)
    weight_GYZ /= weight_GYZ.sum()
    assert_share(hazards_noted, noted, weight_GYZ[tables.hazard_GYZ].sum())
    assert_share(hidden_noted, noted, weight_GYZ[hidden_GYZ].sum())
    if phase == "pretrain":
        for shown in (asked_for, noted_of):
            mean = sum(shown.values()) / len(shown)
            chi2 = sum((times - mean) ** 2 / mean for times in shown.values())
            assert chi2 < 150  # 79 degrees of freedom


@partial(jax.jit, static_argnames=("cfg", "phase"))
def half(key, tables, cfg, phase):
    return train.batch(key, tables, cfg, train.mixture(tables, cfg, phase), 2)


@pytest.mark.parametrize("size, share, noted", [(1, 0.9, 0), (2, 0.9, 1), (2, 0.2, 1), (3, 0.0, 0)])
def test_a_small_batch_has_a_request_and_a_note_where_both_fit(cfg, run, size, share, noted):
    settings = dataclasses.replace(cfg.train, batch=size, notes=share)
    cfg = dataclasses.replace(cfg, train=settings)
    tokens_BT = batch(jax.random.key(2), run.tables, cfg=cfg, phase="align")
    assert [note for _, _, note in decode(tokens_BT, run.tables, cfg)].count(True) == noted


# --- learning rates -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "warmup", "used"),
    [("pretrain", 3, 3), ("align", 3, 1), ("align", 100, 1), ("pretrain", 0, 0)],
)
def test_learning_rates_rise_and_fall_linearly(cfg, phase, warmup, used):
    """Warm-up takes at most half a phase; a step after the last would be of length 0."""
    cfg = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, warmup=warmup))
    total = train.steps(cfg, phase)
    peak = {"pretrain": 0.01, "align": 0.003}[phase]
    rising = [peak * step / used for step in range(used)]
    falling = [peak * (1 - (step - used) / (total - used)) for step in range(used, total)]
    rates = train.learning_rates(cfg, phase)
    np.testing.assert_allclose(rates, rising + falling, rtol=1e-5)
    assert rates.max() == np.float32(peak)


# --- when to record -----------------------------------------------------------------------------


@pytest.mark.parametrize("total", [1, 2, 3, 7, 16, 100, 400, 800, 12345])
def test_record_steps_crowd_early(total):
    at = train.record_steps(total)
    assert at[0] == 0 and at[-1] == total
    assert all(type(step) is int for step in at) and at == sorted(set(at))
    gaps = np.diff(at)
    assert gaps.max() <= math.ceil(total / 16)
    assert len(at) < 50
    early = [step for step in at if step <= total / 4]
    if total >= 100:
        assert at[:3] == [0, 1, 2]
        # Crowded: the first quarter has more records than an even spacing gives it.
        assert len(early) > 0.4 * len(at)


# --- a whole phase ------------------------------------------------------------------------------


def test_chunks_cover_the_phase(cfg, run):
    for phase, ends in [("pretrain", [5, 8]), ("align", [3])]:
        chunks = run.chunks[phase]
        assert [chunk.step for chunk in chunks] == ends
        assert sum(len(chunk.losses_S) for chunk in chunks) == train.steps(cfg, phase)
        recorded = [step for chunk in chunks for step in chunk.recorded]
        assert recorded == train.record_steps(train.steps(cfg, phase))
        for chunk in chunks:
            A, P = cfg.model.top_k, run.probe_BP.shape[1]
            n = len(chunk.recorded)
            assert chunk.snapshots.experts_LBPA.shape == (n, cfg.model.layers, 6, P, A)
            assert chunk.snapshots.said_B.shape == (n, 6)


def slow_snapshot(params, run, cfg):
    """By the reference path."""
    out = forward(params, run.probe_BP, cfg=cfg.model)
    return out.route.experts_NA, out.logits_BTV[:, -1].argmax(-1)


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
        np.testing.assert_array_equal(chunk.snapshots.said_B[index], said)
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
        key = jax.random.fold_in(getattr(train.keys(cfg.seed), phase), at)
        keys = [jax.random.fold_in(key, worker) for worker in (0, 1)]
        halves = [half(key, run.tables, cfg=cfg, phase=phase) for key in keys]
        assert (halves[0] != halves[1]).any() and len(halves[0]) == cfg.train.batch / 2
        losses = [loss(params, tokens_BT, cfg=cfg) for tokens_BT in halves]
        np.testing.assert_allclose(np.mean(losses), expected, rtol=1e-5)


def test_workers_are_as_many_as_divide_the_batch(cfg):
    for size, expected in [(8, 2), (6, 2), (7, 1), (1, 1)]:
        some = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, batch=size))
        assert train.workers(some) == expected


@pytest.mark.skipif(len(jax.devices()) < 2, reason="there is one device: XLA_FLAGS says so")
def test_a_step_is_the_mean_over_workers_on_two_devices_and_on_one(cfg, run):
    """Parameters after some steps, beside a loop that adds up the two gradients itself."""
    mix, key = train.mixture(run.tables, cfg, "pretrain"), jax.random.key(5)
    moves, begin = optimiser(cfg.train.weight_decay), train.start(run.fresh, cfg)

    def steps(state):
        def step(state, at):
            return train.update(state, jax.random.fold_in(key, at), run.tables, 1e-2, cfg, mix)

        return jax.lax.scan(step, state, np.arange(3))

    @jax.jit
    def gradient(params, at, worker):
        k_worker = jax.random.fold_in(jax.random.fold_in(key, at), worker)
        tokens_BT = train.batch(k_worker, run.tables, cfg, mix, 2)
        return jax.grad(train.loss)(params, tokens_BT, cfg)

    expected = begin
    for at in range(3):
        grads = (gradient(expected.params, at, worker) for worker in range(2))
        mean = jax.tree.map(lambda a, b: (a + b) / 2, *grads)
        updates, moments = jax.jit(moves.update)(mean, expected.optimiser, expected.params)
        params = jax.tree.map(lambda p, u: p - 1e-2 * u, expected.params, updates)
        expected = train.State(params, moments)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    for alone in (False, True):
        state, _ = jax.jit(train.together(steps, cfg, alone))(begin)
        assert len(jax.tree.leaves(state)[0].devices()) == (1 if alone else 2)
        jax.tree.map(close, state, expected)


def test_resumed_is_uninterrupted_to_the_bit(cfg, run):
    first, *rest = run.chunks["pretrain"]
    state = jax.tree.map(np.array, first.state)  # as a file would hold it
    again = list(train.run_phase(state, 5, run.tables, run.probe_BP, cfg, "pretrain"))
    assert len(again) == len(rest)
    for chunk, expected in zip(again, rest, strict=True):
        assert chunk.step == expected.step and chunk.recorded == expected.recorded
        assert same(chunk.state, expected.state)
        assert same(chunk.losses_S, expected.losses_S)
        assert same(chunk.snapshots, expected.snapshots)
    # It matters where one resumes, and that the optimiser's memory came along.
    forgetful = train.start(first.state.params, cfg)
    chunk = next(train.run_phase(forgetful, 5, run.tables, run.probe_BP, cfg, "pretrain"))
    assert not same(chunk.state.params, rest[0].state.params)


def test_a_finished_phase_has_nothing_left(cfg, run):
    state = run.chunks["pretrain"][-1].state
    assert list(train.run_phase(state, 8, run.tables, run.probe_BP, cfg, "pretrain")) == []


@pytest.mark.parametrize(
    ("phase", "name"),
    [("pretrain", "train.learning_rate"), ("align", "train.align_learning_rate")],
)
def test_a_loss_that_is_not_finite_is_an_error(phase, name, cfg, run):
    """Provoked by the learning rate in pretraining, and by ruined parameters in alignment."""
    params = run.fresh
    if phase == "pretrain":
        cfg = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, learning_rate=1e30))
    else:
        params = {**params, "unembed": params["unembed"] * np.float32(np.inf)}
    state = train.start(params, cfg)
    with pytest.raises(train.TrainingError) as error:
        list(train.run_phase(state, 0, run.tables, run.probe_BP, cfg, phase))
    text = str(error.value)
    # A step's loss is of the parameters before it, and the first step's rate is zero.
    assert re.search(r"at step [234] of" if phase == "pretrain" else "at step 0 of", text)
    assert f"of phase {phase}: " in text
    rate = {"pretrain": 1e30, "align": 0.003}[phase]
    assert f"a smaller {name} (it is {rate:g}), such as --set {name}={rate / 4:g}" in text


def test_the_first_bad_loss_is_named(cfg):
    losses = np.array([1.0, 2.0, np.inf, np.nan])
    with pytest.raises(train.TrainingError, match=r"the loss is inf at step 42 of phase align"):
        train.check_finite(losses, 40, cfg, "align")
    train.check_finite(losses[:2], 40, cfg, "align")


# --- many seeds ---------------------------------------------------------------------------------


def test_seeds_share_nothing_but_the_program(cfg, run):
    before = train._scan_jit._cache_size()
    other = Run(dataclasses.replace(cfg, seed=4))
    assert train._scan_jit._cache_size() == before
    assert not same(other.tables, run.tables)
    assert not same(other.fresh, run.fresh)
    keys = jax.tree.map(jax.random.key_data, train.keys(3))
    assert len({key.tobytes() for key in map(np.asarray, keys)}) == len(train.Keys._fields)


SEEDS = [4, 3, 0, 1]


@pytest.fixture(scope="module")
def many(cfg):
    """Seeds trained one after the other, on one device."""
    made = train.train_many(cfg, SEEDS)
    assert len(made["loss_align"].devices()) == 1
    return made


def test_train_many_is_one_run_for_each_seed(cfg, run, many):
    assert SEEDS[1] == cfg.seed
    for phase, name in [("pretrain", "pretrained"), ("align", "aligned")]:
        one = run.chunks[phase]
        losses = np.concatenate([chunk.losses_S for chunk in one])
        assert many[f"loss_{phase}"].shape == (4, train.steps(cfg, phase))
        np.testing.assert_allclose(many[f"loss_{phase}"][1], losses, rtol=1e-4)
        for a, b in zip(
            jax.tree.leaves(many[name]), jax.tree.leaves(one[-1].state.params), strict=True
        ):
            np.testing.assert_allclose(a[1], b, rtol=1e-3, atol=1e-4)
            assert np.abs(a[0] - b).max() > 1e-2 or b.ndim < 3  # another seed, another model
    assert len(set(np.asarray(many["loss_align"])[:, -1])) == 4


SHARDED = """
from functools import partial
import jax, numpy as np
from toymoe import checkpoint, train
from toymoe.config import from_dict
alone, _ = checkpoint.load({file!r})
assert len(jax.devices()) == 4
for n in (2, 4):
    mesh = jax.make_mesh((n,), ("seeds",), devices=jax.devices()[:n])
    many = train.train_many(from_dict({config!r}), {seeds!r}, mesh)
    for b in jax.tree.leaves(many):
        assert b.devices() == set(jax.devices()[:n])
        assert b.addressable_shards[0].data.shape[0] == 4 // n
    # Other programs, so the last bit may differ.
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, alone, many)
print("equal")
"""


def test_seeds_over_several_devices_are_those_of_one(cfg, many, tmp_path):
    checkpoint.save(tmp_path / "alone.npz", jax.tree.map(np.asarray, many), {})
    settings = {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    script = SHARDED.format(
        file=str(tmp_path / "alone.npz"), config=dataclasses.asdict(cfg), seeds=SEEDS
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=os.environ | settings,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr


def test_impossible_seeds_are_errors(cfg):
    with pytest.raises(ValueError, match="no seeds given: name at least one"):
        train.train_many(cfg, [])
    mesh = jax.sharding.AbstractMesh((2,), ("seeds",))
    with pytest.raises(ValueError, match="3 seeds cannot be laid over 2 devices"):
        train.train_many(cfg, [0, 1, 2], mesh)
