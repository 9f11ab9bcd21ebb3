"""toymoe run: what it says, what it leaves behind, and what it leaves alone."""

import json
import shutil

import pytest
from refusing import refused

from toymoe import checkpoint, cli, start
from toymoe.config import to_dict
from toymoe.organism import stored
from toymoe.runs import claims, jobs, painter, report, runner
from toymoe.runs.progress import Bars

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("elsewhere")]


@pytest.mark.parametrize("command", ["run", "zoo", "validate", "bench"])
def test_a_model_too_large_for_this_machine_is_one_line(capsys, tmp_path, monkeypatch, command):
    monkeypatch.setattr(start, "memory", lambda: 1000)
    assert "to train, and this process may use 0.0 GiB" in refused(capsys, [command])
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_left_alone(capsys, tmp_path, small_run, settings):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for how, told in (
        (["run"], "it is not a run"),
        (["run", "--force"], "not a run of toymoe"),
        (["run", "--resume"], "holds no run"),
        (["sweep"], "not a sweep"),
    ):
        assert told in refused(capsys, [*how, "--out", "mine"])
    assert "is a file" in refused(capsys, ["run", "--out", "mine/letter.txt"])
    assert "--resume continues it" in refused(capsys, ["run", "--out", str(small_run.out)])
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "letter.txt"]


def test_an_old_run_survives_a_bad_force(capsys, small_run, monkeypatch):
    before = sorted(small_run.out.rglob("*"))
    argv = ["run", "--force", "--out", str(small_run.out)]
    assert "model.top_k = 99" in refused(capsys, [*argv, "--set", "model.top_k=99"])
    monkeypatch.setattr(start, "memory", lambda: 1000)
    assert "to train, and this process may use" in refused(capsys, argv)
    assert sorted(small_run.out.rglob("*")) == before


def test_run_then_resume_then_force(capsys, tmp_path, small, small_run, settings, drawn_already):
    argv = ["run", *settings, "--out", "a [b]/run"]  # brackets are markup to rich
    out = tmp_path / "a [b]" / "run"
    assert cli.main(argv) == 0
    said = capsys.readouterr()
    assert (
        said.err == "" and "Open a [b]/run/report.html and a [b]/run/explorer.html in" in said.out
    )
    metrics = json.loads((out / "metrics.json").read_bytes())
    for row in report.summary(metrics):
        assert all(cell in said.out for cell in row)
    assert stored.config(out) == small
    assert len(list((out / "figures").glob("*.png"))) == 12
    for name in ("pretrained.npz", "aligned.npz", "history.npz"):
        assert (out / name).read_bytes() == (small_run.out / name).read_bytes()

    written = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert cli.main(["run", "--resume", "--out", "a [b]/run"]) == 0
    assert "a [b]/run is complete already." in capsys.readouterr().out
    assert "other settings" in refused(capsys, ["run", "--resume", "--seed", "1", *argv[1:]])
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == written

    assert cli.main([*argv, "--force", "--seed", "1"]) == 0
    assert stored.config(out).seed == 1
    assert (out / "aligned.npz").read_bytes() != (small_run.out / "aligned.npz").read_bytes()


def test_ctrl_c_says_how_to_go_on_and_it_does(capsys, tmp_path, small_run, settings, drawn_already):
    real = Bars.show

    def show(bars, progress, seed=None):
        real(bars, progress, seed)
        if (progress.stage, progress.done) == ("align", 3):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bars, "show", show)
        assert cli.main(["run", *settings, "--out", "cut"]) == 130
    said = capsys.readouterr().err
    assert said == "toymoe: interrupted: `toymoe run --resume --out cut` goes on.\n"
    assert cli.main(["run", "--resume", "--out", "cut"]) == 0
    for name in ("pretrained.npz", "aligned.npz", "history.npz"):
        assert (tmp_path / "cut" / name).read_bytes() == (small_run.out / name).read_bytes()


@pytest.mark.parametrize("command", ["run --resume --out", "raset", "defend", "localise"])
def test_what_another_process_is_at_is_left_to_it(capsys, tmp_path, begun, small_run, command):
    """As a sweep is at its third seed."""
    run = tmp_path / "seed-3"
    shutil.copytree(begun["align"] if command.startswith("run") else small_run.out, run)
    before = sorted(tmp_path.rglob("*"))
    with claims.held(jobs.claim_of(tmp_path, 3)):
        said = refused(capsys, [*command.split(), "seed-3"])
        assert said == "toymoe: another process is at seed-3: wait for its end, or name another.\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_force_leaves_what_another_process_is_at(capsys, tmp_path, begun):
    shutil.copytree(begun["align"], tmp_path / "run")
    before = sorted((tmp_path / "run").rglob("*"))
    with claims.held(tmp_path / "run.claim"):
        assert "another process" in refused(capsys, ["run", "--force", "--out", "run"])
    assert sorted((tmp_path / "run").rglob("*")) == before


def test_a_figure_that_cannot_be_drawn_costs_nothing_trained(
    capsys, small_run, settings, tmp_path, drawn_already
):
    def images(_):
        raise painter.DrawingError("no figure: `toymoe run --resume` goes on.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawn_already, "images", images)
        assert cli.main(["run", *settings, "--out", "undrawn"]) == 1
    assert capsys.readouterr().err == "toymoe: no figure: `toymoe run --resume` goes on.\n"
    out = tmp_path / "undrawn"
    assert not stored.is_complete(out)
    assert cli.main(["run", "--resume", "--out", "undrawn"]) == 0
    assert "measuring" in (said := capsys.readouterr().out) and "pretraining" not in said
    assert (out / "aligned.npz").read_bytes() == (small_run.out / "aligned.npz").read_bytes()
    assert (out / "report.html").is_file()


@pytest.mark.parametrize("left", ["", "figures", ".0123.tmp"])
def test_without_a_configuration_there_is_nothing_to_resume(capsys, tmp_path, monkeypatch, left):
    runs = []
    monkeypatch.setattr(runner, "run", lambda cfg, out, watch: runs.append(cfg) or finished())
    (tmp_path / "early" / left).mkdir(parents=True)  # killed in its first moments
    assert "holds no run" in refused(capsys, ["run", "--resume", "--out", "early"])
    assert runs == [] and not (tmp_path / "early" / "config.json").exists()
    assert cli.main(["run", "--out", "early"]) == 0 and len(runs) == 1


def test_a_page_is_named_where_there_is_one(capsys, tmp_path, monkeypatch, small):
    stored.write_config(tmp_path, small)
    checkpoint.write_json(tmp_path / "metrics.json", finished() | {"config": to_dict(small)})
    for there in (False, True):  # a seed of a sweep has none
        if there:
            (tmp_path / "report.html").touch()
        assert cli.main(["run", "--resume", "--out", "."]) == 0
        assert ("Open report.html" in capsys.readouterr().out) is there


def finished():
    """Metrics in which everything is nothing."""
    names = "answer_accuracy refusal refusal_held_out over_refusal hazard_noted".split()
    models = dict.fromkeys(("untrained", "pretrained", "aligned"))
    route = {"refused": None, "own": {"refused": None}}
    left = {"m50": None, "refusal": [None] * 3, "twins": [None] * 3, "random": {"m50": None}}
    return {
        "behaviour": {"aligned": dict.fromkeys(names) | {"over_refusal_by_kind": {}}},
        "routing": {
            "nmi_topic": {"context": [0.0]},
            "nmi_topic_shuffled": [0.0],
            "nmi_topic_untrained": [0.0],
            "ratios": dict.fromkeys(report.RATIOS, models),
            "overlap_pretrained_aligned_mean": None,
            "top_k": 1,
            "experts": 2,
        },
        "weights": {part: {"relative": None} for part in ("all", "experts", "attention")},
        "inside": {
            "removal": {"counts": [0, 1, 2]}
            | dict.fromkeys(("set_back", "silenced", "masked"), left),
            "route": {"hazards": route, "twins": route},
        },
        "timing": {"total_s": 0.0},
    }


def test_a_damaged_state_is_one_line(capsys, tmp_path, small, monkeypatch):
    stored.write_config(tmp_path, small)
    (tmp_path / "state.npz").write_bytes(b"PK\3\4 and no more")
    assert cli.main(["run", "--resume", "--out", "."]) == 2
    err = capsys.readouterr().err
    assert "state.npz is cut short or damaged" in err and err.count("\n") == 1


def test_numbers_of_another_version_are_told_in_one_line(capsys, tmp_path, small):
    stored.write_config(tmp_path, small)
    whose = {"config": to_dict(small)}
    for metrics in ({}, whose, whose | {"behaviour": 3}, finished() | whose | {"timing": {}}):
        checkpoint.write_json(tmp_path / "metrics.json", metrics)
        assert "another version" in refused(capsys, ["run", "--resume", "--out", "."])
