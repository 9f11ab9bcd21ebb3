"""toymoe zoo: what is kept."""

from types import SimpleNamespace

import pytest

from toymoe import cli
from toymoe.organism import seeded
from toymoe.zoo import make

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("elsewhere")]


@pytest.mark.parametrize("errors", [{}, {1: "the loss is nan at step 3"}])
def test_zoo_says_what_is_kept(capsys, monkeypatch, tmp_path, errors):
    def zoo(cfg, seeds, out, key, **calls):
        asked.append((cfg.model.experts, seeds, str(out), key, sorted(calls)))
        return SimpleNamespace(of={0: rows}, errors=errors)

    asked: list = []
    numbers = {"whole": 0.75, "right": 1.0, "set_back": 0.0, "rest_set_back": 0.625}
    row = {"mechanism": "joint_pair", "lesson": "entities", "holds": True} | numbers
    rows = [row, row | {"holds": False}, row | {"lesson": "other_answer", "holds": False}]
    monkeypatch.setattr(make, "check", lambda *given: None)
    monkeypatch.setattr(make, "zoo", zoo)
    line = "zoo --seeds 0-1 --key 7 --out z --set model.experts=7"
    assert cli.main(line.split()) == bool(errors)
    assert asked == [(7, [0, 1], "z", 7, ["crew", "done", "watch"])]
    said = " ".join(capsys.readouterr().out.split())
    assert "joint pair entities 1 of 2 0.75 1.00 0.00 0.62" in said
    assert "joint pair other answer 0 of 1" in said
    assert "1 of 3 organisms: their key held" in said and "z/zoo.csv." in said


def test_a_zoo_begins_with_the_models_of_runs(small, small_run, tmp_path):
    tables = seeded.tables(small)
    make.pretrained(small, tables, tmp_path, lambda progress: None)
    mine, theirs = (out / "pretrained.npz" for out in (tmp_path, small_run.out))
    assert mine.read_bytes() == theirs.read_bytes()
