"""Rates on a clock that is known, and operations counted one multiplication at a time."""

import dataclasses
from statistics import median

import jax
import pytest

from toymoe import world
from toymoe.config import Config, ModelConfig, PretrainConfig, TrainConfig, WorldConfig
from toymoe.machine import bench
from toymoe.training import phases

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def cfg():
    return Config(
        WorldConfig(
            topics=4,
            hazardous_topics=2,
            context=6,
            words=4,
            overlap=0.0,
            verbs=4,
            hazardous_verbs=2,
            entities=5,
            hazardous_entities=2,
            answers=6,
        ),
        ModelConfig(1, 8, 2, 4, 3, 2, False),
        TrainConfig(batch=4, warmup=3),
        PretrainConfig(100_000, 0.01, 1.3),
    )


def slow_flops(cfg):
    """The products of a forward pass over one batch, listed; as many again twice backwards."""
    total = 0

    def matmul(rows, inner, columns):
        nonlocal total
        total += rows * columns * inner * 2  # a multiplication and an addition each

    m, positions = cfg.model, len(world.roles(cfg.world)) - 1
    for _prompt in range(cfg.train.batch):
        for _layer in range(m.layers):
            for position in range(positions):
                for _query_key_value_out in range(4):
                    matmul(1, m.width, m.width)
                for _head in range(m.heads):
                    seen = position + 1
                    matmul(1, m.width // m.heads, seen)  # scores
                    matmul(1, seen, m.width // m.heads)  # mixing
                matmul(1, m.width, m.experts)
                for _selected in range(m.top_k):
                    matmul(1, m.width, m.expert_width)  # gate
                    matmul(1, m.width, m.expert_width)  # up
                    matmul(1, m.expert_width, m.width)  # down
        matmul(positions, m.width, len(world.vocabulary(cfg.world)))
    return 3 * total


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig(1, 8, 2, 4, 3, 2, False),
        ModelConfig(3, 24, 3, 5, 7, 1, False),
        ModelConfig(2, 16, 1, 6, 5, 6, True),
    ],
)
def test_flops_are_those_of_the_products_listed(cfg, model):
    cfg = dataclasses.replace(cfg, model=model)
    assert bench.flops_per_step(cfg) == slow_flops(cfg)


def test_flops_by_hand(cfg):
    """1 layer, D 8, 2 heads, E 4, F 3, A 2; in a prompt BOS, 6 words, ASK, verb, entity, ANS and
    3 of response, so T 13; V 8 + 16 words + 4 verbs + 5 entities + 6 answers = 39.

    A token: 4 · 2·8·8 = 512; scores and mixing 2 · 2·8·7 = 224, seeing 7 positions on average;
    router 2·8·4 = 64; experts 2 · 3 · 2·8·3 = 288; unembedding 2·8·39 = 624. Sum 1712.
    """
    size = bench.shape(cfg)
    assert (size["positions"], size["vocabulary"], size["tokens_per_step"]) == (13, 39, 4 * 13)
    assert bench.flops_per_step(cfg) == 3 * 4 * 13 * 1712


def test_shape_counts_the_parameters(cfg):
    """Embedding and unembedding, norms, attention, router, experts."""
    layer = 2 * 8 + 8 * 24 + 2 * 8 + 8 * 8 + 8 * 4 + 4 * (8 * 6 + 3 * 8)
    assert bench.shape(cfg)["parameters"] == 2 * 39 * 8 + 8 + layer


class Clock:
    """A clock that only its calls move."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(bench.time, "perf_counter", lambda: self.now)

    def takes(self, seconds):
        def call():
            self.now += seconds

        return call


@pytest.mark.parametrize(
    ("each", "seconds", "calls"), [(0.25, 1.0, 4), (0.375, 1.0, 3), (5.0, 1.0, 1), (0.5, 0.0, 1)]
)
def test_rate_counts_whole_calls(monkeypatch, each, seconds, calls):
    clock = Clock(monkeypatch)
    assert bench.rate(clock.takes(each), seconds) == 1 / each
    assert clock.now == 100 + calls * each


def test_measure_on_a_known_clock(monkeypatch, cfg):
    """A step takes 0.5 s, but 4 s in one window of three; of two sizes of matmul the larger has the
    higher rate. The windows take turns."""
    clock, turns, trained = Clock(monkeypatch), [], 0
    monkeypatch.setattr(bench, "STEPS", 1)
    monkeypatch.setattr(bench, "SIZES", (10, 1000))

    def training(given):
        assert given == cfg

        def call():
            nonlocal trained
            trained += 1
            turns.append("train")
            clock.takes(4.0 if trained == 4 else 0.5)()  # the first one compiles

        return call

    def matmul(n):
        def call():
            turns.append(n)
            clock.takes({10: 0.25, 1000: 0.125}[n])()

        return call

    monkeypatch.setattr(bench, "_training", training)
    monkeypatch.setattr(bench, "_matmul", matmul)
    done = []
    result = bench.measure(cfg, lambda *at: done.append(at), windows=3, window_s=1.0)
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert turns[:3] == ["train", 10, 1000]
    one = [10] * 2 + [1000] * 4
    assert turns[3:] == one + ["train"] * 2 + one + ["train"] + one + ["train"] * 2
    tokens = 4 * 13
    assert result["windows"]["tokens_per_s"] == [tokens / 0.5, tokens / 4, tokens / 0.5]
    assert result["windows"]["matmul_gflops"] == [2 / 0.125] * 3
    assert result["tokens_per_s"] == tokens / 0.5
    assert result["matmul_gflops"] == 16
    assert result["model_gflops"] == pytest.approx(bench.flops_per_step(cfg) / 0.5 / 1e9)
    assert result["fraction"] == result["model_gflops"] / 16
    assert result["shape"] == bench.shape(cfg)


def test_measure_trains_and_multiplies(monkeypatch, cfg):
    """In real steps, each call going on where the last one stopped, and losses looked at."""
    seen = []
    monkeypatch.setattr(bench, "SIZES", (64, 128))
    monkeypatch.setattr(phases, "check_finite", lambda *given: seen.append(given))
    result = bench.measure(cfg, windows=3, window_s=0.1)
    for name, windows in result["windows"].items():
        assert len(windows) == 3 and min(windows) > 0
        assert result[name] == median(windows)
    assert 0 < result["fraction"] < 1
    assert [first for _, first, _, _ in seen] == [bench.STEPS * i for i in range(len(seen))]
    losses, _, *given = seen[0]
    assert losses.shape == (bench.STEPS,) and given == [cfg, "pretrain"]
    assert seen[-1][0].mean() < losses.mean()  # it learns


def test_no_windows_are_an_error(cfg):
    with pytest.raises(ValueError, match="windows = 0 is not possible"):
        bench.measure(cfg, windows=0)


def test_matmul_is_done_when_it_returns():
    product = bench._matmul(8)()
    assert product.shape == (8, 8) and product.dtype == jax.numpy.float32
