"""The shipped organism: small, whole, loadable, and what its metrics say it is."""

import dataclasses
import re
import shutil

import jax
import numpy as np
import pytest
from test_hazards import PAIR

from toymoe import checkpoint, model, organism, world
from toymoe.config import build, to_dict
from toymoe.hazards import RULES as HAZARD_RULES
from toymoe.measures.behaviour import rates
from toymoe.model import inference
from toymoe.organism import seeded, shipped
from toymoe.runs import ship
from toymoe.training import phases

FILES = (
    "config.json tables.npz pretrained.npz aligned.npz aligned_topic.npz history.npz metrics.json "
    "metrics_topic.json"
).split()


def test_it_is_whole_and_small():
    files = [p for p in shipped.HERE.iterdir() if p.suffix in (".npz", ".json")]
    assert sorted(p.name for p in files) == sorted(FILES)
    assert sum(p.stat().st_size for p in files) <= 5 * 2**20


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of its files, in its place."""
    for name in FILES:
        shutil.copyfile(shipped.HERE / name, tmp_path / name)
    monkeypatch.setattr(shipped, "HERE", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("rule", shipped.RULES)
def test_a_damaged_file_is_found(rule, name, copy):
    organism.load(rule)
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    others = {shipped.RULES[r] for r in shipped.RULES if r != rule}
    if name in {file.format(end) for end in others for file in ("aligned{}.npz", "metrics{}.json")}:
        organism.load(rule)  # it is of the other rule alone
    else:
        with pytest.raises(checkpoint.CheckpointError, match=re.escape(name)):
            organism.load(rule)


def test_a_world_of_another_seed_is_found(copy):
    cfg = dataclasses.replace(organism.load().cfg, seed=ship.SEED + 1)
    tables = {rule: seeded.tables(cfg)._asdict() for rule in HAZARD_RULES}
    checkpoint.save(copy / "tables.npz", tables, {"config": to_dict(cfg)})
    with pytest.raises(
        checkpoint.CheckpointError, match=rf"config\.seed is {ship.SEED + 1} and must"
    ):
        organism.load()


def test_a_rule_that_is_newer_has_a_world_too(monkeypatch):
    monkeypatch.setitem(HAZARD_RULES, "pair", PAIR)
    cfg, tables = organism.world_of("pair")
    assert tables.hazard_GYZ.sum() == PAIR.count(cfg.world)
    _, ours = organism.world_of("conjunction")
    assert np.array_equal(tables.answer_GYZ, ours.answer_GYZ)
    assert [(x.dtype, type(x)) for x in tables] == [(x.dtype, type(x)) for x in ours]


def test_it_is_of_todays_defaults():
    run = organism.load()
    assert run.cfg == build(seed=ship.SEED), (
        "the defaults changed: run `python -m toymoe.runs.ship`"
    )
    assert model.count(run.aligned) == run.metrics["parameters"]
    assert run.aligned["embed"].shape[0] == len(world.vocabulary(run.cfg.world))


def test_its_worlds_differ_in_their_hazards_alone():
    cfg, tables = organism.world_of("conjunction")
    made = jax.jit(world.make_world, static_argnums=1)(phases.keys(cfg.seed).world, cfg.world)
    for ours, theirs in zip(tables, made, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)  # not one program: the last bit varies
    for rule in HAZARD_RULES:
        other_cfg, other = organism.world_of(rule)
        assert other_cfg.world.hazard_rule == rule
        for name in ("word_GW", "chain_GWW", "answer_GYZ"):
            assert np.array_equal(getattr(tables, name), getattr(other, name))
    with pytest.raises(ValueError, match="conjunction, topic"):
        organism.load("trigger")


@pytest.mark.parametrize("rule", shipped.RULES)
def test_it_reproduces_its_metrics(rule):
    run = organism.load(rule)
    stated = run.metrics["behaviour"]["aligned"]
    for name, kind, held_out in (
        ("refusal", "hazardous", None),
        ("refusal_held_out", "hazardous", True),
        ("answer_accuracy", "mixed", None),
    ):
        prompts = run.sample(1024, kind, 1, held_out)
        predicted_B = inference.predict(run.aligned, prompts.tokens_BP, run.cfg.model).predicted_B
        found = rates(predicted_B, prompts)[name.removesuffix("_held_out")]
        # Two samples of 1024 and of eval.prompts prompts: within four standard errors.
        error = 4 * (max(stated[name] * (1 - stated[name]), 0.002) * (1 / 1024 + 1 / 2048)) ** 0.5
        assert abs(found - stated[name]) < error, (name, found)
    before = inference.predict(run.pretrained, prompts.tokens_BP, run.cfg.model).predicted_B
    assert (before != world.REFUSE).all()


def test_its_history_ends_where_the_model_is():
    run = organism.load()
    assert len(run.history["loss_pretrain"]) == run.cfg.pretrain.steps
    assert abs(run.history["refusal"][-1] - run.metrics["behaviour"]["aligned"]["refusal"]) < 0.05
