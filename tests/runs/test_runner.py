"""Runs of a minuscule model: what is written, and what a kill at any moment leaves to resume."""

import dataclasses
import json
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from toymoe import checkpoint
from toymoe.config import to_dict
from toymoe.organism import stored
from toymoe.runs import localisation_plots, plots, runner
from toymoe.training import phases

pytestmark = pytest.mark.core

KEPT = ("snapshots/pretrain-000003.npz", "snapshots/align-000003.npz")
RESULTS = ("pretrained.npz", "aligned.npz", "history.npz", *KEPT)
OWN = {"config.json", "tables.npz", "metrics.json", *RESULTS}  # without pictures


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


@pytest.mark.numeric  # a whole run ends with any instruction set
def test_writes_the_named_files_and_no_others(small_run):
    assert files(small_run.out) == OWN | {"report.html"} | {
        f"figures/{name}.png" for name in plots.FIGURES | localisation_plots.FIGURES
    }
    for name in plots.FIGURES | localisation_plots.FIGURES:
        assert (small_run.out / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_metrics_hold_what_was_promised(small, small_run):
    metrics = json.loads((small_run.out / "metrics.json").read_bytes())
    assert len(metrics.pop("hash")) == 64 and metrics == small_run.metrics
    assert metrics["seed"] == small.seed and metrics["config"] == to_dict(small)
    assert metrics["versions"]["jax"] == jax.__version__
    rates = "answer_accuracy over_refusal refusal refusal_held_out hazard_answered".split()
    for which in ("pretrained", "aligned"):
        assert all(0 <= metrics["behaviour"][which][rate] <= 1 for rate in rates)
    routing, layers = metrics["routing"], small.model.layers
    by_layer = [routing["nmi_topic"][where] for where in ("context", "answer")]
    by_layer += [routing[f"nmi_topic_{control}"] for control in ("shuffled", "untrained")]
    by_layer += [routing[k] for k in ("overlap_pretrained_aligned", "load_cv", "dead_experts")]
    contrasts = "refuse_vs_answer refusal_prefix intent_twins cross_topic topic_twins".split()
    aligned = routing["contrasts"]["aligned"]
    by_layer += [aligned[c][m] for c in contrasts for m in ("js", "overlap")]
    assert [len(values) for values in by_layer] == [layers] * len(by_layer)
    names = "compile pretrain align analysis figures total".split()
    assert {f"{name}_s" for name in names} | {"tokens_per_s"} <= metrics["timing"].keys()


def test_models_are_kept_on_the_way_and_no_bit_is_another_for_it(small, small_run, tmp_path):
    out = small_run.out
    assert stored.snapshots(out) == [("pretrain", 3), ("align", 3)]
    begun = phases.start(stored.params(out, small, "pretrain"), small, "align")
    tables, probes = stored.tables(out, small), np.zeros((4, 8), int)
    chunk = next(phases.run_phase(begun, 0, tables, probes, small, "align"))
    kept = stored.snapshot(out, small, "align", 3)
    jax.tree.map(np.testing.assert_array_equal, kept, jax.tree.map(np.asarray, chunk.state.params))

    train = dataclasses.replace(small.train, snapshots=0, chunk=2)
    none = dataclasses.replace(small, train=train)
    runner.run(none, tmp_path, pictures=False)
    assert stored.snapshots(tmp_path) == []
    for phase in phases.PHASES:
        models = stored.params(tmp_path, none, phase), stored.params(out, small, phase)
        jax.tree.map(np.testing.assert_array_equal, *models)


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


def test_another_seed_is_another_run(small, small_run, tmp_path):
    runner.run(dataclasses.replace(small, seed=small.seed + 1), tmp_path, pictures=False)
    assert not any((tmp_path / n).read_bytes() == (small_run.out / n).read_bytes() for n in RESULTS)
    assert files(tmp_path) == OWN


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
    assert not stored.is_complete(tmp_path)
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
from pathlib import Path
from toymoe.runs import runner
from toymoe.config import from_dict

replaced, real = [], os.replace

def replace(source, target):
    replaced.append(target)
    if len(replaced) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)

os.replace = replace
runner.run(from_dict(json.loads(sys.argv[1])), Path(sys.argv[2]), pictures=False)
"""


@pytest.mark.parametrize(
    "at", [5, 8, 9], ids=["amid pretraining", "while a model is kept", "amid alignment"]
)
def test_killed_while_writing_it_ends_with_the_same_bits(small, small_run, tmp_path, at):
    # config.json, tables.npz, a model kept after 3 steps, a state after 3 and 6, pretrained.npz,
    # the start of alignment, a model kept after 3 steps, a state after 3, …: killed with the file
    # written beside its place and not yet put there
    arguments = [json.dumps(to_dict(small)), str(tmp_path), str(at)]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    (leftover,) = tmp_path.rglob(".*.tmp")
    assert leftover.stat().st_size > 0
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / ".0123.tmp").write_bytes(b"half a figure")
    told = []
    runner.run(small, tmp_path, told.append, pictures=False)
    assert (told[0].stage, told[0].done) == (("pretrain", 3) if at == 5 else ("align", 0))
    assert same(tmp_path, small_run.out)
    assert files(tmp_path) == OWN
