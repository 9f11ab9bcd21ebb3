"""The command line: what it says, with which exit code, and what it leaves behind."""

import os
import subprocess
import sys
import warnings

import jax
import pytest
from refusing import refused

from toymoe import checkpoint, cli, start
from toymoe.commands import parsing
from toymoe.errors import ToymoeWarning, one_line
from toymoe.machine import bench
from toymoe.runs import runner
from toymoe.training.phases import TrainingError

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("elsewhere")]


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


# --- what ends a command ------------------------------------------------------------------------


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
