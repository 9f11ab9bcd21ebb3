"""Whatever the pages tell a reader to type: Python is run, `toymoe …` is read by its own parser."""

import re
import runpy
import shlex
import shutil
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from toymoe import classroom, cli
from toymoe.attacks import tuning
from toymoe.attacks.attacker import Attacker
from toymoe.classroom import notebook
from toymoe.commands import common, parsing
from toymoe.config import ConfigError, defaults
from toymoe.runs import sweep

ROOT = Path(__file__).parents[1]
PAGES = [
    page.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "lessons/*.md")
    for page in sorted(ROOT.glob(pattern))
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
ELSEWHERE = {  # its Python needs torch
    "docs/parameters.md": "export/test_transformers.py",
    "docs/tools.md": "export/test_tools.py",
}
CHEAP = ("lessons",)  # commands that are run as they stand
OTHERS = ("--xla_", "--requeue", "--exercises")  # options of XLA, SLURM and lessons.build
STANDING = ("…", "name=value")  # for any setting

# Why no test runs a page's shell blocks, in their order.
NOT_RUN = {
    "CONTRIBUTING.md": [
        "it installs packages; .ci/run has the same line from the README",
        "it installs packages; .ci/run runs it",
        "it installs packages, and is for whoever publishes",
    ],
    "README.md": [
        "it installs packages and waits in JupyterLab; its `toymoe lessons` is run here",
        "it installs packages; test_cli.py makes smaller runs",
        "it installs packages; .ci/run runs it",
    ],
    "docs/many.md": [
        "a hundred runs each; test_cli.py gives two to --jobs, test_cluster.py some to --cluster",
        "a hundred runs; runs/test_together.py trains some",
        "it needs several machines; runs/test_together.py has two and four processes on this one",
        "it needs SLURM; test_jobs.py has many starters share a folder",
        "it needs several machines; test_cluster.py begins both on this one",
    ],
    "docs/raset.md": ["hours; attacks/ and defences/ have the same commands on smaller runs"],
    "docs/tools.md": ["it installs torch; export/ makes the same exports"],
    "docs/validation.md": ["an hour; validation/ has smaller studies"],
    "lessons/INSTRUCTOR.md": ["it needs Docker"],
    "lessons/README.md": ["as the README's"],
}


def text(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def blocks(page: str, language: str) -> list[str]:
    return [code for kind, code in FENCE.findall(text(page)) if kind == language]


# --- Python -------------------------------------------------------------------------------------

# What a page takes as given, and numbers of it that would take too long.
GIVEN = {
    "README.md": ({}, {}),
    "docs/many.md": ("small", {"Processes(8)": "Processes(1)", "range(100)": "range(1)"}),
    "docs/methods.md": ({}, {"key(1), 96,": "key(1), 8,", "key(0), tap)": "key(0), tap, n=256)"}),
    "docs/metrics.md": ({}, {}),
    "docs/raset.md": ({}, {"np.ndindex(left_LE.shape)": "np.ndindex(1, 2)"}),
    "docs/taps.md": ({}, {}),
    "docs/validation.md": ({}, {}),
    "lessons/README.md": ("lesson", {}),
}


@pytest.fixture
def folder(tmp_path, monkeypatch, small, small_run):
    """The runs that pages speak of, all the same one, and a sweep. Attacks are short."""
    short = tuning.Schedule(steps=2, check=2, batch=4)
    monkeypatch.setattr(Attacker, "of", partial(Attacker.of, schedule=short, pairs=8, prompts=8))
    sweep.claim(small, tmp_path / "many")
    for run in ("runs/default-seed-0", "runs/a", "many/seed-0"):
        shutil.copytree(small_run.out, tmp_path / run)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python") and p not in ELSEWHERE])
def test_the_python_of_a_page_runs_in_order(page, folder, small, capsys):
    given, smaller = GIVEN[page]
    names = {"__name__": "__main__"}
    if given == "small":
        names |= {"cfg": small, "out": folder / "many"}
    if given == "lesson":
        classroom.begin(1)
        names |= {"check": classroom.check}
    said = blocks(page, "python")
    assert all(large in "".join(said) for large in smaller)
    for code in said:
        for large, little in smaller.items():
            code = code.replace(large, little)
        exec(compile(code, page, "exec"), names)
    said = capsys.readouterr().out
    if page == "README.md":
        L, E = (names["run"].cfg.model.layers, names["run"].cfg.model.experts)
        positions = names["prompts"].tokens_BP.shape[1]
        assert said.startswith("BOS") and said.endswith(f"({L}, 4, {positions}, {E})\n")
    if page == "docs/many.md":
        assert [(row["seed"], row["error"]) for row in names["rows"]] == [(0, "")]
    if page == "docs/metrics.md":
        nmi, left = map(float, re.findall(r"[\d.]+", said))
        assert nmi == pytest.approx(0.81, abs=0.01) and left == pytest.approx(0.32, abs=0.01)
    if page == "docs/raset.md":
        assert 0 < names["attacked"].share < 1
    if page == "docs/taps.md":  # one expert silenced changes some logits, by finite numbers
        out, edits = names["out"].logits_BTV, names["edits"]
        changed = names["model"].forward(
            names["params"], names["tokens_BT"], names["cfg"], edits=edits
        )
        assert 0 < abs(out - changed.logits_BTV).max() < 100
    if page == "lessons/README.md":
        assert "solved" in said


def test_python_that_other_tests_run_is_named_there():
    for page, test in ELSEWHERE.items():
        assert blocks(page, "python") and Path(page).name in text(f"tests/{test}")


# --- the shell ----------------------------------------------------------------------------------


def commands(code: str) -> list[list[str]]:
    """The words after each `toymoe` of some shell code, also of code that is quoted in it."""
    found, simple = [], []
    for word in _words(code):
        if word.startswith("toymoe "):
            found += commands(word)
        if not set(word) <= set("();&|"):
            simple.append(word)
            continue
        while simple and (simple[0] == "srun" or re.match(r"\w+=", simple[0])):
            del simple[0]
        if simple and Path(simple[0]).name == "toymoe":
            found.append(simple[1:])
        simple = []
    return found


def _words(code: str):
    """Words, and what stands between commands; no comments."""
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();&|")
        lexer.whitespace_split = True
        yield from (*lexer, ";")


def spans(page: str) -> list[str]:
    """The code in the sentences of a page or a lesson, each on one line."""
    said = text(page)
    if page.endswith(".py"):
        cells = notebook.read_percent(said)
        said = "\n".join(cell.source for cell in cells if cell.kind == "markdown")
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", said))]


def read(words: list[str]) -> None:
    """Raise a ConfigError if the command line would; `…` stands for anything."""
    if len(words) == 1:  # its name alone
        words = [*words, "--help"]
    with suppress(SystemExit):  # of --help
        args = parsing.parse(words)
        pairs = [pair for pair in getattr(args, "set", []) if pair not in STANDING]
        assert {pair.partition("=")[0] for pair in pairs} <= defaults().keys(), words
        args.set = [pair for pair in pairs if "…" not in pair]
        if hasattr(args, "preset"):
            common.config_of(args)
        if not re.search(r"[…$]", seeds := getattr(args, "seeds", None) or "…"):
            sweep.parse_seeds(seeds)
        if hasattr(args, "jobs"):
            common.check_crew(args, many=True)


def every_command():
    """(page, words) of each `toymoe …` that a reader may type."""
    for page in PAGES:
        for code in blocks(page, "bash"):
            yield from ((page, words) for words in commands(code))
    for page in (*PAGES, *(p.relative_to(ROOT).as_posix() for p in ROOT.glob("lessons/0*.py"))):
        for span in spans(page):
            if re.match(r"(\w+=\S+ )*(\S*/)?toymoe \w", span):
                yield from ((page, words) for words in commands(span))
            elif span.startswith("--set "):
                yield page, ["run", *span.split()]


def test_the_command_line_takes_every_line_of_the_pages(capsys):
    found = list(every_command())
    assert len(found) > 90 and {page for page, _ in found} >= {*NOT_RUN, "docs/tuning.md"}
    for page, words in found:
        try:
            read(words)
        except ConfigError as error:
            pytest.fail(f"{page}: toymoe {shlex.join(words)}: {error}")


@pytest.mark.parametrize(
    "line", ["swep --out x", "run --sed 3", "run --set world.topisc=3", "sweep --seeds 9-0 --out x"]
)
def test_a_line_that_is_wrong_would_be_seen(line):
    code = f"cd x && .venv/bin/toymoe {line} | tail  # a comment\n"
    (words,) = commands(code)
    assert words == line.split()
    with pytest.raises((ConfigError, AssertionError)):
        read(words)


def test_every_option_named_alone_is_one_of_some_command(capsys):
    for name in parsing._parser()[1]:
        read([name])
    options = {*re.findall(r"--[a-z]+", capsys.readouterr().out)}
    named = {
        o for page in PAGES for span in spans(page) for o in re.findall(r"^(?:… )?(--\S+)", span)
    }
    assert len(named) > 5
    assert {o for o in named if not o.startswith(OTHERS)} <= options


def test_cheap_commands_run_as_they_stand(tmp_path, monkeypatch, capsys):
    lines = {tuple(words) for _, words in every_command() if words[0] in CHEAP and len(words) > 1}
    assert len(lines) > 2
    for at, words in enumerate(sorted(lines)):
        (tmp_path / str(at)).mkdir()
        monkeypatch.chdir(tmp_path / str(at))
        assert cli.main(list(words)) == 0, words
        assert len(list(Path(words[1]).glob("*.ipynb"))) == len(classroom.lesson.LESSONS)


def test_a_shell_block_that_is_not_run_has_a_reason():
    there = {page: len(found) for page in PAGES if (found := blocks(page, "bash"))}
    assert there == {page: len(reasons) for page, reasons in NOT_RUN.items()}


def test_every_block_says_its_language_and_shell_is_shell():
    kinds = [(page, kind, code) for page in PAGES for kind, code in FENCE.findall(text(page))]
    assert {kind for _, kind, _ in kinds} == {"python", "bash", "text"}
    if bash := shutil.which("bash"):
        code = "\n".join(code for _, kind, code in kinds if kind == "bash")
        subprocess.run([bash, "-n"], input=code, text=True, check=True)


# --- links --------------------------------------------------------------------------------------

LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    said = re.sub(r"`[^`]*`|^    .*", "", FENCE.sub("", text(page)), flags=re.M)  # without code
    for link in LINK.findall(said):
        if not re.match(r"https?:|#", link):
            assert ((ROOT / page).parent / link.partition("#")[0]).exists(), link


def test_the_readme_of_a_package_index_depends_on_no_place():
    there = runpy.run_path(str(ROOT / "docs" / "site" / "readme.py"))
    as_it_is, at = text("README.md"), "https://forge.example/people/toymoe"
    assert there["readme"]({}) == as_it_is
    made = there["readme"]({"Repository": f"{at}/"})
    relative = [link for link in LINK.findall(as_it_is) if not link.startswith("http")]
    assert len(relative) > 15 and len(LINK.findall(made)) == len(LINK.findall(as_it_is))
    assert all(re.match("https?://", link) for link in LINK.findall(made))
    assert not re.search(r"""(src|href)=["'](?!https?:)""", made)
    assert "](docs/results.md#" in as_it_is and f"]({at}/blob/HEAD/docs/results.md#" in made
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", made)
    assert len(pictures) == 3 and all(p.startswith(f"{at}/raw/HEAD/docs/images/") for p in pictures)
    assert LINK.sub("", made) == LINK.sub("", as_it_is)
