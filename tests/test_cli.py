"""The command line: what it says, with which exit code, and what it leaves behind."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from types import SimpleNamespace

import jax
import pytest

from toymoe import checkpoint, cli, start
from toymoe.commands import parsing
from toymoe.config import to_dict
from toymoe.errors import ToymoeWarning, one_line
from toymoe.machine import bench, doctor
from toymoe.organism import seeded, stored
from toymoe.runs import claims, jobs, painter, report, runner, sweep, together
from toymoe.runs.progress import Bars
from toymoe.training.phases import TrainingError
from toymoe.zoo import make

pytestmark = pytest.mark.core


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to stand in."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def settings(small_settings):
    """The arguments that give the small run."""
    return ["--preset", "smoke", "--set", *(f"{k}={v}" for k, v in small_settings.items())]


def refused(capsys, argv, code=2):
    """The one line that a command ends with."""
    assert cli.main(argv) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("toymoe: ")
    return err


# --- bad input ----------------------------------------------------------------------------------

BAD = {
    "run --set world.topcs=12": ["'world.topcs'", "did you mean 'world.topics'?"],
    "run --set model.top_k=99": ["model.top_k = 99", "from 1 to model.experts = 18"],
    "run --set world.hazardous_topics=8": ["hazardous_topics = 8", "world.topics - 1 = 7"],
    "run --set world.hazardous_topics=1 world.hazardous_verbs=1 world.hazardous_entities=1": [
        "hazardous_entities = 1 is not possible",
        "at least 2",
    ],
    "run --set world.topics": ["'world.topics'", "NAME=VALUE"],
    "run --set seed=3": ["--seed"],
    "run --set pretrain.learning_rate=nan": ["pretrain.learning_rate = nan", "finite number"],
    "run --set pretrain.learning_rate=1e999": ["finite number"],
    "run --set train.batch=many": ["train.batch = 'many'", "whole number"],
    "run --set train.batch=0": ["train.batch = 0", "from 1 to"],
    "run --set train.batch=1.5": ["train.batch = 1.5", "whole number"],
    "run --set model.norm_topk_prob=1": ["true or false"],
    "run --set world.hazard_rule=triger": ["did you mean 'trigger'?"],
    "run --set": ["--set", "at least one"],
    "run --preset smoky": ["'smoky'", "default, smoke"],
    "run --seed -1": ["--seed -1", "whole number"],
    "run --seed x": ["--seed x"],
    "run --seed 2147483648": ["2147483647"],
    "run --resume": ["add --out"],
    "run --resume --force --out x": ["--resume", "--force"],
    "run --resume --out nowhere": ["nowhere holds no run"],
    "run --reed 3": ["'--reed' is not known", "did you mean '--seed'?"],
    "run now": ["'now' is not known"],
    "sweep --seeds 0-9": ["--out"],
    "sweep --out s --seeds 9-0": ["'9-0'"],
    "sweep --out s --seeds": ["--seeds"],
    "sweep --out s --seeds ,": ["','", "0-9"],
    "sweep --out s --set model.topk=1": ["did you mean 'model.top_k'?"],
    "zoo --key x": ["--key x", "whole number from 0 to 2147483647"],
    "zoo --key -1": ["--key -1 is not possible"],
    "zoo --seeds x": ["--seeds 'x'"],
    "zoo --seeds 0-": ["--seeds '0-'"],
    "zoo --set model.top_k=99": ["model.top_k = 99"],
    "zoo all": ["'all' is not known"],
    "validate --key x": ["--key x", "whole number"],
    f"validate --key {'9' * 5000}": ["--key 9", "from 0 to"],  # more than int() reads
    "validate --seeds x": ["--seeds 'x'"],
    "score usage nowhere": ["nowhere holds no zoo", "toymoe zoo --out nowhere"],
    "score usge z": ["'usge' is not known", "did you mean 'usage'?"],
    "score mine.py z": ["mine.py cannot be read"],
    "score": ["METHOD"],
    "explore nowhere": ["'nowhere' is not possible", "conjunction, topic"],
    "explore .": [". holds no run"],
    "explore --snapshots 12": ["12 models are not possible", "train.snapshots"],
    "explore --snapshots 2.5": ["--snapshots 2.5", "whole number"],
    "explore --weights int8": ["weights = 'int8'", "float16, float32"],
    "explore --out .": [". is a folder", "explorer.html"],
    "explore --out no/x.html": ["create the folder no first"],
    "explore --tuned": ["'--tuned' is not known"],
    "export conjunction": ["DIR"],
    "export nowhere out": ["'nowhere' is not possible", "conjunction, topic"],
    "export . out": [". holds no run"],
    "export topic .": [". is not possible", "name a new folder"],
    "export topic no/..": ["no/.. is not possible", "name a new folder"],
    "export topic out --pairs 0": ["--pairs 0", "from 1 to 100000"],
    "export topic out --pretraind": ["did you mean '--pretrained'?"],
    "bench --jsn": ["did you mean '--json'?"],
    "bench --set model.width=3": ["model.width = 3"],
    "doctor --set world.topics=3": ["'--set' is not known"],
    "swep": ["'swep'", "did you mean 'sweep'?"],
    "": ["COMMAND"],
    "--sed": ["COMMAND"],
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line(capsys, monkeypatch, tmp_path, line):
    monkeypatch.setattr(runner, "run", None)  # rather an error than a default run
    said = refused(capsys, line.split())
    assert all(words in said for words in BAD[line]), said
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_another_version_are_told_in_one_line(capsys, tmp_path, small):
    stored.write_config(tmp_path, small)
    whose = {"config": to_dict(small)}
    for metrics in ({}, whose, whose | {"behaviour": 3}, finished() | whose | {"timing": {}}):
        checkpoint.write_json(tmp_path / "metrics.json", metrics)
        assert "another version" in refused(capsys, ["run", "--resume", "--out", "."])


@pytest.mark.parametrize("argv", [["run", "--seed", ""], ["sweep", "--out", "s", "--seeds", ""]])
def test_an_empty_seed_is_no_seed(capsys, tmp_path, argv):
    assert "is not possible" in refused(capsys, argv)
    assert list(tmp_path.iterdir()) == []


EMPTY = [  # what a variable of the shell leaves that is not set
    ["run", "--out", ""],
    ["run", "--force", "--out="],
    ["sweep", "--out", ""],
    ["zoo", "--out", ""],
    ["score", "usage", ""],
    ["explore", "--out", ""],
    ["export", "topic", ""],
    ["raset", ""],
]


@pytest.mark.parametrize("argv", EMPTY, ids=" ".join)
def test_an_empty_path_is_neither_a_default_nor_the_folder_one_stands_in(capsys, tmp_path, argv):
    (tmp_path / "letter.txt").write_text("dear")
    assert "'' is not possible: give it a value" in refused(capsys, argv)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


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


def test_a_message_of_many_lines_is_told_in_one(capsys, monkeypatch):
    def measure(*_, **__):
        raise checkpoint.CheckpointError("one\ntwo")

    monkeypatch.setattr(bench, "measure", measure)
    assert refused(capsys, ["bench"]).endswith("one two\n")


def test_a_warning_of_toymoe_is_its_sentence_alone():
    assert one_line("it goes on.", ToymoeWarning, "file.py", 3) == "toymoe: it goes on.\n"
    assert "file.py:3: UserWarning: other" in one_line("other", UserWarning, "file.py", 3)


@pytest.mark.parametrize("where", ["~nobody-of-this-name/cache", ""])
def test_without_a_home_there_is_no_cache_and_no_error(monkeypatch, where):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("TOYMOE_CACHE", where)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(start.Path, "home", home)
    before = jax.config.jax_compilation_cache_dir
    start.start_jax()
    assert jax.config.jax_compilation_cache_dir == before


# --- help ---------------------------------------------------------------------------------------


def test_help_is_quick_and_leaves_jax_alone():
    script = (
        "import sys\nfrom toymoe import cli\ntry:\n    cli.main(['run', '--help'])\n"
        "finally:\n    print(sorted({'jax', 'numpy', 'rich', 'matplotlib'} & set(sys.modules)))"
    )
    seconds = []  # of processor time, which other programs lengthen less
    for _ in range(3):
        begin = os.times()
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        end = os.times()
        seconds.append(sum(end[2:4]) - sum(begin[2:4]))
        assert ended.returncode == 0 and ended.stdout.endswith("[]\n")
        if seconds[-1] < 0.4:
            break
    assert min(seconds) < 0.4
    for word in ("--resume", "--force", "world.topics = 8", "norm_topk_prob = false"):
        assert word in ended.stdout


@pytest.mark.parametrize("argv", [["--help"], ["--version"]])
def test_help_and_version_are_no_errors(capsys, argv):
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    out, err = capsys.readouterr()
    assert ended.value.code == 0 and err == ""
    names = ("run", "sweep", "bench", "doctor") if argv == ["--help"] else ("toymoe 0.",)
    assert all(name in out for name in names)


# --- output that cannot be written ---


def helped(stdout) -> tuple[str, int]:
    """What `toymoe run --help` says on standard error, and its exit code."""
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    ended = subprocess.run(
        [sys.executable, "-m", "toymoe.cli", "run", "--help"],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=buffered,
        text=True,
    )
    return ended.stderr, ended.returncode


def test_a_reader_that_went_away_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    assert helped(writer) == ("", 1)
    os.close(writer)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
def test_output_for_which_there_is_no_space_is_one_line():
    with open("/dev/full", "w") as full:
        assert helped(full) == ("toymoe: [Errno 28] No space left on device\n", 1)


def test_an_error_of_the_disk_is_one_line_where_output_is_closed(capsys, monkeypatch):
    def parse(argv):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parsing, "parse", parse)
    monkeypatch.setattr(sys, "stdout", None)  # as after `>&-`
    assert cli.main(["run"]) == 1
    assert capsys.readouterr().err == "toymoe: [Errno 28] No space left on device\n"


# --- run ----------------------------------------------------------------------------------------


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


def test_explore_writes_a_page_in_the_runs_folder_and_replaces_no_other(
    capsys, tmp_path, small_run, begun
):
    shutil.copytree(small_run.out, tmp_path / "a [b]")
    assert cli.main(["explore", "a [b]", "--snapshots", "5", "--weights", "float32"]) == 0
    out = tmp_path / "a [b]" / "explorer.html"
    said = capsys.readouterr()
    size = f"{out.stat().st_size / 1e6:.1f} MB"
    assert said.err == "" and f"a [b]/explorer.html: {size}. Open it in a browser." in said.out
    page = out.read_text("utf-8")
    assert page.startswith("<!doctype html>") and 'id="blob-pretrain-3"' in page
    out.write_text("mine")
    assert "not a page of the explorer" in refused(capsys, ["explore", "a [b]"])
    assert out.read_text() == "mine"
    assert "not finished" in refused(capsys, ["explore", str(begun["align"])])


def test_export_writes_a_new_folder_and_replaces_nothing(capsys, tmp_path, small_run, begun):
    argv = ["export", str(small_run.out), "a [b]", "--pairs", "5"]
    assert cli.main(argv) == 0
    said = capsys.readouterr()
    assert said.err == "" and said.out.startswith("a [b]: the aligned model of ")
    written = {p: p.read_bytes() for p in (tmp_path / "a [b]").iterdir()}
    assert len(written) == 6
    assert "a [b] exists already and is not empty" in refused(capsys, argv)
    assert "is a file" in refused(capsys, ["export", "topic", "a [b]/config.json"])
    assert "not finished" in refused(capsys, ["export", str(begun["align"]), "c"])
    assert {p: p.read_bytes() for p in (tmp_path / "a [b]").iterdir()} == written
    assert [p.name for p in tmp_path.iterdir()] == ["a [b]"]
    assert cli.main(["export", "--pretrained", *argv[1:2], "c", *argv[3:]]) == 0
    assert "c: the pretrained model of" in capsys.readouterr().out
    other = {p.name for p in (tmp_path / "c").iterdir() if p.read_bytes() not in written.values()}
    assert other == {"model.safetensors", "toymoe.json"}


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


def test_a_diverging_loss_is_one_line_and_code_1(capsys, monkeypatch):
    def run(*_):
        raise TrainingError("the loss is nan at step 3 of phase pretrain: try a smaller one.")

    monkeypatch.setattr(runner, "run", run)
    assert cli.main(["run", "--preset", "smoke"]) == 1
    err = capsys.readouterr().err
    assert err == "toymoe: the loss is nan at step 3 of phase pretrain: try a smaller one.\n"


def test_a_warning_that_is_an_error_is_one_line(capsys, monkeypatch):
    def run(*_):
        warnings.warn("two versions", ToymoeWarning, stacklevel=1)  # pytest makes it an error

    monkeypatch.setattr(runner, "run", run)
    assert cli.main(["run", "--preset", "smoke"]) == 1
    assert capsys.readouterr().err == "toymoe: two versions\n"


def test_a_full_disk_is_one_line_and_code_1(capsys, monkeypatch):
    def run(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runner, "run", run)
    assert cli.main(["run", "--preset", "smoke"]) == 1
    assert capsys.readouterr().err == "toymoe: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 80000000000 bytes.\nat …"),
        RuntimeError("can't start new thread"),
        ImportError("libscipy_openblas.so: failed to map segment from shared object"),
    ],
    ids=lambda error: str(error)[:20],
)
def test_too_little_memory_is_one_line(capsys, monkeypatch, error):
    def run(*_):
        raise error

    monkeypatch.setattr(runner, "run", run)
    assert cli.main(["run", "--preset", "smoke"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"toymoe: there is not enough memory ({type(error).__name__}: ")
    assert err.endswith("(`ulimit -v`).\n") and err.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("no reason"), ImportError("no such name")])
def test_an_error_of_toymoes_own_making_keeps_its_traceback(monkeypatch, error):
    def run(*_):
        raise error

    monkeypatch.setattr(runner, "run", run)
    with pytest.raises(type(error), match=str(error)):
        cli.main(["run", "--preset", "smoke"])


def test_a_damaged_state_is_one_line(capsys, tmp_path, small, monkeypatch):
    stored.write_config(tmp_path, small)
    (tmp_path / "state.npz").write_bytes(b"PK\3\4 and no more")
    assert cli.main(["run", "--resume", "--out", "."]) == 2
    err = capsys.readouterr().err
    assert "state.npz is cut short or damaged" in err and err.count("\n") == 1


# --- the other commands -------------------------------------------------------------------------


def test_sweep_says_what_failed(capsys, tmp_path, small_run, settings, monkeypatch):
    real = runner.run

    def run(cfg, *args, **more):
        if cfg.seed == 1:
            raise TrainingError("the loss is nan [/at] step 3")
        return real(cfg, *args, **more)

    monkeypatch.setattr(runner, "run", run)
    assert cli.main(["sweep", *settings, "--seeds", "0-1", "--out", "s"]) == 1
    out = capsys.readouterr().out
    assert "seed 0: done" in out and "seed 1: the loss is nan [/at] step 3" in out
    assert "1 of 2 seeds; every number: s/sweep.csv, s/summary.csv." in out
    assert "behaviour.aligned.refusal" in out
    assert (tmp_path / "s" / "summary.csv").is_file()


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


# --- many seeds at once -------------------------------------------------------------------------


def test_together_seeds_are_trained_before_the_sweep_measures_them(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(together, "train", lambda cfg, seeds, *_: called.append(seeds))
    monkeypatch.setattr(
        sweep, "sweep", lambda cfg, seeds, *_: called.append(("measured", seeds)) or ([], {})
    )
    words = ["sweep", "--seeds", "0-2", "--out", str(tmp_path / "s")]
    assert cli.main([*words, "--together"]) == 0
    assert called == [[0, 1, 2], ("measured", [0, 1, 2])]
    assert cli.main(words) == 0
    assert called[2:] == [("measured", [0, 1, 2])]


CREW = {
    "sweep --out s --jobs 0": ["--jobs 0", "from 1 to 1000"],
    "sweep --out s --jobs two": ["--jobs two", "whole number"],
    "sweep --out s --jobs 2 --cluster tcp://h:1": ["--jobs and --cluster exclude each other"],
    "raset . --jobs 2": ["for many seeds", "folder of a sweep"],
    "defend . --cluster tcp://h:1": ["for many seeds"],
    "localise . --jobs 2": ["for many seeds"],
    "zoo --jobs 0": ["--jobs 0", "from 1 to 1000"],
    "zoo --jobs 2 --cluster tcp://h:1": ["exclude each other"],
    "validate --jobs 1.5": ["--jobs 1.5"],
    "score usage . --jobs 0": ["--jobs 0", "from 1 to 1000"],
}


@pytest.mark.parametrize("line", CREW)
def test_jobs_that_are_not_possible_are_one_line(capsys, tmp_path, line):
    assert all(words in refused(capsys, line.split()) for words in CREW[line])
    assert list(tmp_path.iterdir()) == []


def test_two_jobs_make_the_files_of_one(capsys, tmp_path, small_run, settings):
    argv = ["sweep", *settings, "--seeds", "0-1"]
    assert cli.main([*argv, "--out", "one"]) == 0
    assert cli.main([*argv, "--out", "two", "--jobs", "2"]) == 0
    assert "seed 1: done" in capsys.readouterr().out
    one, two = (
        {p.relative_to(d): p for p in d.rglob("*")} for d in map(tmp_path.joinpath, ("one", "two"))
    )
    assert one.keys() == two.keys() and len(one) > 15
    for name, path in one.items():
        if name.suffix in (".npz", ".json") and name.name != "metrics.json":
            assert path.read_bytes() == two[name].read_bytes(), name
    for seed in (0, 1):  # all but how long it took
        left, right = (stored.metrics(tmp_path / d / f"seed-{seed}") for d in ("one", "two"))
        assert left | {"timing": 0} == right | {"timing": 0}
    aligned = (tmp_path / "two" / "seed-0" / "aligned.npz").read_bytes()
    assert aligned == (small_run.out / "aligned.npz").read_bytes()


def test_without_dask_a_cluster_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = "sweep --preset smoke --out s --cluster tcp://127.0.0.1:1"
    assert "pip install 'toymoe[cluster]'" in refused(capsys, line.split())
