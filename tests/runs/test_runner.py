"""Runs of a minuscule model: what is written, and what a kill at any moment leaves to resume."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from toymoe import checkpoint
from toymoe.config import ConfigError, build, to_dict
from toymoe.runs import localisation_plots, plots, runner

pytestmark = pytest.mark.core

RESULTS = ("pretrained.npz", "aligned.npz", "history.npz")


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def same(left, right):
    return all((left / name).read_bytes() == (right / name).read_bytes() for name in RESULTS)


class Stop(Exception):
    """Stands for an interruption."""


def interrupted(cfg, out, at):
    """Run into `out` until the `at`-th report of progress; returns that report."""
    seen = []

    def watch(progress):
        seen.append(progress)
        if len(seen) == at:
            raise Stop

    with pytest.raises(Stop):
        runner.run(cfg, out, watch, pictures=False)
    return seen[-1]


# --- a run --------------------------------------------------------------------------------------


def test_writes_the_named_files_and_no_others(small_run):
    names = {"config.json", "metrics.json", "report.html", *RESULTS}
    assert files(small_run.out) == names | {
        f"figures/{name}.png" for name in plots.FIGURES | localisation_plots.FIGURES
    }
    for name in plots.FIGURES | localisation_plots.FIGURES:
        assert (small_run.out / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_metrics_hold_what_was_promised(small, small_run):
    metrics = json.loads((small_run.out / "metrics.json").read_bytes())
    assert metrics == small_run.metrics and metrics["seed"] == small.seed
    rates = "answer_accuracy over_refusal refusal refusal_held_out hazard_answered".split()
    for which in ("pretrained", "aligned"):
        assert all(0 <= metrics["behaviour"][which][rate] <= 1 for rate in rates)
    routing, layers = metrics["routing"], small.model.layers
    by_layer = [routing["nmi_topic"][where] for where in ("context", "answer")]
    by_layer += [routing[f"nmi_topic_{control}"] for control in ("shuffled", "untrained")]
    by_layer += [routing[k] for k in ("overlap_pretrained_aligned", "load_cv", "dead_experts")]
    contrasts = "refuse_vs_answer refusal_prefix intent_twins cross_topic topic_twins".split()
    by_layer += [routing["contrasts"][c][m] for c in contrasts for m in ("js", "overlap")]
    assert [len(values) for values in by_layer] == [layers] * len(by_layer)
    names = "compile pretrain align analysis figures total".split()
    assert {f"{name}_s" for name in names} | {"tokens_per_s"} <= metrics["timing"].keys()


def test_progress_is_told_in_order(small, small_run):
    stages = [(p.stage, p.done, p.total) for p in small_run.told]
    assert stages == [
        *(("pretrain", done, 6) for done in (0, 3, 6)),
        *(("align", done, 6) for done in (0, 3, 6)),
        ("analyse", 0, 1),
        ("draw", 0, 1),
    ]
    assert all((p.loss is None) == (p.done == 0) for p in small_run.told)


def test_timing_adds_up_to_the_clock_on_the_wall(small_run):
    timing = small_run.metrics["timing"]
    parts = [timing[f"{part}_s"] for part in "compile pretrain align analysis figures".split()]
    assert min(parts) > 0 and timing["total_s"] == pytest.approx(sum(parts))
    assert 0.9 * small_run.wall_s - 1 < timing["total_s"] <= small_run.wall_s
    tokens = 12 * 8 * (small_run.positions)
    training = timing["pretrain_s"] + timing["align_s"]
    assert timing["tokens_per_s"] == pytest.approx(tokens / training)


def test_history_has_every_step_and_snapshot(small_run):
    curves, _ = checkpoint.load(small_run.out / "history.npz")
    assert curves["loss_pretrain"].shape == (6,) and curves["loss_align"].shape == (6,)
    assert curves["phase"].tolist() == [0] * 7 + [1] * 7
    assert curves["step"].tolist() == [*range(7), *range(7)]


def test_loading_gives_back_what_was_trained(small, small_run):
    back = runner.load(small_run.out)
    assert back.cfg == small
    for name in ("pretrained", "aligned"):
        kept = checkpoint.flatten(checkpoint.load(small_run.out / f"{name}.npz")[0])
        read = checkpoint.flatten(getattr(back, name))
        assert read.keys() == kept.keys()
        assert all(np.array_equal(read[key], kept[key]) for key in kept)
    moved = [
        a - b for a, b in zip(*(checkpoint.flatten(x).values() for x in back[2:]), strict=True)
    ]
    assert any(np.any(x) for x in moved)  # the two checkpoints are two


def test_another_seed_is_another_run(small, small_run, tmp_path):
    runner.run(dataclasses.replace(small, seed=small.seed + 1), tmp_path, pictures=False)
    assert not any((tmp_path / n).read_bytes() == (small_run.out / n).read_bytes() for n in RESULTS)
    assert files(tmp_path) == {"config.json", "metrics.json", *RESULTS}


# --- interrupted --------------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(1, 8))
def test_interrupted_anywhere_it_ends_with_the_same_bits(small, small_run, tmp_path, at):
    # 1: nothing done, 2: amid pretraining, 3 and 4: between the phases, 5 to 6: amid and after
    # alignment, 7: before the measuring
    stopped = interrupted(small, tmp_path, at)
    assert (stopped.stage, stopped.done) == (
        small_run.told[at - 1].stage,
        small_run.told[at - 1].done,
    )
    assert (tmp_path / "state.npz").is_file() == (at > 1)
    assert not runner.is_complete(tmp_path)
    told = []
    metrics = runner.run(small, tmp_path, told.append, pictures=False)
    assert same(tmp_path, small_run.out)
    assert metrics["behaviour"] == small_run.metrics["behaviour"]
    assert metrics["routing"] == small_run.metrics["routing"]
    again = [(p.stage, p.done) for p in told if p.loss is not None]
    before = [(p.stage, p.done) for p in small_run.told[:at] if p.loss is not None]
    every = [(p.stage, p.done) for p in small_run.told if p.loss is not None]
    assert before + again == every  # no step twice
    assert "state.npz" not in files(tmp_path)


def test_interrupted_three_times(small, small_run, tmp_path):
    for _ in range(3):
        interrupted(small, tmp_path, 2)  # a chunk further each time
    runner.run(small, tmp_path, pictures=False)
    assert same(tmp_path, small_run.out)


KILLED = """
import json, os, signal, sys
import jax
jax.config.update("jax_compilation_cache_dir", sys.argv[3])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
from pathlib import Path
from toymoe import runner
from toymoe.config import from_dict

replaced, real = [], os.replace

def replace(source, target):
    replaced.append(target)
    if len(replaced) == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)

os.replace = replace
runner.run(from_dict(json.loads(sys.argv[1])), Path(sys.argv[2]), pictures=False)
"""


@pytest.mark.parametrize("at", [3, 6], ids=["amid pretraining", "amid alignment"])
def test_killed_while_writing_it_ends_with_the_same_bits(small, small_run, tmp_path, at):
    # config.json, a state after 3 and 6 steps, pretrained.npz, the start of alignment, a state
    # after 3 steps, …: killed with the file written beside its place and not yet put there
    arguments = [json.dumps(to_dict(small)), str(tmp_path), str(small_run.cache), str(at)]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    (leftover,) = tmp_path.glob(".*.tmp")
    assert leftover.stat().st_size > 0
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / ".0123.tmp").write_bytes(b"half a figure")
    told = []
    runner.run(small, tmp_path, told.append, pictures=False)
    assert (told[0].stage, told[0].done) == {3: ("pretrain", 3), 6: ("align", 0)}[at]
    assert same(tmp_path, small_run.out)
    assert files(tmp_path) == {"config.json", "metrics.json", *RESULTS}


# --- states that do not fit ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def begun(small, small_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("begun")
    interrupted(small, out, 2)
    return out


def damaged(data):
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damaged, "damaged|altered"),
        (lambda data: data[: len(data) // 3], "cut short or damaged"),
        (lambda data: b"", "not an .npz|cut short"),
        (lambda data: b"hello", "not an .npz"),
    ],
    ids=["one bit", "truncated", "empty", "text"],
)
def test_a_damaged_state_is_refused(small, begun, tmp_path, harm, words):
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    state = tmp_path / "state.npz"
    state.write_bytes(harm(state.read_bytes()))
    kept = state.read_bytes()
    with pytest.raises(checkpoint.CheckpointError, match=words) as caught:
        runner.run(small, tmp_path)
    assert "\n" not in str(caught.value) and "state.npz" in str(caught.value)
    assert state.read_bytes() == kept and files(tmp_path) == {"config.json", "state.npz"}


def test_a_checkpoint_is_no_state(small, small_run, tmp_path):
    shutil.copy(small_run.out / "pretrained.npz", tmp_path / "state.npz")
    with pytest.raises(checkpoint.CheckpointError, match="not the state of a run"):
        runner.run(small, tmp_path)


def test_a_state_of_another_version_is_refused(small, begun, tmp_path):
    tree, meta = checkpoint.load(begun / "state.npz")
    tree["state"].popitem()
    checkpoint.save(tmp_path / "state.npz", tree, meta)
    with pytest.raises(checkpoint.CheckpointError, match="another version"):
        runner.run(small, tmp_path)


def test_a_state_of_other_settings_is_refused(small, begun, tmp_path):
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    with pytest.raises(checkpoint.CheckpointError, match="other settings"):
        runner.run(dataclasses.replace(small, seed=9), tmp_path)


def test_an_archive_of_numpy_is_refused(small, tmp_path):
    np.savez(tmp_path / "state.npz", np.zeros(3))
    with pytest.raises(checkpoint.CheckpointError, match="not written by toymoe"):
        runner.run(small, tmp_path)


# --- the folder ---------------------------------------------------------------------------------


def test_prepare_makes_folders_and_takes_empty_ones(tmp_path):
    runner.prepare(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "figures").is_dir()
    (tmp_path / "a" / "b" / ".0123.tmp").touch()  # of a run killed in its first moments
    runner.prepare(tmp_path / "a" / "b")
    (tmp_path / "empty").mkdir()
    runner.prepare(tmp_path / "empty", force=True)


def test_prepare_refuses_files_and_foreign_folders(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter.txt").write_text("mine")
    before = files(tmp_path)
    for force in (False, True):
        with pytest.raises(ConfigError, match="is a file"):
            runner.prepare(tmp_path / "file", force)
        with pytest.raises(ConfigError, match="not a run"):
            runner.prepare(tmp_path / "folder", force)
        with pytest.raises(ConfigError, match="cannot be made"):
            runner.prepare(tmp_path / "file" / "below", force)
    assert files(tmp_path) == before and (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "folder" / "figures").exists()


def test_prepare_replaces_a_run_only_when_told(small_run, tmp_path):
    shutil.copytree(small_run.out, tmp_path, dirs_exist_ok=True)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="--resume continues it, --force replaces it"):
        runner.prepare(tmp_path)
    assert files(tmp_path) == files(small_run.out) | {"notes.txt"}
    runner.prepare(tmp_path, force=True)
    assert files(tmp_path) == {"notes.txt"}


def test_replacing_is_no_trap_when_cut_off(small_run, tmp_path, monkeypatch):
    shutil.copytree(small_run.out, tmp_path, dirs_exist_ok=True)
    real, removed = type(tmp_path).unlink, []

    def unlink(path, missing_ok=False):
        removed.append(path.name)
        if len(removed) == 4:
            raise Stop
        real(path, missing_ok)

    monkeypatch.setattr(type(tmp_path), "unlink", unlink)
    with pytest.raises(Stop):
        runner.prepare(tmp_path, force=True)
    monkeypatch.undo()
    assert not runner.is_complete(tmp_path) and runner.is_startable(tmp_path)
    runner.prepare(tmp_path, force=True)
    assert files(tmp_path) == set()


def test_what_can_be_resumed(small_run, begun, tmp_path):
    assert runner.is_startable(small_run.out) and runner.is_startable(begun)
    assert runner.is_complete(small_run.out) and not runner.is_complete(begun)
    assert runner.is_startable(tmp_path) and not runner.is_startable(tmp_path / "nowhere")
    (tmp_path / "letter.txt").write_text("mine")
    assert not runner.is_startable(tmp_path)


def test_loading_what_is_no_finished_run(begun, small_run, tmp_path):
    with pytest.raises(ConfigError, match="holds no run"):
        runner.load(tmp_path)
    with pytest.raises(ConfigError, match="not finished: `toymoe run --resume"):
        runner.load(begun)
    shutil.copytree(small_run.out, tmp_path, dirs_exist_ok=True)
    (tmp_path / "aligned.npz").write_bytes(damaged((tmp_path / "aligned.npz").read_bytes()))
    with pytest.raises(checkpoint.CheckpointError, match=r"aligned\.npz"):
        runner.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"config": 3}', "\xff"])
def test_a_damaged_config_is_one_sentence(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError) as caught:
        runner.stored_config(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_damaged_metrics_are_one_sentence(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ConfigError, match=r"metrics\.json is damaged"):
        runner.stored_metrics(tmp_path)


def test_config_reads_back(small_run, small):
    assert runner.stored_config(small_run.out) == small
    assert small != build("smoke")
