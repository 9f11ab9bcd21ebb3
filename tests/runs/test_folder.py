"""The folder of a run: made, replaced when told, begun once, and nobody else's."""

import dataclasses
import shutil

import pytest

from toymoe import checkpoint, numerics
from toymoe.checkpoint import CheckpointError
from toymoe.config import ConfigError
from toymoe.errors import ToymoeWarning
from toymoe.organism import stored
from toymoe.runs import folder


class Stop(Exception):
    """Stands for an interruption."""


def files(out):
    return {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}


def test_prepare_makes_folders_and_takes_empty_ones(tmp_path):
    folder.prepare(tmp_path / "a" / "b")
    assert files(tmp_path) == set() and list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "a" / "b" / ".0123.tmp").touch()  # of a run killed in its first moments
    folder.prepare(tmp_path / "a" / "b")
    (tmp_path / "empty").mkdir()
    folder.prepare(tmp_path / "empty", force=True)


def test_prepare_refuses_files_and_foreign_folders(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter.txt").write_text("mine")
    before = files(tmp_path)
    for force in (False, True):
        with pytest.raises(ConfigError, match="is a file"):
            folder.prepare(tmp_path / "file", force)
        with pytest.raises(ConfigError, match="not a run"):
            folder.prepare(tmp_path / "folder", force)
        with pytest.raises(ConfigError, match="cannot be made"):
            folder.prepare(tmp_path / "file" / "below", force)
    assert files(tmp_path) == before and (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "folder" / "figures").exists()


def test_prepare_replaces_a_run_only_when_told(small_run, tmp_path):
    shutil.copytree(small_run.out, tmp_path, dirs_exist_ok=True)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="--resume continues it, --force replaces it"):
        folder.prepare(tmp_path)
    assert files(tmp_path) == files(small_run.out) | {"notes.txt"}
    folder.prepare(tmp_path, force=True)
    assert files(tmp_path) == {"notes.txt"}


def test_replacing_a_run_takes_its_studies_along_and_nothing_of_others(small_run, tmp_path):
    shutil.copytree(small_run.out, tmp_path, dirs_exist_ok=True)
    for name in ("raset/figures", "defences", "realigned", "zoo"):
        (tmp_path / name).mkdir(parents=True)
    for name in folder.STUDIES:
        (tmp_path / name.replace("*", "pareto")).touch()
    mine = {"raset/notes.txt", "defences/table-2.csv", "realigned/old.json", "zoo/x.csv"}
    for name in mine:
        (tmp_path / name).touch()
    folder.prepare(tmp_path, force=True)
    assert files(tmp_path) == mine


def test_a_folder_whose_studies_are_gone_is_blank(small, tmp_path):
    (tmp_path / "raset" / "figures").mkdir(parents=True)
    (tmp_path / "raset" / "figures" / ".0123.tmp").touch()
    folder.prepare(tmp_path)
    folder.begin(tmp_path, small)
    assert files(tmp_path) == {"config.json"}


def test_replacing_is_no_trap_when_cut_off(small, small_run, tmp_path, monkeypatch):
    shutil.copytree(small_run.out, tmp_path, dirs_exist_ok=True)
    real, removed = type(tmp_path).unlink, []

    def unlink(path, missing_ok=False):
        removed.append(path.name)
        if len(removed) == 4:
            raise Stop
        real(path, missing_ok)

    monkeypatch.setattr(type(tmp_path), "unlink", unlink)
    with pytest.raises(Stop):
        folder.prepare(tmp_path, force=True)
    monkeypatch.undo()
    assert not stored.is_complete(tmp_path) and stored.config(tmp_path) == small
    folder.prepare(tmp_path, force=True)
    assert files(tmp_path) == set()


def test_a_run_begins_with_its_configuration_and_goes_on_with_it(small, tmp_path):
    folder.begin(tmp_path, small)
    assert files(tmp_path) == {"config.json"} and stored.config(tmp_path) == small
    before = (tmp_path / "config.json").read_bytes()
    (tmp_path / ".0123.tmp").touch()
    folder.begin(tmp_path, small)  # and no warning
    assert files(tmp_path) == {"config.json"}
    with pytest.raises(CheckpointError, match="other settings"):
        folder.begin(tmp_path, dataclasses.replace(small, seed=5))
    assert (tmp_path / "config.json").read_bytes() == before


def test_going_on_under_other_versions_warns_in_one_line(small, tmp_path):
    folder.begin(tmp_path, small)
    said = checkpoint.read_json(tmp_path / "config.json")
    assert said["versions"] == numerics.versions()
    said["versions"] |= {"jax": "0.9.1", "optax": "0.1"}
    checkpoint.write_json(tmp_path / "config.json", said)
    with pytest.warns(
        ToymoeWarning, match=r"jax 0\.9\.1, optax 0\.1 and goes on with jax 0\.\d+"
    ) as all:
        folder.begin(tmp_path, small)
    assert len(all) == 1 and "\n" not in str(all[0].message)
    assert "numpy" not in str(all[0].message)
    assert checkpoint.read_json(tmp_path / "config.json") == said  # as it was begun
