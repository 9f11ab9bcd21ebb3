"""What may be scored: files that work, and one sentence for each that does not."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from toymoe.attribution import methods
from toymoe.config import ConfigError, ModelConfig
from toymoe.validation import asked

CFG = ModelConfig(layers=2, width=8, heads=2, experts=3, expert_width=4, top_k=1)
E = SimpleNamespace(cfg=CFG)


def written(tmp_path, text, name="mine.py"):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_a_name_of_the_list_and_all_of_it():
    one = asked.load("usage")
    assert one.names == ["usage", "random"] and one.functions["usage"] is methods.usage
    assert asked.load("random").names == ["random"]
    assert asked.load("all").names == list(methods.METHODS)
    with pytest.raises(ConfigError, match=r"'usge' is not known.*did you mean 'usage'"):
        asked.load("usge")


GOOD = {
    "def f(e):\n    return [[1, 2, 3], [4, 5, 6.5]]": np.array([[1, 2, 3], [4, 5, 6.5]]),
    "import numpy as np\nfrom pathlib import Path\ndef f(e): return np.eye(2, 3) > 0": np.eye(2, 3),
    "def helper(e): return 3\ndef method(e): return ['expert 1.2', 'attention']": (
        "expert 1.2",
        "attention",
    ),
    "def _shape(e): return e.cfg.layers, e.cfg.experts\n"
    "import numpy\nclass Thing: pass\ndef mine(e): return numpy.ones(_shape(e))": np.ones((2, 3)),
    "import jax, jax.numpy as jnp\n@jax.jit\ndef _two(x): return 2 * x\n"
    "def f(e): return _two(jnp.ones((2, 3)))": np.full((2, 3), 2),
    "from dataclasses import dataclass\n@dataclass\nclass A:\n  x: int\nmethod = lambda e: ()": (),
    "from functools import partial\ndef _f(name, e): return [name]\n"
    "method = partial(_f, 'head 1.1')": ("head 1.1",),
}


@pytest.mark.parametrize("text", GOOD)
def test_one_function_is_a_method(text, tmp_path):
    made = asked.load(written(tmp_path, text))
    assert made.names == ["mine.py", "random"] and made.hash and not made.given
    said = made.functions["mine.py"](E)
    if isinstance(GOOD[text], tuple):
        assert said == GOOD[text]
    else:
        np.testing.assert_array_equal(said, GOOD[text])
        assert said.dtype == float


def test_what_a_file_says_is_in_its_hash(tmp_path):
    one = asked.load(written(tmp_path, "def f(e): return []"))
    two = asked.load(written(tmp_path, "def f(e): return ['experts']"))
    assert one.hash != two.hash and list(tmp_path.iterdir()) == [tmp_path / "mine.py"]


BAD_FILES = {
    "x = 3": "has no function: write one function",
    "from math import sin": "has no function",
    "def a(e): 1\ndef b(e): 2": "has 2 functions (a, b): call one of them `method`",
    "def f(e):\n    return (1": "mine.py:2 is no Python ('(' was never closed)",
    "import nothing_like_it\n": "mine.py:1: reading it ends with ModuleNotFoundError (No module",
    "x = 1\nraise SystemExit(3)": "mine.py:2: reading it ends with SystemExit (3)",
}
BAD_ANSWERS = {
    "def f(e):\n    y = 0\n    return 1 / y": "mine.py:3: its function ends with ZeroDivisionError",
    "def f(e):\n    raise KeyError": "mine.py:2: its function ends with KeyError: mend it",
    "def _g():\n    return [][1]\ndef f(e):\n    return _g()": "mine.py:2: its function ends with",
    "def f(): return 3": "mine.py: its function ends with TypeError (f() takes 0",
    "def f(e): return None": "gives scores of shape []: it must be [2, 3]",
    "def f(e): return {}": "gives a dict: it must be scores of shape [2, 3] or a list of names",
    "def f(e): return 'expert 1.2'": "gives a str",
    "def f(e): return ['expert 1.2', 3]": "gives a list",
    "def f(e): return [[1, 2], [3]]": "gives a list",
    "def f(e): return [[1, 2, 3]]": "scores of shape [1, 3]: it must be [2, 3], layers by experts",
    "def f(e): return [[1, 2, float('nan')], [1, 2, 3]]": "1 of 6 scores that are no finite",
    "def f(e): return [[1, 2, float('-inf')], [1, 2, 3]]": "1 of 6 scores that are no finite",
    "def f(e): return ['expert 2.0']": "part 'expert 2.0' does not exist: there are 2 layers of 3",
    "def f(e): return ['expart 1.0']": "part 'expart 1.0' is not known",
    "def f(e): return ['head 1.0', 'head 1.0']": "names a part twice",
}


@pytest.mark.parametrize("text", BAD_FILES | BAD_ANSWERS)
def test_what_a_file_does_wrong_is_one_sentence(text, tmp_path):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        made = asked.load(path)
        assert text in BAD_ANSWERS
        made.functions["mine.py"](E)
    said = str(error.value)
    assert (BAD_FILES | BAD_ANSWERS)[text] in said and "\n" not in said
    assert said.startswith(path) and said.endswith(".")


@pytest.mark.parametrize("name", ["nowhere.py", "nowhere.json"])
def test_a_file_that_is_not_there(name, tmp_path):
    with pytest.raises(ConfigError, match=f"{name} cannot be read .No such file"):
        asked.load(str(tmp_path / name))


# --- scores made elsewhere ----------------------------------------------------------------------

NAMES = ["seed-0/a", "seed-0/b", "seed-1/a"]
SCORES = [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("given", [SCORES, ["expert 1.2"], []])
def test_scores_and_names_of_all_specimens(given, tmp_path):
    text = json.dumps(dict.fromkeys(NAMES, given))
    made = asked.load(written(tmp_path, text, "mine.json"))
    assert made.names == ["mine.json", "random"] and list(made.given) == NAMES
    asked.require_all(made, NAMES, CFG)


BAD_JSON = {
    "{": "is no JSON",
    "[3]": "holds no scores",
    "{}": "holds no scores",
    json.dumps({"seed-0/a": SCORES}): "scores 1 of the 3 specimens: add 'seed-0/b' and the others "
    "(2 in all).",
    json.dumps(dict.fromkeys([*NAMES, "seed-1/c"], SCORES)): "scores 'seed-1/c', which is not in "
    "the zoo: did you mean 'seed-",
    json.dumps(dict.fromkeys(NAMES, SCORES) | {"seed-0/b": [1]}): "seed-0/b gives scores of shape "
    "[1]: it must be [2, 3]",
    json.dumps(dict.fromkeys(NAMES, SCORES) | {"seed-0/b": [[float("nan")] * 3] * 2}): "6 of 6",
    json.dumps(dict.fromkeys(NAMES, SCORES) | {"seed-0/b": [[10**400] * 3] * 2}): "gives a list",
    json.dumps(dict.fromkeys(NAMES, SCORES) | {"seed-0/b": ["expert 9.9"]}): "seed-0/b: part "
    "'expert 9.9' does not exist",
    json.dumps(dict.fromkeys(NAMES, SCORES) | {"seed-0/b": ["experts"]}): "scores and names",
    json.dumps(dict.fromkeys(NAMES, SCORES) | {"seed-0/b": []}): "scores and names",
}


@pytest.mark.parametrize("text", BAD_JSON)
def test_what_a_json_does_wrong_is_one_sentence(text, tmp_path):
    path = written(tmp_path, text, "mine.json")
    with pytest.raises(ConfigError) as error:
        asked.require_all(asked.load(path), NAMES, CFG)
    said = str(error.value)
    assert BAD_JSON[text] in said and "\n" not in said and "mine.json" in said
