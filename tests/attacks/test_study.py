"""``toymoe raset``: on one run, cut off, over many seeds; numbers by hand."""

import csv
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from toymoe import checkpoint, cli
from toymoe.attacks import catalogue, evaluation, raset, report, study, tuning
from toymoe.attribution import CRITERION, methods
from toymoe.organism import stored
from toymoe.runs import crew, folder, sweep

FAST = tuning.Schedule(steps=2, check=2, batch=4)


def test_rank_correlation_finds_the_order_and_none_where_there_is_none(monkeypatch):
    monkeypatch.setattr(study, "RESAMPLES", 200)
    rng = np.random.default_rng(0)
    truth = rng.random((3, 16))
    found = study.rank_correlations(
        {
            "ablation_zero": truth,
            "monotone": np.exp(5 * truth),
            "reversed": -truth,
            "random": rng.random((3, 16)),
            "constant": np.ones((3, 16)),
        }
    )
    assert found["monotone"]["rho"] == 1 and found["reversed"]["rho"] == -1
    assert found["random"]["low"] < 0 < found["random"]["high"]
    assert found["constant"] == {"rho": 0, "low": 0, "high": 0}


def test_a_seed_s_row_names_method_budget_quantity_and_gap():
    numbers = dict(
        refusal=0.1,
        hazard_answered_untuned=0.5,
        hazard_answered=0.9,
        answer_accuracy=0.99,
        jaccard_worst=0.95,
    )
    other = dict(
        refusal=0.4,
        hazard_answered_untuned=0.5,
        hazard_answered=0.5,
        answer_accuracy=0.98,
        jaccard_worst=0.5,
    )
    made = {
        "rows": [
            {"method": "raset", "budget": 8, "jaccard": [1.0, 0.95]} | numbers,
            {"method": "random_experts", "budget": 8, "jaccard": [1.0, 0.5]} | other,
        ],
        "criteria": {"ablation_zero": [[1, 2, 3]], "usage": [[3, 2, 1]]},
        "alone": [0.2, 0.5, 0.9],
    }
    row = study.seed_row(made)
    assert row["raset.8.refusal"] == 0.1 and row["raset.8.jaccard.1"] == 0.95
    assert row["random_experts.8.gap.refusal"] == pytest.approx(0.3)
    assert row["random_experts.8.gap.jaccard_worst"] == pytest.approx(-0.45)
    assert "raset.8.gap.refusal" not in row
    assert row["criteria.usage"] == -1 and row["criteria.ablation_zero"] == 1
    assert row["alone.usage"] == 1 and row["alone.ablation_zero"] == -1


# --- the command --------------------------------------------------------------------------------


def few(cfg):
    """Attacks that need no training, and one that does."""
    keep = ("none", "raset", "silenced", "random_experts", "steering_off_responses")
    return [(attack, n) for attack, n in every(cfg) if attack.name in keep and n in (0, 4)]


every, criteria = catalogue.plan, raset.studied


@pytest.fixture(scope="module")
def run(small, small_run, tmp_path_factory):
    """A copy of the small run, whose folder may be written to."""
    folder = tmp_path_factory.mktemp("raset") / "run"
    shutil.copytree(small_run.out, folder)
    return folder


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr(catalogue, "plan", few)
    monkeypatch.setattr(catalogue, "BUDGETS", (1, 4))
    monkeypatch.setattr(evaluation, "PROMPTS", 16)
    monkeypatch.setattr(raset, "studied", lambda: [CRITERION, "ablation_zero", "random"])
    monkeypatch.setattr(study, "study", partial(study.study, schedule=FAST))
    monkeypatch.setattr(study, "finished", partial(study.finished, schedule=FAST))


def amid_experts(progress):
    if (progress.stage, progress.done) == ("each expert alone", 2):
        raise KeyboardInterrupt


def test_one_run_cut_off_goes_on_and_ends_the_same(run, quick, monkeypatch):
    whole = study.study(run, each=True)
    shutil.rmtree(run / "raset")
    seen = []

    def stop(p):
        seen.append(p.stage)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.study(run, watch=stop)
    left = json.loads((run / "raset" / "study.json").read_bytes())
    assert 0 < len(left["rows"]) < len(whole["rows"]) and not left["alone"]
    with pytest.raises(KeyboardInterrupt):
        study.study(run, watch=amid_experts, each=True)
    left = json.loads((run / "raset" / "study.json").read_bytes())
    assert left["alone"] == whole["alone"][:2] and not study.removed_alone(left)
    assert study.finished(run) and not study.finished(run, each=True)
    again = study.study(run, each=True)
    assert again == json.loads(json.dumps(whole))
    assert study.removed_alone(again).keys() == again["criteria"].keys()
    stages = []
    assert study.study(run, watch=lambda p: stages.append(p.stage)) == again
    assert "evidence" not in stages


def test_a_new_criterion_is_a_row_of_the_methods_also_where_a_study_was_finished(
    run, quick, monkeypatch
):
    before = study.study(run)
    monkeypatch.setattr(raset, "studied", criteria)
    monkeypatch.setattr(methods, "METHODS", {n: methods.METHODS[n] for n in before["criteria"]})
    monkeypatch.setitem(methods.METHODS, "mine", lambda e: methods.usage(e) + 1)
    monkeypatch.setitem(methods.METHODS, "weight_change", methods.weight_change)
    made = study.study(run)
    assert {*made["criteria"]} == {*before["criteria"], "mine"}
    assert made["rows"] == json.loads(json.dumps(before["rows"]))
    axes = report.plots.criteria(study.rank_correlations(made["criteria"]), CRITERION).axes[0]
    assert "mine" in [text.get_text() for text in axes.get_yticklabels()]


def test_the_command_writes_table_figures_and_page(run, quick, capsys):
    assert cli.main(["raset", str(run), "--each"]) == 0
    out = capsys.readouterr().out
    assert "raset" in out and "Jaccard" in out
    with (run / "raset" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"method", "budget", "share", "refusal", "jaccard.0", "js.1"} <= rows[0].keys()
    page = (run / "raset" / "raset.html").read_text()
    assert page.count("data:image/png;base64,") == 4 and "our reading" in page
    assert {p.name for p in (run / "raset" / "figures").iterdir()} == {
        "pareto.png",
        "criteria.png",
        "alone.png",
        "routes.png",
    }
    assert {path for name in folder.STUDIES for path in run.glob(name)} == {
        path for path in (run / "raset").rglob("*") if path.is_file()
    }


def test_the_run_s_report_gains_one_section(run, small_run, quick, tmp_path):
    page = Path(shutil.copy(small_run.out / "report.html", tmp_path))
    before = page.read_text()
    assert "<!-- raset -->" not in before
    made = study.study(run)
    for _ in range(2):
        report.into_report(made, b"image", page)
    after = page.read_text()
    assert after.count("<!-- raset -->") == 1 and after.endswith("</body></html>\n")
    kept = after[: after.index("<!-- raset -->")] + after[after.index("<!-- /raset -->") + 15 :]
    assert kept == before


def test_many_seeds_keep_what_the_failing_one_cannot_give(
    run, quick, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "many"
    out.mkdir()
    cfg = stored.config(run)
    sweep.claim(cfg, tmp_path / "blank")
    shutil.copy(tmp_path / "blank" / "sweep.json", out)
    shutil.copytree(run, out / "seed-0")
    shutil.copytree(run, out / "seed-1")
    (out / "seed-1" / "aligned.npz").write_bytes(b"no checkpoint")
    assert cli.main(["raset", str(out)]) == 1
    said = capsys.readouterr().out
    assert "seed 0: done" in said and "1 of 2 seeds" in said
    with (out / "raset.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["error"] == "" and rows[1]["error"] != "" and rows[1]["raset.4.refusal"] == ""
    assert (out / "raset-summary.csv").is_file() and (out / "raset" / "raset.html").is_file()

    # Begun anew, the damaged one goes to a process, which says the same of it.
    shutil.rmtree(out / "seed-1" / "raset", ignore_errors=True)
    before, submit, given = (out / "raset.csv").read_bytes(), crew.Processes.submit, []

    def spied(self, function, work, folder, seed, *rest):
        given.append(seed)
        return submit(self, function, work, folder, seed, *rest)

    monkeypatch.setattr(crew.Processes, "submit", spied)
    assert cli.main(["raset", str(out), "--jobs", "2"]) == 1 and given == [1]
    assert "1 of 2 seeds" in capsys.readouterr().out and (out / "raset.csv").read_bytes() == before


BAD = {
    "raset": "name the folder",
    "raset nowhere": "nowhere is no folder",
    "raset --seeds 0-1": "--out DIR",
    "raset x --seeds 0-1 --out y": "no other folder",
    "raset x --preset smoke": "leave --preset",
    "raset --seeds 1-0 --out y": "'1-0'",
    "defend nowhere": "nowhere is no folder",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and BAD[line] in err
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_run_and_a_damaged_study_are_errors(run, quick, tmp_path, capsys):
    assert cli.main(["raset", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    (run / "raset" / "study.json").write_text("{")
    assert cli.main(["raset", str(run)]) == 2
    assert "damaged" in capsys.readouterr().err
    (run / "raset" / "study.json").unlink()


def test_a_study_of_other_parameters_is_not_reused(run, quick):
    first = study.study(run)
    params, meta = checkpoint.load(run / "aligned.npz")
    params["unembed"] = params["unembed"] + 1
    checkpoint.save(run / "aligned.npz", params, meta)
    second = study.study(run)
    assert second["belongs"]["model"] != first["belongs"]["model"]
    assert len(second["rows"]) == len(first["rows"])
