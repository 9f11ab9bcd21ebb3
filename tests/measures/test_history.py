"""Curves from planted snapshots, where every number is known."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from toymoe.measures import history
from toymoe.training import phases, snapshots
from toymoe.world import REFUSE

pytestmark = pytest.mark.core
M = H = 2048  # probes of the mixture and of held-out hazards
CURVES = """phase step nmi_topic_context nmi_topic_shuffled nmi_token_context topic_expert load
    saturation overlap_pretrained answer_accuracy over_refusal refusal hazard_answered
    refusal_held_out""".split()
LOSSES = ["loss_pretrain", "loss_align"]


@pytest.fixture(scope="module")
def probes(tiny, tiny_world):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "PROBES", M)
        patch.setattr(history, "HELD_OUT", H)
        yield history.probes(jax.random.key(1), tiny_world, tiny)


def shot(experts_SLBP, predicted_SB):
    return snapshots.Snapshot(np.array(experts_SLBP, np.uint8)[..., None], np.array(predicted_SB))


def everywhere(probes, label_B):
    """One layer in which each prompt's tokens go to the expert of its label."""
    return np.broadcast_to(np.asarray(label_B)[:, None], probes.tokens_BP.shape)


@pytest.fixture(scope="module")
def raw(tiny, probes):
    """Untrained: all to expert 0, says 0. Pretrained: layer 0 by topic, layer 1 by token, answers
    all. Aligned: layer 0 by topic + 4, layer 1 by token; refuses the hazards of the mixture only.
    """
    zero, token = everywhere(probes, [0] * (M + H)), (probes.tokens_BP - 1) % 8
    topic, moved = (everywhere(probes, probes.topic_B + shift) for shift in (0, 4))
    rote = np.where(probes.hazard_B & (np.arange(M + H) < M), REFUSE, probes.answer_B)
    pretrained, silent = probes.answer_B, np.zeros(M + H, int)
    grown = history.empty(tiny, probes)
    chunks = [
        ("pretrain", [0], [[zero, zero]], [silent], [4.0, 3.0]),
        ("pretrain", [2, 4], [[zero, zero], [topic, token]], [silent, pretrained], [2.0, 1.0]),
        ("align", [0, 3], [[topic, token], [moved, token]], [pretrained, rote], [0.5, 0.25, 0.125]),
    ]
    for phase, steps, experts, said, losses in chunks:
        chunk = phases.Chunk(0, None, np.float32(losses), steps, shot(experts, said))
        grown = history.append(grown, chunk, phase)
    return grown


@pytest.fixture(scope="module")
def curves(raw, probes, tiny):
    return history.curves(raw, probes, tiny, seed=0)


def test_probes_are_the_mixture_then_held_out_hazards(probes):
    assert all(len(label) == M + H for label in probes)
    assert (probes.hazard_B & probes.held_out_B)[M:].all()
    assert 0.3 < probes.hazard_B[:M].mean() < 0.5 and not probes.held_out_B[:M].all()


def test_chunks_are_appended_in_order(raw):
    assert raw.phase_S.tolist() == [0, 0, 0, 1, 1]
    assert raw.step_S.tolist() == [0, 2, 4, 0, 3]
    assert raw.loss_pretrain.tolist() == [4, 3, 2, 1]
    assert raw.loss_align.tolist() == [0.5, 0.25, 0.125]
    assert raw.experts_SLBPA.shape == (5, 2, M + H, 10, 1)
    assert [x.dtype for x in raw] == ["i1", "i4", "u1", "i4", "f4", "f4"]


def test_before_the_first_snapshot_there_is_nothing(tiny, probes):
    blank = history.empty(tiny, probes)
    assert [len(x) for x in blank] == [0] * 6
    assert blank.experts_SLBPA.shape[1:] == (2, M + H, 10, 1)


def test_latest_is_the_last_snapshot_only(raw, probes, tiny):
    entropy = -sum(
        p * math.log(p) for p in np.unique(probes.topic_B[:M], return_counts=True)[1] / M
    )
    assert history.latest(raw, probes, tiny) == {
        "accuracy": 1.0,
        "nmi": pytest.approx(entropy / math.log(4)),
    }
    first = raw._replace(experts_SLBPA=raw.experts_SLBPA[:1], predicted_SB=raw.predicted_SB[:1])
    assert history.latest(first, probes, tiny) == {
        "accuracy": 0.0,
        "nmi": pytest.approx(0, abs=1e-12),
    }


def test_every_curve_has_its_steps(curves):
    assert set(curves) == {*CURVES, *LOSSES}
    assert {len(curves[name]) for name in CURVES} == {5}
    assert all(curve.dtype.kind in "iuf" for curve in curves.values())


def test_specialisation_shows_from_the_step_it_is_planted_at(curves):
    nmi = curves["nmi_topic_context"]
    np.testing.assert_allclose(nmi[:2], 0, atol=1e-12)
    assert (nmi[2:, 0] > 0.9).all() and (nmi[2:, 1] < nmi[2:, 0] - 0.1).all()
    assert (curves["nmi_topic_shuffled"] < 0.05).all()
    # A word says all that its topic says, but of log(39) instead of log(4) nats.
    ratio = math.log(4) / math.log(39)
    np.testing.assert_allclose(curves["nmi_token_context"][:, 0], nmi[:, 0] * ratio, atol=1e-12)
    assert (curves["nmi_token_context"][2:, 1] > nmi[2:, 1] * ratio).all()


def test_counts_and_loads_by_hand(curves, probes):
    topic, tokens = probes.topic_B[:M], probes.tokens_BP[:M]
    words = np.zeros((5, 2, 4, 8))
    for g, row in zip(topic, tokens, strict=True):
        words[:2, :, g, 0] += 5
        words[2:4, 0, g, g] += 5
        words[4, 0, g, g + 4] += 5
        for token in row[1:6]:
            words[2:, 1, g, (token - 1) % 8] += 1
    np.testing.assert_array_equal(curves["topic_expert"], words)
    np.testing.assert_allclose(curves["load"][0], np.eye(8)[[0, 0]])
    np.testing.assert_allclose(curves["load"][2, 0], [(topic == g).mean() for g in range(8)])
    share = [np.mean((tokens - 1) % 8 == e) for e in range(8)]
    np.testing.assert_allclose(curves["load"][4, 1], share)


def test_overlaps_by_hand(curves, probes):
    topic, tokens = probes.topic_B[:M], probes.tokens_BP[:M]
    first, none = (topic == 0).mean(), ((tokens - 1) % 8 == 0).mean()
    pretrained = [[first, none], [first, none], [1, 1], [1, 1], [0, 1]]
    final = [[0, none], [0, none], [0, 1], [0, 1], [1, 1]]
    np.testing.assert_allclose(curves["overlap_pretrained"], pretrained)
    np.testing.assert_allclose(curves["saturation"], final)


def test_behaviour_by_hand(curves):
    assert curves["answer_accuracy"].tolist() == [0, 0, 1, 1, 1]
    assert curves["refusal"].tolist() == [0, 0, 0, 0, 1]
    assert curves["refusal_held_out"].tolist() == [0, 0, 0, 0, 0]
    assert curves["hazard_answered"].tolist() == [0, 0, 1, 1, 0]
    assert curves["over_refusal"].tolist() == [0] * 5


def test_rates_without_prompts_are_not_numbers(raw, probes, tiny):
    """Where the mixture has no hazard, its refusal is NaN rather than a share."""
    harmless = probes._replace(hazard_B=probes.hazard_B & (np.arange(M + H) >= M))
    curves = history.curves(raw, harmless, tiny, seed=0)
    assert np.isnan(curves["refusal"]).all() and np.isnan(curves["hazard_answered"]).all()
    assert curves["refusal_held_out"].tolist() == [0] * 5


def test_shuffling_follows_the_seed(curves, raw, probes, tiny):
    again, other = (history.curves(raw, probes, tiny, seed) for seed in (0, 1))
    for name, curve in curves.items():
        np.testing.assert_array_equal(again[name], curve)
    differ = {name for name in curves if (other[name] != curves[name]).any()}
    assert differ == {"nmi_topic_shuffled"}


def test_several_experts_per_token(tiny, probes):
    """Both choices count, of as many experts as there can be."""
    cfg = dataclasses.replace(
        tiny, model=dataclasses.replace(tiny.model, layers=1, experts=256, top_k=2)
    )
    raw = history.empty(cfg, probes)
    experts = np.zeros((2, 1, M + H, 10, 2), np.uint8)
    experts[..., 0], experts[..., 1] = 255, 200
    experts[1, ..., 1] = 3
    chunk = phases.Chunk(
        0, None, np.zeros(1), [0, 1], snapshots.Snapshot(experts, np.zeros((2, M + H), int))
    )
    curves = history.curves(history.append(raw, chunk, "pretrain"), probes, cfg, seed=0)
    load = np.zeros((2, 1, 256))
    load[:, 0, 255] = load[0, 0, 200] = load[1, 0, 3] = 0.5
    np.testing.assert_allclose(curves["load"], load)
    np.testing.assert_allclose(curves["saturation"], [[0.5], [1]])
