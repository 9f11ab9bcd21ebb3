"""Validation: organisms examined where the seat is known, kills, failures, words."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from toymoe import cli, world
from toymoe.attribution import REFERENCE, methods
from toymoe.attribution.evidence import gather
from toymoe.commands import validate
from toymoe.config import ConfigError, TrainConfig
from toymoe.training.phases import TrainingError
from toymoe.validation import planted, study

N, STEPS = 24, 200


@pytest.fixture(scope="module")
def before(taught):
    key = jax.random.key(1)
    return gather(taught.pretrained, taught.tables, taught.cfg, key, N, taught.pretrained)


@pytest.fixture(scope="module")
def busiest(before):
    return (1, int(methods.usage(before)[1].argmax()))


@pytest.fixture(scope="module")
def examined(taught, before, busiest):
    """Examinations of the busiest expert, by lesson; and of organisms made by other means."""

    def examine(params, lesson):
        e = dataclasses.replace(before, params=params)
        plan = study.Plan("expert", (busiest,), lesson)
        return study.examine(e, before, plan, jax.random.key(5))

    made = {
        lesson: planted.plant(
            (busiest,),
            taught.pretrained,
            taught.tables,
            taught.cfg,
            jax.random.key(7),
            lesson,
            STEPS,
        )
        for lesson in ("refuse", *planted.SHAMS)
    }
    found = {lesson: examine(params, lesson) for lesson, params in made.items()}
    found["low rank"] = examine(low_rank(taught.pretrained, made["refuse"], busiest), "refuse")
    found["by hand"] = examine(by_hand(taught.pretrained, busiest), "refuse")
    return found


def with_expert(params, at, **matrices):
    experts = {name: np.array(leaf) for name, leaf in params["layers"]["experts"].items()}
    for name, matrix in matrices.items():
        experts[name][at] = matrix
    return params | {"layers": params["layers"] | {"experts": experts}}


def low_rank(params, other, at, rank=2):
    """Adapters of rank two: the largest part of what training would change."""
    changed = {}
    for name, leaf in params["layers"]["experts"].items():
        u, s, v = np.linalg.svd(other["layers"]["experts"][name][at] - leaf[at])
        changed[name] = leaf[at] + (u[:, :rank] * s[:rank]) @ v[:rank]
    return with_expert(params, at, **changed)


def by_hand(params, at):
    """No training at all: where selected, the expert says what raises REFUSE and no other token."""
    logits_DV = np.asarray(params["final_norm"])[:, None] * np.asarray(params["unembed"])
    refuse_V = np.arange(logits_DV.shape[1]) == world.REFUSE
    toward_D = np.linalg.lstsq(logits_DV.T, refuse_V.astype(float))[0]
    gate_up, down = (np.array(params["layers"]["experts"][n][at]) for n in ("gate_up", "down"))
    gate, _ = np.split(gate_up, 2, -1)
    both = np.concatenate([gate, gate], -1)  # gate = up, so that no hidden unit is negative
    down_FD = np.tile(3000 * toward_D / len(down), (len(down), 1))
    return with_expert(params, at, gate_up=both, down=down_FD)


BEST = "ablation_refusal"


@pytest.mark.parametrize("made", ["refuse", "low rank", "by hand"])
def test_the_seat_is_found_however_it_was_planted(made, examined, busiest):
    found = examined[made]
    assert found["behaviour"]["refusal"] >= planted.TAUGHT
    for name in (BEST, "ablation_zero", "swap_removed"):
        said = found["methods"][name]
        assert said["named"] == [list(busiest)] and said["hit"], name
    assert found["methods"][BEST]["found"]
    assert not found["methods"]["random"]["found"]
    assert found["methods"][REFERENCE]["correlation"] == pytest.approx(1)


@pytest.mark.parametrize("lesson", planted.SHAMS)
def test_nothing_is_found_in_shams(lesson, examined):
    assert examined[lesson]["behaviour"]["refusal"] == 0
    for name in (BEST, "random", "usage"):
        assert not examined[lesson]["methods"][name]["found"], name
    # A method that takes any change for refusal is caught.
    assert examined[lesson]["methods"]["weight_change"]["found"]


def test_examinations_are_plain_numbers(examined):
    for found in examined.values():
        assert json.loads(json.dumps(found)) == found
        assert list(found["methods"]) == list(methods.METHODS)
        assert found["swaps"]["nothing"]["removed"] == found["behaviour"]["refusal"]


# --- plans --------------------------------------------------------------------------------------


def test_plans_hold_every_kind_and_as_many_shams(taught):
    usage = np.random.default_rng(0).random((2, 5))
    plans = study.plans(usage, taught.cfg, 6, jax.random.key(0))
    kinds = [plan.kind for plan in plans]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "expert": 6,
        "sham": 6,
        "pair": 2,
        "attention": 1,
        "router": 1,
    }
    seats = {kind: [p.seat for p in plans if p.kind == kind] for kind in ("expert", "sham")}
    assert seats["expert"] == seats["sham"]
    lessons = [p.lesson for p in plans if p.kind == "sham"]
    assert sorted(lessons) == ["answer"] * 3 + ["other answer"] * 3
    assert {p.lesson for p in plans if p.kind != "sham"} == {"refuse"}


# --- many seeds, cut off and gone on ------------------------------------------------------------


@pytest.fixture
def quick(taught, before, monkeypatch):
    """Validation of the taught model without its training, and with few methods."""
    few = {name: methods.METHODS[name] for name in ("usage", BEST, "ablation_zero")}
    made = []

    def plant(seat, *given):
        made.append(seat)
        if len(made) in quick.killed:
            raise KeyboardInterrupt
        if quick.failing is not None and given[2].seed == quick.failing:
            raise TrainingError("the loss is nan at step 3")
        return with_expert(taught.pretrained, (0, 0), down=len(str(seat)) / 100)

    class quick:
        killed, failing, planted = (), None, made

    monkeypatch.setattr(methods, "METHODS", few)
    monkeypatch.setattr(planted, "plant", plant)
    monkeypatch.setattr(study, "PAIRS", N)
    monkeypatch.setattr(study, "_pretrained", lambda *_: taught.pretrained)
    return quick


def run(cfg, out, seeds=(0, 1), seats=3):
    return study.validate(cfg, list(seeds), out, seats)


def test_a_kill_loses_nothing(taught, quick, tmp_path):
    whole = run(taught.cfg, tmp_path / "whole")
    count = len(quick.planted)
    assert count == 2 * (3 + 3 + 1 + 2) and whole["errors"] == {}
    quick.killed = (count + 5, count + 12)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(taught.cfg, tmp_path / "cut")
    assert run(taught.cfg, tmp_path / "cut") == whole
    assert len(quick.planted) == 2 * count + 2  # only what was cut off was begun again
    for name in ("validate.json", "validate.csv", "organisms.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    rows = (tmp_path / "cut" / "organisms.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * count and rows[0].startswith("seed,kind,lesson,seat,refusal,method")
    assert (tmp_path / "cut" / "validate.csv").read_text().count("\n") == 1 + 3
    fewer = run(taught.cfg, tmp_path / "cut", seats=2)  # all of them are there
    assert len(quick.planted) <= 2 * count + 3 + 2 and fewer["counts"]["expert"] == 4


def test_a_seed_that_fails_costs_only_itself(taught, quick, tmp_path):
    quick.failing, ended = 0, []
    found = study.validate(
        taught.cfg, [0, 1], tmp_path / "out", 3, done=lambda *told: ended.append(told)
    )
    assert found["errors"] == {"0": "the loss is nan at step 3"}
    assert ended == [(0, "the loss is nan at step 3"), (1, "")]
    assert found["counts"]["expert"] == 3
    quick.failing = None
    assert run(taught.cfg, tmp_path / "out")["counts"]["expert"] == 6


def test_bad_input_is_one_clear_error(taught, quick, tmp_path):
    for seats in (0, 11):
        with pytest.raises(ConfigError, match=f"--seats {seats} .* from 1 to 10"):
            run(taught.cfg, tmp_path / "none", seats=seats)
    assert not (tmp_path / "none").exists()
    run(taught.cfg, tmp_path / "out", [0], 1)
    other = dataclasses.replace(taught.cfg, train=TrainConfig())
    with pytest.raises(ConfigError, match="other settings"):
        run(other, tmp_path / "out")
    bare = json.dumps([dict.fromkeys((*study.Plan._fields, "behaviour", "swaps", "methods"), 3)])
    for text in ("{", "3", '{"a": 1}', "[3]", '[{"kind": 1}]', bare):
        (tmp_path / "out" / "seed-0" / "organisms.json").write_text(text)
        error = run(taught.cfg, tmp_path / "out", [0])["errors"]["0"]
        assert "organisms.json is damaged" in error and error.endswith("delete it and run again.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seats", "many"], "--seats many is not possible"),
        (["--preset", "smoke", "--seats", "0"], "from 1 to 16"),
        (["--seeds", "x"], "--seeds 'x'"),
        (["--set", "model.expert=3"], "did you mean 'model.experts'"),
        (["--seat", "3", "--nonsense"], "--nonsense"),
    ],
)
def test_bad_words_are_one_line_and_exit_code_2(words, message, tmp_path, capsys):
    assert cli.main(["validate", "--out", str(tmp_path / "out"), *words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_every_method_earned(quick, taught, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(validate, "config_of", lambda args: taught.cfg)
    monkeypatch.setattr(validate, "start_jax", lambda: None)
    out = tmp_path / "out"
    assert cli.main(["validate", "--seats", "2", "--seeds", "0", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    for word in ("ablation", "usage", "alarms", "earned", "refuse too little"):
        assert word in said
    assert (out / "validate.png").read_bytes().startswith(b"\x89PNG")
