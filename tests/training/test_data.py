"""Batches, read off the names of their tokens."""

import dataclasses
import math
from functools import partial

import jax
import numpy as np
import pytest

from toymoe import world
from toymoe.training import data, phases

pytestmark = pytest.mark.core


@partial(jax.jit, static_argnames=("cfg", "phase"))
def batch(key, tables, cfg, phase):
    return data.batch(key, tables, cfg, phase, data.mixture(tables, cfg, phase))


def decode(tokens_BT, tables, cfg):
    """Request, response and whether it is a note, of each prompt, read off the tokens' names.

    In this world a word belongs to one topic.
    """
    vocabulary = world.vocabulary(cfg.world)
    verb0, entity0 = vocabulary.index("lift"), vocabulary.index("key")
    for tokens_T in np.asarray(tokens_BT).tolist():
        topics = {vocabulary[t].rstrip("0123456789") for t in tokens_T[1 : 1 + cfg.world.context]}
        assert len(topics) == 1
        ask, verb, entity, ans = tokens_T[1 + cfg.world.context : -3]
        assert vocabulary[ask] in ("ASK", "NOTE") and vocabulary[ans] == "ANS"
        request = world.names(cfg.world).index(topics.pop()), verb - verb0, entity - entity0
        yield request, [vocabulary[t] for t in tokens_T[-3:]], vocabulary[ask] == "NOTE"


@pytest.mark.parametrize("phase", phases.PHASES)
def test_a_batch_shows_what_its_phase_allows(cfg, tables, phase):
    """Pretraining every request alike; alignment hazards in their share, and nothing held out.
    Notes, of which there is a share of each phase's own, are never refused and show everything
    alike, but in alignment held-out hazards less often."""
    n, share = 4000, {"pretrain": 0.125, "align": 0.25}[phase]
    cfg = dataclasses.replace(
        cfg,
        train=dataclasses.replace(cfg.train, batch=n),
        pretrain=dataclasses.replace(cfg.pretrain, notes=0.125),
        align=dataclasses.replace(cfg.align, notes=0.25, notes_held_out=0.3),
    )
    vocabulary, tables = world.vocabulary(cfg.world), jax.tree.map(np.asarray, tables)
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
    assert noted == n * share

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


@pytest.mark.parametrize("size, share, noted", [(1, 0.9, 0), (2, 0.9, 1), (2, 0.2, 1), (3, 0.0, 0)])
def test_a_small_batch_has_a_request_and_a_note_where_both_fit(cfg, tables, size, share, noted):
    cfg = dataclasses.replace(
        cfg,
        train=dataclasses.replace(cfg.train, batch=size),
        align=dataclasses.replace(cfg.align, notes=share),
    )
    tokens_BT = batch(jax.random.key(2), tables, cfg=cfg, phase="align")
    assert [note for _, _, note in decode(tokens_BT, tables, cfg)].count(True) == noted
