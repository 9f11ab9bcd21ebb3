"""A whole zoo of one seed, but for most of its organisms: made, cut off, gone on with, refused."""

import csv
import dataclasses
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from toymoe import checkpoint
from toymoe.config import ConfigError
from toymoe.organism import stored
from toymoe.training import phases
from toymoe.training.trainable import COMPONENTS
from toymoe.zoo import by_hand, folder, lessons, make, mechanisms, parts, verification, writing
from toymoe.zoo.specimen import HAZARDS

PLANS = [
    ("one_expert", "hazards", "by_hand"),
    ("one_expert", "entities", "low_rank"),
    ("routed_expert", "harmless_topic", "low_rank"),
]
EVERY = make.plans
NAMES = ["-".join(plan) for plan in PLANS]


class Stop(Exception):
    pass


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "plans", lambda: PLANS)
        for module, name, n in (
            (make, "PAIRS", 24),
            (make, "DRAWN", 32),
            (verification, "PROMPTS", 32),
            (by_hand, "PROMPTS", 64),
            (writing, "STEPS", 20),  # as in the tests of writing: the same programs
            (writing, "DRIFT_STEPS", 20),
        ):
            patch.setattr(module, name, n)
        patch.setattr(make.phases, "run_phase", not_trained)
        yield


def not_trained(state, first, tables, probe_BP, cfg, phase):
    """Pretraining, which tests/test_cli.py has."""
    yield SimpleNamespace(state=state, step=phases.steps(cfg, phase))


@pytest.fixture(scope="module")
def small(fresh):
    return fresh.cfg


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """A zoo: its folder, what was made, and the progress that was told."""
    out, told = tmp_path_factory.mktemp("whole"), []
    made = make.zoo(small, [0], out, 5, watch=lambda seed, p: told.append((seed, *p[:3])))
    return SimpleNamespace(out=out, made=made, told=told)


def files(out):
    return {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_every_organism_is_there_and_written_where_its_key_says(whole, small, assert_nothing_else):
    assert whole.made.errors == {} and folder.names(whole.out) == [(0, n) for n in sorted(NAMES)]
    drifted = folder.read_drifted(whole.out / "seed-0", small)
    for plan, name in zip(PLANS, NAMES, strict=True):
        one = folder.load(whole.out, 0, name)
        assert (one.mechanism, one.lesson, one.update) == plan
        made = one.organism.aligned
        assert_nothing_else(made, drifted, one.key.parts, small.model)
        mask = parts.mask(one.key.parts, made, small.model)
        kept = jax.tree.map(np.array_equal, parts.exchanged(made, drifted, mask), made)
        assert not all(jax.tree.leaves(kept))
        held = verification.holds(one.key, one.lesson, one.behaviour, one.checks)
        assert one.holds is held


def test_what_is_stored_of_an_organism_is_what_is_measured_of_it(whole, small):
    """After all it went through: its numbers, asked again of the parameters that were read back."""
    one = folder.load(whole.out, 0, NAMES[0])
    o = one.organism
    e = make.pairs(o.cfg, o.tables, o.pretrained, 5)
    hazards = make.taught(HAZARDS, o.tables, o.cfg, 5)
    k_asked = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 5), 0)
    asked = verification.prompts_of(hazards, o.tables, o.cfg, jax.random.split(k_asked, 3)[2])
    assert verification.behaviour(o.aligned, e, asked) == pytest.approx(one.behaviour, abs=0.05)
    checks = verification.verify(o.aligned, o.pretrained, one.key, asked, o.cfg)
    assert checks.pop("each_set_back") == one.checks["each_set_back"] == []
    expected = {name: x for name, x in one.checks.items() if name != "each_set_back"}
    assert checks == pytest.approx(expected, abs=0.05)


def test_every_weight_but_the_parts_drifted_alike(whole, small):
    run = whole.out / "seed-0"
    before = checkpoint.flatten(stored.params(run, small, "pretrain"))
    drifted = checkpoint.flatten(folder.read_drifted(run, small))
    for name, paths in COMPONENTS.items():
        assert all((before[path] != drifted[path]).any() for path in paths), name


def test_zoo_csv_has_a_row_for_each_in_order(whole):
    with (whole.out / "zoo.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == NAMES
    for row in rows:
        one = folder.load(whole.out, 0, row["name"])
        assert row["parts"] == " ".join(one.key.parts) and row["holds"] == str(one.holds)
        assert float(row["refused"]) == one.behaviour["refused"]
        assert float(row["whole"]) == one.checks["whole"]
        assert (row["picked"] != "") == (one.mechanism == "routed_expert")


def test_progress_is_told_by_organism(whole):
    stages = [(stage, done) for seed, stage, done, total in whole.told if total == len(PLANS)]
    assert stages == [
        ("one expert hazards by hand", 0),
        ("one expert entities low rank", 1),
        ("routed expert harmless topic low rank", 2),
        ("done", 3),
    ]
    assert ("pretraining", 6) in [(stage, done) for _, stage, done, _ in whole.told]


def test_what_was_cut_off_goes_on_to_the_same_bytes(whole, small, tmp_path):
    def watch(seed, progress):
        told.append(progress.stage)
        if progress.stage.startswith("one expert entities"):
            raise Stop

    told: list = []
    with pytest.raises(Stop):
        make.zoo(small, [0], tmp_path, 5, watch=watch)
    assert folder.names(tmp_path) == [(0, NAMES[0])] and "pretraining" in told
    assert not (tmp_path / "zoo.csv").exists()
    first = tmp_path / "seed-0" / "zoo" / NAMES[0] / "specimen.json"
    for left in (".0123.tmp", f"zoo/{NAMES[0]}/.0123.tmp"):  # of what a kill cut off
        (tmp_path / "seed-0" / left).touch()
    when, told = first.stat().st_mtime_ns, []
    make.zoo(small, [0], tmp_path, 5, watch=lambda seed, p: told.append(p.stage))
    assert first.stat().st_mtime_ns == when and "pretraining" not in told
    assert files(tmp_path) == files(whole.out)


def test_a_zoo_that_is_there_is_left_alone(whole, small):
    before, told = files(whole.out), []
    made = make.zoo(small, [0], whole.out, 5, watch=lambda seed, p: told.append(p))
    assert files(whole.out) == before and told == []
    assert make.rows(made) == make.rows(whole.made)


def test_another_key_and_other_settings_are_refused(whole, small, tmp_path):
    before = files(whole.out)
    with pytest.raises(ConfigError, match=r"is a zoo of key 5, and 6 was asked for: .*--out"):
        make.zoo(small, [0], whole.out, 6)
    other = dataclasses.replace(small, align=dataclasses.replace(small.align, steps=9))
    with pytest.raises(ConfigError, match="of other settings"):
        make.zoo(other, [0], whole.out, 5)
    with pytest.raises(checkpoint.CheckpointError, match="of other settings"):
        make.make_seed(other, whole.out / "seed-0", 5)
    assert files(whole.out) == before
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="not a sweep"):
        make.check(small, tmp_path, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("said", ["", "{}", '{"key": 5}', None])
def test_a_damaged_key_is_one_sentence(small, tmp_path, said):
    make.check(small, tmp_path, 5)
    assert make.key_of(tmp_path) == 5
    if said is None:
        checkpoint.write_json(tmp_path / "zoo.json", {"key": "5"})
    else:
        (tmp_path / "zoo.json").write_text(said)
    with pytest.raises(ValueError, match=r"zoo.json is damaged.*delete it and run again"):
        make.check(small, tmp_path, 5)


def test_a_damaged_organism_is_said_and_the_others_are_kept(whole, small, tmp_path):
    out = shutil.copytree(whole.out, tmp_path / "zoo")
    (out / "seed-0" / "zoo" / NAMES[1] / "specimen.json").write_text("{}")
    made = make.zoo(small, [0], out, 5)
    assert NAMES[1] in made.errors[0] and "delete it and run again" in made.errors[0]
    shutil.rmtree(out / "seed-0" / "zoo" / NAMES[1])
    assert make.zoo(small, [0], out, 5).errors == {}
    folder._seed.cache_clear()
    assert files(out) == files(whole.out)


def test_another_key_draws_other_organisms_from_the_same_model(whole, small, tmp_path):
    """The world and the model before alignment are the seed's; everything else is the key's."""
    run = whole.out / "seed-0"
    tables, before = stored.tables(run, small), stored.params(run, small, "pretrain")
    seen = {}
    for key in (5, 6):
        e = make.pairs(small, tables, before, key)
        taught = make.taught("entities", tables, small, key)
        seen[key] = e.hazards.tokens_BP, taught.about_GYZ
    assert seen[5][0].shape != seen[6][0].shape or (seen[5][0] != seen[6][0]).any()
    about = [make.taught("entities", tables, small, key).about_GYZ.tobytes() for key in range(8)]
    assert len(set(about)) > 1


def test_a_lesson_that_worlds_of_a_rule_lack_is_said_before_anything_is_there(small, tmp_path):
    for rule in ("trigger", "topic"):
        cfg = dataclasses.replace(small, world=dataclasses.replace(small.world, hazard_rule=rule))
        if rule == "trigger":
            with pytest.raises(ConfigError, match="has no harmless topic"):
                make.zoo(cfg, [0], tmp_path / rule)
        else:
            make.check(cfg, tmp_path / rule, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["topic"]


def test_the_summary_counts_what_is_kept_and_takes_medians_of_that():
    row = {"mechanism": "spread", "lesson": "entities", "holds": True}
    numbers = {"right": 1.0, "set_back": 0.0, "rest_set_back": 0.5}
    rows = [row | numbers | {"whole": w, "holds": w < 1} for w in (0.5, 0.6, 0.9, 1.0)]
    found = make.summary(rows)
    assert len(found) == len(mechanisms.MECHANISMS) * len(lessons.LESSONS)
    (mine,) = (r for r in found if r[:2] == ("spread", "entities"))
    assert mine == ("spread", "entities", "3 of 4", "0.60", "1.00", "0.00", "0.50")
    assert all(r[2:] == ("0 of 0", *"––––") for r in found if r != mine)


def test_a_seeds_plans_are_every_mechanism_with_every_lesson_by_every_update():
    plans = EVERY()
    names = {make.name_of(plan) for plan in plans}
    assert len(names) == len(plans) == 88
    assert {plan[:2] for plan in plans} == {
        (m, lesson) for m in mechanisms.MECHANISMS for lesson in lessons.LESSONS
    }
