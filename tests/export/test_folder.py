"""The folder of an export: what is in it, and that it is whole or absent."""

import json

import numpy as np
import pytest

from toymoe import __version__, checkpoint, export, organism
from toymoe.config import ConfigError, to_dict
from toymoe.export import folder, olmoe

FILES = [
    "config.json",
    "model.safetensors",
    "prompts.jsonl",
    "tokenizer.json",
    "tokenizer_config.json",
    "toymoe.json",
]


@pytest.fixture(scope="module")
def made(folder_of_run, tmp_path_factory):
    return organism.load(folder_of_run(tmp_path_factory.mktemp("run"), {"model.width": 16}))


def names(out):
    return sorted(path.name for path in out.iterdir())


def test_what_is_written(made, tmp_path):
    export.write(made, tmp_path / "a" / "b", pairs=3)
    out = tmp_path / "a" / "b"
    assert names(out) == FILES and names(tmp_path / "a") == ["b"]
    assert json.loads((out / "config.json").read_bytes()) == olmoe.config(made.cfg)
    rows = [json.loads(line) for line in (out / "prompts.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 2 * 3 + 3 * 3
    whose = checkpoint.read_json(out / "toymoe.json")
    assert whose == {"toymoe": __version__, "model": "aligned", "config": to_dict(made.cfg)}


def test_an_empty_folder_is_filled_with_the_same_bytes(made, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        export.write(made, tmp_path / name, pairs=3)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_either_model(made, tmp_path):
    for which in ("aligned", "pretrained"):
        export.write(made, tmp_path / which, which, 1)
        data = (tmp_path / which / "model.safetensors").read_bytes()
        embed = np.asarray(getattr(made, which)["embed"], "<f4").tobytes()
        assert embed in data
        assert checkpoint.read_json(tmp_path / which / "toymoe.json")["model"] == which
    with pytest.raises(ConfigError, match=r"'untrained'.*aligned or pretrained"):
        export.write(made, tmp_path / "other", "untrained")
    assert names(tmp_path) == ["aligned", "pretrained"]


def test_the_key_stands_apart_where_there_is_one(made, tmp_path):
    key = {"parts": ["expert 1.2"], "grain": "expert", "needs": "one"}
    export.write(made, tmp_path / "out", pairs=1, key=key)
    assert names(tmp_path / "out") == sorted([*FILES, "key.json"])
    assert checkpoint.read_json(tmp_path / "out" / "key.json") == key
    for name in set(FILES) - {"model.safetensors"}:
        assert "expert 1.2" not in (tmp_path / "out" / name).read_text("utf-8")


def test_what_is_there_is_left_alone(made, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for out, said in (("mine", "not empty"), ("mine/letter.txt", "is a file")):
        with pytest.raises(ConfigError, match=said):
            export.write(made, tmp_path / out)
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "letter.txt"]


def test_cut_off_it_is_absent(made, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()

    def encode(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder.safetensors, "encode", encode)
    for name in ("new", "empty"):
        with pytest.raises(KeyboardInterrupt):
            export.write(made, tmp_path / name, pairs=1)
    assert names(tmp_path) == ["empty"] and names(tmp_path / "empty") == []
