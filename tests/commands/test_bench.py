"""toymoe bench, for people and for programs."""

import json

import pytest

from toymoe import cli
from toymoe.machine import bench

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("elsewhere")]


MEASURED = {
    "tokens_per_s": 123456.7,
    "model_gflops": 10.0,
    "matmul_gflops": 40.0,
    "fraction": 0.25,
    "shape": {"layers": 2, "tokens_per_step": 1792},
}


def test_bench_json_is_one_object(capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(bench, "measure", lambda cfg, *_, **__: asked.append(cfg) or MEASURED)
    assert cli.main(["bench", "--json", "--set", "train.batch=64"]) == 0
    assert json.loads(capsys.readouterr().out) == MEASURED and asked[0].train.batch == 64


def test_bench_for_people(capsys, monkeypatch):
    monkeypatch.setattr(bench, "measure", lambda cfg, *_, **__: MEASURED)
    assert cli.main(["bench"]) == 0
    out = capsys.readouterr().out
    assert all(words in out for words in ("123,457", "10.0", "40.0", "25.0%", "1,792"))
