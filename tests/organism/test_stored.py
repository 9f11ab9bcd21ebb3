"""Runs read back: as they were made, whatever JAX is set to, and only with files of their own."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from toymoe import checkpoint, model, organism, world
from toymoe.checkpoint import CheckpointError
from toymoe.config import ConfigError, build
from toymoe.organism import stored


def damaged(data):
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


def test_loading_gives_back_what_was_trained(small, small_run):
    back = organism.load(small_run.out)
    assert back.cfg == small
    for name in ("pretrained", "aligned"):
        kept = checkpoint.flatten(checkpoint.load(small_run.out / f"{name}.npz")[0])
        read = checkpoint.flatten(getattr(back, name))
        assert read.keys() == kept.keys()
        assert all(np.array_equal(read[key], kept[key]) for key in kept)
    moved = [
        a - b for a, b in zip(*(checkpoint.flatten(x).values() for x in back[2:4]), strict=True)
    ]
    assert back.metrics == small_run.metrics and len(back.history["loss_align"]) == 6
    assert any(np.any(x) for x in moved)  # the two checkpoints are two


def test_loading_what_is_no_finished_run(begun, small_run, tmp_path):
    with pytest.raises(ConfigError, match="holds no run"):
        organism.load(tmp_path)
    with pytest.raises(ConfigError, match="not finished: `toymoe run --resume"):
        organism.load(begun["align"])
    shutil.copytree(small_run.out, tmp_path, dirs_exist_ok=True)
    (tmp_path / "aligned.npz").write_bytes(damaged((tmp_path / "aligned.npz").read_bytes()))
    with pytest.raises(CheckpointError, match=r"aligned\.npz"):
        organism.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"config": 3}', "\xff"])
def test_a_damaged_config_is_one_sentence(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"config\.json is damaged") as caught:
        stored.config(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_damaged_metrics_are_one_sentence(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"metrics\.json is damaged"):
        stored.metrics(tmp_path)


def test_config_reads_back(small_run, small):
    assert stored.config(small_run.out) == small
    assert small != build("smoke")


def test_settings_that_lack_something_are_refused_even_with_a_right_hash(small_run, tmp_path):
    said = checkpoint.read_json(small_run.out / "config.json")
    assert said["toymoe"] and said["versions"]["jax"] == jax.__version__
    for change in (
        lambda config: config.pop("train"),
        lambda config: config["train"].pop("batch"),
        lambda config: config.update(seed="0"),
    ):
        changed = checkpoint.read_json(small_run.out / "config.json")
        change(changed["config"])
        checkpoint.write_json(tmp_path / "config.json", changed)
        with pytest.raises(ConfigError, match="lacks settings or is of another version"):
            stored.config(tmp_path)
    checkpoint.write_json(tmp_path / "config.json", said | {"versions": None})
    with pytest.raises(ConfigError, match="of another version"):
        stored.config(tmp_path)
    checkpoint.write_json(tmp_path / "config.json", said | {"config": 3})
    with pytest.raises(ConfigError, match="must be a JSON object"):
        stored.config(tmp_path)


# --- files of other runs ------------------------------------------------------------------------

FILES = ("config.json", "tables.npz", "pretrained.npz", "aligned.npz", "history.npz")


@pytest.fixture(scope="module")
def others(small, small_run, tmp_path_factory):
    """The same run's files as if of another seed, and of other settings."""
    found = {}
    for name, changed in (
        ("another seed", dataclasses.replace(small, seed=5)),
        ("other settings", dataclasses.replace(small, eval=build().eval)),
    ):
        out = found[name] = tmp_path_factory.mktemp("other")
        stored.write_config(out, changed)
        metrics = checkpoint.read_json(small_run.out / "metrics.json")
        ours = {"config": checkpoint.read_json(out / "config.json")["config"]}
        checkpoint.write_json(out / "metrics.json", metrics | ours)
        for file in FILES[1:]:
            tree, meta = checkpoint.load(small_run.out / file)
            checkpoint.save(out / file, tree, meta | ours)
        assert organism.load(out).cfg == changed  # whole by itself
    return found


@pytest.mark.parametrize("whose", ["another seed", "other settings"])
@pytest.mark.parametrize("file", [*FILES, "metrics.json"])
def test_a_file_of_another_run_is_refused(small_run, others, tmp_path, file, whose):
    shutil.copytree(small_run.out, tmp_path, dirs_exist_ok=True)
    organism.load(tmp_path)
    shutil.copy(others[whose] / file, tmp_path)
    with pytest.raises(CheckpointError, match=r"that belongs here|other settings") as caught:
        organism.load(tmp_path)
    assert "\n" not in str(caught.value)
    if file not in ("config.json", "metrics.json"):  # of many files, the first that differs
        assert ("seed is 5 and must be 0" in str(caught.value)) is (whose == "another seed")


@pytest.mark.parametrize(
    ("one", "two"), [("pretrained", "aligned"), ("tables", "history"), ("history", "aligned")]
)
def test_files_exchanged_are_refused(small_run, tmp_path, one, two):
    shutil.copytree(small_run.out, tmp_path, dirs_exist_ok=True)
    (tmp_path / f"{one}.npz").rename(tmp_path / "between")
    (tmp_path / f"{two}.npz").rename(tmp_path / f"{one}.npz")
    (tmp_path / "between").rename(tmp_path / f"{two}.npz")
    with pytest.raises(CheckpointError, match=r"\.npz"):
        organism.load(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["tables", "pretrained", "aligned"])
def test_numbers_that_are_not_finite_are_refused_where_they_are_read(
    small_run, tmp_path, name, value
):
    shutil.copytree(small_run.out, tmp_path, dirs_exist_ok=True)
    path = tmp_path / f"{name}.npz"
    tree, meta = checkpoint.load(path)
    leaf = "chain_GWW" if name == "tables" else "unembed"
    tree[leaf][0, 0] = value
    checkpoint.save(path, tree, meta)
    with pytest.raises(CheckpointError, match=f"{leaf} holds numbers that are not finite"):
        organism.load(tmp_path)


# --- whatever JAX is set to ---------------------------------------------------------------------


def test_a_folder_may_be_named_as_text(small_run, monkeypatch):
    assert organism.load(str(small_run.out)).cfg.seed == 0
    monkeypatch.chdir(small_run.out.parent)
    assert organism.load(small_run.out.name).metrics == small_run.metrics


def test_its_tables_are_those_it_was_trained_on(small_run, tmp_path):
    shutil.copytree(small_run.out, tmp_path, dirs_exist_ok=True)
    tree, meta = checkpoint.load(tmp_path / "tables.npz")
    tree["hazard_GYZ"] = ~tree["hazard_GYZ"]
    checkpoint.save(tmp_path / "tables.npz", tree, meta)
    assert np.array_equal(organism.load(tmp_path).tables.hazard_GYZ, tree["hazard_GYZ"])


def loaded(folder) -> list[tuple]:
    """Types and bytes of an organism, and of prompts drawn by it."""
    run = organism.load(folder)
    made = run.tables, run.pretrained, run.aligned, run.sample(64, "hazardous", 3)
    tokens = world.sample(jax.random.key(1), run.tables, run.cfg.world, 8).tokens_BP
    model.forward(run.aligned, tokens, run.cfg.model)  # the user's own settings work, too
    return [(np.asarray(x).dtype, np.asarray(x).tobytes()) for x in jax.tree.leaves(made)]


def test_it_is_the_same_under_other_settings_of_jax(small_run):
    plain = loaded(small_run.out)
    with jax.enable_x64(True), jax.default_prng_impl("rbg"), jax.threefry_partitionable(False):
        assert loaded(small_run.out) == plain
        assert jax.random.key_impl(jax.random.key(0)) != "threefry2x32"  # and they are set
    assert plain[0][0] != np.float64


def test_a_snapshot_is_of_its_run_phase_and_step(small, small_run, tmp_path):
    shutil.copytree(small_run.out, tmp_path, dirs_exist_ok=True)
    kept = tmp_path / stored.SNAPSHOTS
    (kept / "notes-1.npz").touch()
    (kept / "align-000003.npz").replace(kept / "align-000002.npz")
    assert stored.snapshots(tmp_path) == [("pretrain", 3), ("align", 2)]
    with pytest.raises(CheckpointError, match="step is 3 and must be 2"):
        stored.snapshot(tmp_path, small, "align", 2)
    with pytest.raises(CheckpointError, match="is not there"):
        stored.snapshot(tmp_path, small, "pretrain", 4)
    shutil.copy(kept / "align-000002.npz", kept / "pretrain-000003.npz")
    with pytest.raises(CheckpointError, match="phase is 'align' and must be 'pretrain'"):
        stored.snapshot(tmp_path, small, "pretrain", 3)
