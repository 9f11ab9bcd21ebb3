"""Bytes of a run's files changed one at a time: refused in one sentence, or harmless."""

import random
import shutil

import jax
import numpy as np
import pytest

from toymoe import checkpoint, cli
from toymoe.config import to_dict
from toymoe.errors import ToymoeError
from toymoe.measures import history
from toymoe.organism import stored
from toymoe.runs import runner, state, studies, sweep
from toymoe.training import phases
from toymoe.validation import asked, study

COUNT = 60  # of each file


def harmed(data: bytes, luck: random.Random) -> bytes:
    """One byte another, one bit another, a byte more, some bytes less, or a piece twice."""
    at, how = luck.randrange(len(data)), luck.randrange(6)
    if how < 2:
        return data[:at] + bytes([data[at] ^ 1 << luck.randrange(8)]) + data[at + 1 :]
    if how == 2:
        return data[:at] + bytes([luck.randrange(32, 127)]) + data[at + 1 :]
    if how == 3:
        return data[:at] + bytes([luck.choice(b'019".-eE ,[]{}')]) + data[at:]
    if how == 4:
        return data[:at] + data[at + luck.randint(1, 200) :]
    return data[:at] + data[max(at - 40, 0) :]


def plain(tree):
    return [
        (np.asarray(x).dtype.str, np.asarray(x).tobytes()) for x in jax.tree.leaves(tree)
    ], jax.tree.structure(tree)


def readers(small):
    """How each file is read."""
    belongs = {"config": to_dict(small)}
    return {
        "config.json": stored.config,
        "metrics.json": stored.metrics,
        "tables.npz": lambda out: plain(stored.tables(out, small)),
        "pretrained.npz": lambda out: plain(stored.params(out, small, "pretrain")),
        "aligned.npz": lambda out: plain(stored.params(out, small, "align")),
        "history.npz": lambda out: plain(checkpoint.load(out / "history.npz", belongs=belongs)),
    }


def tried(out, name, read, count, seed=0) -> int:
    """How many of so many damages to a file are refused; what is not must be harmless."""
    path, luck, refused = out / name, random.Random(f"{name} {seed}"), 0
    whole, right = path.read_bytes(), read(out)
    for _ in range(count):
        path.write_bytes(harmed(whole, luck))
        try:
            assert read(out) == right, "accepted, and something else"
        except ToymoeError as error:
            refused += 1
            assert error.exit_code == 2 and "\n" not in str(error), error
            assert len(str(error)) < 400 + 3 * len(str(out)), error
    path.write_bytes(whole)
    assert read(out) == right
    return refused


@pytest.mark.parametrize(
    "name", "config.json metrics.json tables.npz pretrained.npz aligned.npz history.npz".split()
)
def test_no_byte_of_a_finished_run_changes_anything_silently(small, small_run, tmp_path, name):
    shutil.copytree(small_run.out, tmp_path, dirs_exist_ok=True)
    assert tried(tmp_path, name, readers(small)[name], COUNT) > 0.7 * COUNT


@pytest.mark.parametrize("phase", phases.PHASES)
def test_no_byte_of_a_state_changes_anything_silently(small, small_run, begun, tmp_path, phase):
    shutil.copytree(begun[phase], tmp_path, dirs_exist_ok=True)
    tables = stored.tables(tmp_path, small)
    blank = history.empty(small, history.probes(phases.keys(0).measure, tables, small))

    def read(out):
        now = state.read(out, small, blank)
        return now.phase, now.step, now.seconds, plain((now.state, now.raw))

    assert tried(tmp_path, "state.npz", read, COUNT) > 0.7 * COUNT


# --- JSON that is none --------------------------------------------------------------------------

BAD = {
    "lists in lists": "[" * 200_000,
    "dicts in dicts": '{"a":' * 200_000,
    "closed lists": "[" * 200_000 + "]" * 200_000,
    "a deep value": '{"hash": "0", "a": ' + "[" * 5_000 + "]" * 5_000 + "}",
    "not a number": '{"seed": NaN, "hash": "0"}',
    "infinite": '{"seed": 1e999, "hash": "0"}',
    "long number": '{"seed": ' + "9" * 10_000 + ', "hash": "0"}',
    "no hash": '{"seed": 0}',
    "a hash that is none": '{"seed": 0, "hash": [0]}',
    "bytes": "\xff\xfe",
    "empty": "",
}


@pytest.mark.parametrize("name", BAD)
def test_json_that_is_none_is_refused_wherever_it_is_read(small, tmp_path, name):
    reads = {
        "config.json": lambda: stored.config(tmp_path),
        "metrics.json": lambda: stored.metrics(tmp_path),
        "study.json": lambda: studies.stored(tmp_path, {}, {}),
        "sweep.json": lambda: sweep.claim(small, tmp_path),
        "scores.json": lambda: study._known(asked.load("usage"), tmp_path / "scores.json"),
    }
    for file, read in reads.items():
        (tmp_path / file).write_text(BAD[name], "latin-1")
        with pytest.raises(checkpoint.CheckpointError, match=f"{file} is damaged") as caught:
            read()
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("file", ["config.json", "metrics.json"])
@pytest.mark.parametrize("name", BAD)
def test_the_command_says_so_in_one_line(capsys, small_run, tmp_path, monkeypatch, file, name):
    monkeypatch.setattr(runner, "run", None)  # nothing is trained
    shutil.copytree(small_run.out, tmp_path, dirs_exist_ok=True)
    (tmp_path / file).write_text(BAD[name], "latin-1")
    assert cli.main(["run", "--resume", "--out", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and f"{file} is damaged" in err
