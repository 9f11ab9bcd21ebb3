"""Sweeps of a minuscule run: rows, columns, summary, failures and going on."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest

from toymoe import checkpoint
from toymoe.config import ConfigError
from toymoe.organism import stored
from toymoe.runs import records, runner, sweep
from toymoe.training.phases import TrainingError

pytestmark = pytest.mark.core


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def swept(small, small_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    done = []
    result = sweep.sweep(small, [0, 2, 1], out, done=lambda *told: done.append(told))
    assert done == [(0, ""), (2, ""), (1, "")]
    return out, *result


# --- seeds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0-9", list(range(10))),
        ("3", [3]),
        ("0,2,5-7", [0, 2, 5, 6, 7]),
        (" 4 , 1-2", [4, 1, 2]),
        ("7-7,7,6-8", [7, 6, 8]),
        ("2147483647", [2**31 - 1]),
    ],
)
def test_seeds(text, seeds):
    assert sweep.parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text",
    ["", "0 1", "9" * 5000, *", 0, - -1 1- a 1.5 ² 1e3 0x1 0-9-10 9-0 0-10000 2147483648".split()],
)
def test_no_seeds(text):
    with pytest.raises(ConfigError, match=r"--seeds .* is not possible"):
        sweep.parse_seeds(text)


# --- rows ---------------------------------------------------------------------------------------


def test_a_row_per_seed_and_a_column_per_number(swept, small_run):
    out, rows, _ = swept
    written = table(out / "sweep.csv")
    assert [row["seed"] for row in written] == ["0", "1", "2"]  # whoever asked for what
    for row, read in zip(rows, written, strict=True):
        metrics = json.loads((out / f"seed-{row['seed']}" / "metrics.json").read_bytes())
        assert row == {"seed": row["seed"], "error": ""} | records.flat(metrics)
        # How many experts can be masked, with enough others left in a layer, differs.
        missing = read.keys() - row.keys()
        assert row.keys() <= read.keys() and not any(read[name] for name in missing)
        assert all(name.startswith("inside.removal.masked.") for name in missing)
        assert read["behaviour.aligned.refusal"] == str(metrics["behaviour"]["aligned"]["refusal"])
        first, second = metrics["routing"]["nmi_topic"]["context"]
        names = [f"routing.nmi_topic.context.{i}" for i in (0, 1, "best")]
        assert [float(read[name]) for name in names] == [first, second, max(first, second)]
    # A seed of a sweep is the run of that seed, and seeds differ.
    assert stored.config(out / "seed-2").seed == 2
    timeless = [{k: v for k, v in r.items() if not k.startswith("timing")} for r in rows]
    alone = {"error": ""} | records.flat(small_run.metrics)
    assert timeless[0] == {k: v for k, v in alone.items() if not k.startswith("timing")}
    nmi = {row["routing.nmi_topic.context.0"] for row in rows}
    assert len(nmi) == 3 and not list(out.rglob("*.png"))


def test_headlines_are_columns(swept):
    _, rows, _ = swept
    assert sweep.HEADLINES.keys() <= rows[0].keys()


def test_summary_against_numpy(swept):
    out, rows, summary = swept
    for name, found in summary.items():
        values = [row[name] for row in rows if row.get(name) is not None]
        assert found["n"] == len(values)
        assert found["median"] == pytest.approx(np.median(values))
        assert (found["min"], found["max"]) == (min(values), max(values))
        ends = [found[name] for name in ("min", "low", "median", "high", "max")]
        assert np.all(np.diff(ends) >= -1e-9 * abs(found["max"]))  # but for rounding
    written = {row["quantity"]: row for row in table(out / "summary.csv")}
    assert written.keys() == summary.keys() and not {"seed", "error"} & summary.keys()
    name = "routing.overlap_pretrained_aligned_mean"
    assert {k: float(v) for k, v in written[name].items() if k != "quantity"} == summary[name]


# --- failures and going on ----------------------------------------------------------------------


def test_a_second_call_runs_nothing(swept, small, monkeypatch):
    out, rows, summary = swept
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    monkeypatch.setattr(runner, "run", lambda *_, **__: pytest.fail("ran again"))
    assert sweep.sweep(small, [0, 2, 1], out) == (rows, summary)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert sweep.sweep(small, [1], out) == (rows, summary)  # all that is there
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_a_sweep_goes_on_where_it_was_cut_off(swept, small, small_run, tmp_path):
    class Stop(Exception):
        pass

    def watch(seed, progress):
        if (seed, progress.stage, progress.done) == (2, "align", 3):
            raise Stop

    with pytest.raises(Stop):
        sweep.sweep(small, [0, 2, 1], tmp_path, watch)
    assert [row["seed"] for row in table(tmp_path / "sweep.csv")] == ["0"]
    told = []
    rows, _ = sweep.sweep(small, [0, 2, 1], tmp_path, lambda seed, p: told.append((seed, *p[:2])))
    assert told[0] == (2, "align", 3) and (1, "pretrain", 0) in told
    for row, whole in zip(rows, swept[1], strict=True):
        assert all(row[k] == v for k, v in whole.items() if not k.startswith("timing"))


def test_a_seed_that_fails_costs_its_own_row_only(swept, small, tmp_path, monkeypatch):
    real = runner.run

    def run(cfg, *args, **more):
        if cfg.seed == 2:
            raise TrainingError("the loss is nan at step 3")
        return real(cfg, *args, **more)

    monkeypatch.setattr(runner, "run", run)
    rows, summary = sweep.sweep(small, [2, 0], tmp_path)
    assert rows[1] == {"seed": 2, "error": "the loss is nan at step 3"}
    kept, lost = table(tmp_path / "sweep.csv")
    assert (
        lost["error"] == "the loss is nan at step 3"
        and lost["routing.overlap_pretrained_aligned_mean"] == ""
    )
    assert kept["error"] == "" and {found["n"] for found in summary.values()} == {1}
    monkeypatch.undo()
    rows, summary = sweep.sweep(small, [2, 0], tmp_path)  # the failed one is tried again
    assert [row["error"] for row in rows] == ["", ""] and summary[
        "routing.overlap_pretrained_aligned_mean"
    ]["n"] == 2


def test_damage_costs_its_own_row_only(swept, small, tmp_path):
    out, rows, _ = swept
    shutil.copy(out / "sweep.json", tmp_path)
    shutil.copytree(out / "seed-0", tmp_path / "seed-0")
    shutil.copytree(out / "seed-1", tmp_path / "seed-1")
    (tmp_path / "seed-1" / "metrics.json").write_text("{")
    (tmp_path / "seed-3").mkdir()
    (tmp_path / "seed-3" / "state.npz").write_bytes(b"PK of something else")
    (tmp_path / "seed-4").write_text("a file")
    shutil.copytree(out / "seed-1", tmp_path / "seed-5")  # of another seed
    shutil.copytree(out / "seed-1", tmp_path / "seed-2")
    shutil.copy(out / "seed-2" / "config.json", tmp_path / "seed-2")  # nothing else is its own
    found, summary = sweep.sweep(small, [0, 1, 3, 4, 5, 2], tmp_path)
    assert found[0] == rows[0] and summary["parameters"]["n"] == 1
    errors = {row["seed"]: row["error"] for row in found}
    assert "metrics.json is damaged" in errors[1] and "state.npz" in errors[3]
    assert "seed-4" in errors[4] and "other settings" in errors[5]
    assert "metrics.json is of a run of other settings" in errors[2]
    assert all(row.keys() == {"seed", "error"} for row in found[1:])


def test_all_seeds_failing_still_writes_the_table(small, tmp_path, monkeypatch):
    def run(*_, **__):
        raise checkpoint.CheckpointError("damaged")

    monkeypatch.setattr(runner, "run", run)
    rows, summary = sweep.sweep(small, [0, 1], tmp_path)
    assert summary == {} and [row["error"] for row in rows] == ["damaged"] * 2
    assert [row["error"] for row in table(tmp_path / "sweep.csv")] == ["damaged"] * 2
    assert table(tmp_path / "summary.csv") == []


def test_a_sweep_killed_before_it_said_what_it_is_can_be_begun(small, tmp_path):
    (tmp_path / ".0123.tmp").touch()
    sweep.claim(small, tmp_path)
    assert (tmp_path / "sweep.json").is_file()


@pytest.mark.parametrize("width", [8, 4])
def test_of_two_who_begin_at_once_the_second_goes_on_or_is_refused(
    small, tmp_path, monkeypatch, width
):
    """Another begins after we have looked; with our settings, or with others."""
    real = checkpoint.make_folder
    other = dataclasses.replace(small, model=dataclasses.replace(small.model, width=width))

    def make_folder(path):
        monkeypatch.setattr(checkpoint, "make_folder", real)
        sweep.claim(other, path)
        (path / "seed-0").mkdir()

    monkeypatch.setattr(checkpoint, "make_folder", make_folder)
    if other == small:
        sweep.claim(small, tmp_path / "s")
    else:
        with pytest.raises(ConfigError, match="other settings"):
            sweep.claim(small, tmp_path / "s")
    sweep.claim(other, tmp_path / "s")  # whose it is
    assert {p.name for p in (tmp_path / "s").iterdir()} == {"sweep.json", "seed-0"}


def test_other_folders_are_left_alone(swept, small, tmp_path):
    out = swept[0]
    other = dataclasses.replace(small, train=dataclasses.replace(small.train, batch=9))
    with pytest.raises(ConfigError, match="other settings"):
        sweep.sweep(other, [0], out)
    with pytest.raises(ConfigError, match="not a sweep"):
        sweep.sweep(small, [0], out / "seed-0")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a file"):
        sweep.sweep(small, [0], tmp_path / "file")
    with pytest.raises(ConfigError, match="cannot be made"):
        sweep.sweep(small, [0], tmp_path / "file" / "below")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "sweep.json").write_text("{")
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        sweep.sweep(small, [0], tmp_path / "bad")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["bad", "file", "sweep.json"]
