"""Weights out of a page, and what takes long in a thread of its own."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from explorer.against_jax import random_case
from explorer.engine import Engine, text_of

from toymoe.explorer import pack

pytestmark = pytest.mark.browser


# --- weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", pack.KINDS)
def test_parameters_come_out_of_a_page(page, kind):
    params = random_case("forty experts")[1]
    mine = Engine(page).run(
        "return await unpack_params(text, listed, kind)",
        text=pack.pack_params(params, kind),
        listed=pack.parameters(params),
        kind=kind,
    )

    def compare(found, given):
        rounded = np.ravel(given).astype(pack.KINDS[kind]).astype(np.float32)
        np.testing.assert_array_equal(found, rounded)

    jax.tree.map(compare, mine, params)


def test_every_float16(page):
    mine = Engine(page).run(
        "return Float64Array.from({ length: 65536 }, (_, i) => half_to_number(i))"
    )
    np.testing.assert_array_equal(mine, np.arange(65536, dtype=np.uint16).view(np.float16))


def test_tuned_weights_come_out_of_a_page(page):
    rng, (D, F) = np.random.default_rng(1), (6, 5)
    changes = [(rng.normal(size=(D, 2 * F)), rng.normal(size=(F, D))) for _ in range(3)]
    text = pack.pack([array for pair in changes for array in pair], "float32")
    engine = Engine(page)
    code = "return await unpack_tuned(text, n, { width: 6, expert_width: 5 }, 'float32')"
    mine = engine.run(code, text=text, n=3)
    for found, (gate_up, down) in zip(mine, changes, strict=True):
        np.testing.assert_array_equal(found["gate_up"], np.float32(gate_up).ravel())
        np.testing.assert_array_equal(found["down"], np.float32(down).ravel())
    tell = f"try {{ {code} }} catch (error) {{ return error.message }}"
    assert "270 numbers, and 360 are needed" in engine.run(tell, text=text, n=4)


# --- the worker ---------------------------------------------------------------------------------

WORKER = """
const worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
const heard = [];
function asked(...messages) {
  return new Promise((done) => {
    let left = messages.length;
    worker.onmessage = ({ data }) => {
      heard.push(data);
      if (!("progress" in data) && --left === 0) done();
    };
    worker.onerror = (event) => done(heard.push({ error: event.message }));
    messages.forEach((message) => worker.postMessage(message));
  });
}
"""


def begun(page, prompts=24):
    cfg, params, tokens_BT = random_case("forty experts")
    engine, rng = Engine(page), np.random.default_rng(2)
    V = params["unembed"].shape[1]

    def some(rows):
        return {"tokens_BP": rows.tolist(), "answer_B": rng.integers(4, V, len(rows)).tolist()}

    pairs = {"hazards": some(tokens_BT[:prompts]), "twins": some(tokens_BT[-prompts:])}
    engine.keep(text=text_of(), params=params, cfg=dataclasses.asdict(cfg), pairs=pairs)
    return engine


TASKS = {
    "answers": ("prompts: pairs.hazards", "answers(params, cfg, pairs.hazards)"),
    "meters": ("pairs, edits, frozen: params", "meters(params, cfg, pairs, edits, params)"),
    "alone": (
        "before: params, pairs, way: 'silenced'",
        "alone(params, null, cfg, pairs, 'silenced')",
    ),
    "patch_grids": (
        "pairs, tap: 'gates', way: 'removed'",
        "patch_grids(params, cfg, pairs, 'gates', 'removed')",
    ),
    "patch_grid": (
        "hazard: pairs.hazards.tokens_BP[0], twin: pairs.twins.tokens_BP[0], answers: [5, 6],"
        " tap: 'selected', way: 'restored'",
        "patch_grid(params, cfg, pairs.hazards.tokens_BP[0], pairs.twins.tokens_BP[0], [5, 6],"
        " 'selected', 'restored')",
    ),
    "selected": (
        "tokens_BP: pairs.twins.tokens_BP.slice(0, 1)",
        "{ experts: forward(params, pairs.twins.tokens_BP[0], cfg).routes.experts }",
    ),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_what_the_page_would_compute_itself(page, task):
    args, here = TASKS[task]
    found = begun(page, 4).run(
        WORKER
        + f"""
        const T = pairs.hazards.tokens_BP[0].length;
        const edits = {{ expert_out: zero(places("expert_out", cfg, T, {{ layer: 0 }})) }};
        await asked({{ id: 7, task: "{task}", args: {{ params, cfg, {args} }} }});
        worker.terminate();
        return {{ there: heard.at(-1), here: {here}, progress: heard.slice(0, -1) }};"""
    )
    assert found["there"].pop("id") == 7
    jax.tree.map(np.testing.assert_array_equal, found["there"], {"result": found["here"]})
    shares = [x["progress"] for x in found["progress"]]
    assert shares == sorted(shares) and all(0 < share <= 1 for share in shares)


def test_a_newer_request_of_a_task_cancels_the_older(page):
    found = begun(page).run(
        WORKER
        + """
        const args = { params, before: params, cfg, pairs, way: "masked" };
        const few = { hazards: { tokens_BP: [[1, 2]], answer_B: [5] } };
        few.twins = few.hazards;
        await asked({ id: 1, task: "alone", args },
          { id: 2, task: "meters", args: { params, cfg, pairs: few } },
          { id: 3, task: "alone", args: { ...args, pairs: few } });
        worker.terminate();
        return heard;"""
    )
    ends = {x["id"]: sorted(x.keys() - {"id"}) for x in found if "progress" not in x}
    assert ends == {1: ["cancelled"], 2: ["result"], 3: ["result"]}
    assert any(x["id"] == 1 and "progress" in x for x in found)


def test_errors_are_sentences(page):
    found = begun(page).run(
        WORKER
        + """
        await asked({ id: 1, task: "alone", args: { params, cfg, pairs, way: "off" } },
          { id: 2, task: "sing", args: {} });
        worker.terminate();
        return heard;"""
    )
    assert found[0] == {
        "id": 1,
        "error": "way = off is not possible: it must be set_back, silenced or masked.",
    }
    assert found[1]["id"] == 2 and "task sing is not known" in found[1]["error"]


def test_no_name_is_given_twice():
    names = re.findall(r"^(?:async )?(?:function\*?|const|let|class) (\w+)", text_of(), re.M)
    assert len(names) > 80
    assert sorted(set(names)) == sorted(names)
