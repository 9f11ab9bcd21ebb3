"""toymoe doctor."""

import os

import pytest

from toymoe import cli
from toymoe.machine import doctor

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("elsewhere")]


@pytest.mark.parametrize("ok", [True, False])
def test_doctor(capsys, monkeypatch, ok):
    rows = [doctor.Row("Python", "3.11.7", True, ""), doctor.Row("AVX", "[none]", None, "")]
    rows += [doctor.Row("memory", "0.1 GB", ok, "get more [of it]")]
    estimate = {"total_s": 61.2, "again_s": 33.4, "compile_s": 27.8} if ok else None
    monkeypatch.setattr(doctor, "examine", lambda: doctor.Report(rows, estimate, ok))
    assert cli.main(["doctor"]) == (0 if ok else 1)
    out = capsys.readouterr().out
    assert all(words in out for words in ("3.11.7", "[none]", "get more [of it]"))
    assert ("PROBLEM" in out) is not ok
    assert ("about 61 s, and 33 s once compiled" in out) is ok
    assert ("toymoe runs here." in out) is ok


@pytest.mark.parametrize("own", [None, "cuda"])
def test_doctor_measures_where_a_run_would_compute(monkeypatch, own):
    monkeypatch.setenv("JAX_PLATFORMS", own or "")  # put back after the test
    if own is None:
        monkeypatch.delenv("JAX_PLATFORMS")
    seen = []

    def examine():
        seen.append(os.environ["JAX_PLATFORMS"])
        return doctor.Report([], None, True)

    monkeypatch.setattr(doctor, "examine", examine)
    assert cli.main(["doctor"]) == 0 and seen == [own or "cpu"]
