"""Exports in transformers, an implementation nobody here wrote: the same logits, the same routes.

Needs torch and transformers, the dependency group ``oracle``. Where TOYMOE_ORACLE is set, as
`.ci/run` sets it, their absence is a failure; elsewhere these tests are skipped.
"""

import json
import os
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from oracle import assert_close, random_params, rounding

from toymoe import checkpoint, cli, hazards, model, organism, world
from toymoe.config import ModelConfig, build
from toymoe.export import olmoe as export
from toymoe.model import moe
from toymoe.runs import runner

if os.environ.get("TOYMOE_ORACLE"):
    import torch
    import transformers
else:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

PAGE = Path(__file__).parents[2] / "docs" / "parameters.md"
FUSED = int(transformers.__version__.split(".")[0]) >= 5


def shape(layers, width, heads, experts, expert_width, top_k, norm_topk_prob=False):
    given = layers, width, heads, experts, expert_width, top_k, norm_topk_prob
    return {f"model.{name}": x for name, x in zip(ModelConfig.__match_args__, given, strict=True)}


SHAPES = {
    # torch's grouped matmul would refuse the first two: rows of no multiple of 16 bytes.
    "default": shape(3, 64, 4, 18, 30, 2),
    "odd widths": shape(2, 18, 3, 5, 7, 2),
    "top one": shape(3, 24, 3, 8, 12, 1),
    "top one, normalised": shape(1, 16, 2, 4, 8, 1, True),
    "top three, normalised": shape(3, 16, 1, 6, 8, 3, True),
}
# Every hazard rule, in the default shape of an expert.
RUNS = SHAPES | {
    rule: shape(2, 16, 2, 6, 30, 2) | {"world.hazard_rule": rule} for rule in hazards.RULES
}


def load(folder):
    """The model, and that nothing of it was missing, left over or of another shape."""
    olmoe, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(info.values()), info
    assert isinstance(olmoe, transformers.OlmoeForCausalLM)
    return olmoe.eval()


def assert_same(olmoe, params, cfg, tokens_BT):
    """The same logits, most probable tokens and selected experts."""
    with torch.no_grad():
        theirs = olmoe(torch.tensor(tokens_BT).long(), output_router_logits=True)
    theirs_BTV = theirs.logits.numpy()
    with jax.enable_x64(True):  # it says how far float32 may be off, and nothing of what is so
        double = jax.jit(lambda params: model.forward(params, tokens_BT, cfg).logits_BTV)
        within = 2 * rounding(lambda params: np.asarray(double(params)), params)  # both round
    assert theirs_BTV.std() > 1000 * within
    router_LNE = np.array([x.numpy() for x in theirs.router_logits])
    order_LNE = np.argsort(-router_LNE, -1)
    theirs_LNA = np.sort(order_LNE[..., : cfg.top_k])
    sorted_LNE = np.take_along_axis(router_LNE, order_LNE, -1)
    clear_LN = sorted_LNE[..., cfg.top_k - 1] - sorted_LNE[..., cfg.top_k] > within
    second_BT, first_BT = np.moveaxis(np.sort(theirs_BTV)[..., -2:], -1, 0)
    clear_BT = first_BT - second_BT > within
    assert clear_BT.mean() > 0.99 and clear_LN.mean() > 0.99
    for grouped in (False, True):
        run = jax.jit(model.forward, static_argnames=("cfg", "grouped"))
        ours = run(params, tokens_BT, cfg=cfg, grouped=grouped)
        assert_close(np.asarray(ours.logits_BTV), theirs_BTV, min(within, 1e-4))
        same_BT = np.asarray(ours.logits_BTV).argmax(-1) == theirs_BTV.argmax(-1)
        assert same_BT[clear_BT].all()
        ours_LNA = np.sort(ours.routes.experts_LBTA).reshape(theirs_LNA.shape)
        assert (ours_LNA == theirs_LNA).all(-1)[clear_LN].all()


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_the_same_there(name, folder_of_run, tmp_path):
    run = folder_of_run(tmp_path / "run", RUNS[name])
    made, out = organism.load(run), tmp_path / "export"
    assert cli.main(["export", str(run), str(out), "--pairs", "8"]) == 0
    olmoe = load(out)
    assert sum(p.numel() for p in olmoe.parameters()) == model.count(made.aligned)
    assert_same(olmoe, made.aligned, made.cfg.model, made.sample(32).tokens_BP)


def test_the_model_before_alignment(folder_of_run, tmp_path):
    run = folder_of_run(tmp_path / "run", SHAPES["odd widths"])
    made, out = organism.load(run), tmp_path / "export"
    assert cli.main(["export", "--pretrained", str(run), str(out), "--pairs", "8"]) == 0
    olmoe, tokens_BT = load(out), made.sample(64).tokens_BP
    assert_same(olmoe, made.pretrained, made.cfg.model, tokens_BT)
    with pytest.raises(AssertionError):
        assert_same(olmoe, made.aligned, made.cfg.model, tokens_BT)


@pytest.mark.parametrize("rule", organism.shipped.RULES)
def test_a_shipped_organism_is_the_same_there_and_refuses(rule, tmp_path):
    out = tmp_path / "export"
    assert cli.main(["export", rule, str(out), "--pairs", "64"]) == 0
    made, olmoe = organism.load(rule), load(out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    rows = [json.loads(line) for line in (out / "prompts.jsonl").read_text("utf-8").splitlines()]
    tokens_BT = np.array(tokenizer([row["text"] for row in rows])["input_ids"])
    assert tokens_BT.tolist() == [row["tokens"] for row in rows]
    assert_same(olmoe, made.aligned, made.cfg.model, tokens_BT[:32].astype(np.int32))
    with torch.no_grad():
        last_BV = olmoe(torch.tensor(tokens_BT)).logits[:, -1]
    said = tokenizer.convert_ids_to_tokens(last_BV.argmax(-1).tolist())
    right = ["REFUSE" if row["hazard"] else row["answer"] for row in rows]
    assert np.mean(np.array(said) == right) > 0.97
    response = olmoe.generate(
        torch.tensor(tokens_BT[:1]),
        attention_mask=torch.ones(tokens_BT[:1].shape),
        max_new_tokens=9,
        pad_token_id=world.END,
    )
    assert tokenizer.decode(response[0]) == rows[0]["text"] + " REFUSE SORRY END"


# --- the tokenizer ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(folder_of_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    run = folder_of_run(folder / "run", SHAPES["odd widths"] | {"world.topics": 12})
    assert cli.main(["export", str(run), str(folder / "export"), "--pairs", "1"]) == 0
    made = transformers.AutoTokenizer.from_pretrained(folder / "export")
    return made, world.vocabulary(organism.load(run).cfg.world)


def test_every_word_is_its_token_and_back(tokenizer):
    made, words = tokenizer
    text = " ".join(words)
    assert made(text)["input_ids"] == list(range(len(words)))
    assert made.decode(range(len(words))) == text
    assert len(made) == len(words)
    assert (made.bos_token_id, made.eos_token_id) == (world.BOS, world.END)
    assert made.unk_token is None and made.pad_token is None


@pytest.mark.parametrize(
    "text", ["BOS clay1 nonsense ANS", "ENDING", "BOSclay1", "clay1END", "<unknown>", "BOS a", "b"]
)
def test_a_word_of_no_token_is_an_error(tokenizer, text):
    with pytest.raises(Exception, match="UNK"):
        tokenizer[0](text)


# --- the page -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_run_of_default_experts(small_settings, tmp_path_factory):
    """A run that was trained, where the page says it is."""
    folder = tmp_path_factory.mktemp("page")
    out = folder / "runs" / "default-seed-0"
    cfg = build("smoke", 0, small_settings | {"model.expert_width": ModelConfig().expert_width})
    runner.run(cfg, checkpoint.make_folder(out) or out, pictures=False)
    return folder


def test_the_code_of_the_page_works_on_a_run(small_run_of_default_experts, monkeypatch):
    monkeypatch.chdir(small_run_of_default_experts)
    assert cli.main(["export", "runs/default-seed-0", "export", "--pairs", "8"]) == 0
    page = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S):
        exec(compile(block, str(PAGE), "exec"), page)
    made = organism.load(small_run_of_default_experts / "runs" / "default-seed-0")
    assert page["F"] == 30 == made.cfg.model.expert_width
    np.testing.assert_equal(page["arrays"], checkpoint.flatten(made.aligned))
    assert page["tensors"].keys() == export.tensors(made.aligned).keys()
    assert_same(page["olmoe"], made.aligned, made.cfg.model, made.sample(64).tokens_BP)


def test_the_fused_names_of_the_page_are_those_in_memory(folder_of_run, as_the_page_says, tmp_path):
    run = folder_of_run(tmp_path / "run", SHAPES["odd widths"])
    made, out = organism.load(run), tmp_path / "export"
    assert cli.main(["export", str(run), str(out), "--pairs", "1"]) == 0
    there = {name: x.numpy() for name, x in load(out).state_dict().items()}
    told = as_the_page_says(made.aligned, made.cfg.model, FUSED)
    assert there.keys() == told.keys()
    for name, array in told.items():
        np.testing.assert_array_equal(there[name], array, err_msg=name)


def test_config_json_is_all_understood():
    cfg = build("smoke", 0, {"model.norm_topk_prob": "true"})
    config = export.config(cfg)
    made = transformers.OlmoeConfig(**config)
    theirs = made.to_dict() | (made.to_dict().get("rope_parameters") or {})
    if FUSED:  # transformers 5 holds it outside of the file
        theirs["experts_implementation"] = made._experts_implementation
    theirs["dtype"] = str(theirs["dtype"]).removeprefix("torch.")
    assert {name: theirs[name] for name in config} == config


# --- that it would be noticed; and the loss -----------------------------------------------------


def test_the_comparison_would_notice():
    """Each entry of a checkpoint matters: changed, it changes the logits by more than allowed."""
    cfg = ModelConfig(3, 16, 1, 6, expert_width=8, top_k=2, norm_topk_prob=True)
    params = random_params(cfg, 29)
    tokens_BT = np.random.default_rng(1).integers(0, 29, (64, 17))
    run = jax.jit(model.forward, static_argnames="cfg")
    before_BTV = np.asarray(run(params, tokens_BT, cfg=cfg).logits_BTV)
    flat = checkpoint.flatten(params)
    for name, array in flat.items():
        changed = checkpoint.unflatten(flat | {name: array[..., ::-1]})
        assert np.abs(run(changed, tokens_BT, cfg=cfg).logits_BTV - before_BTV).max() > 1e-2, name


@pytest.mark.parametrize("top_k", [1, 3])
def test_load_balance_loss_is_theirs_over_top_k(top_k):
    from transformers.models.olmoe.modeling_olmoe import load_balancing_loss_func

    logits_NE = np.random.default_rng(2).normal(size=(50, 6)).astype(np.float32)
    route = moe.route_from_logits(logits_NE, top_k)
    theirs = load_balancing_loss_func((torch.tensor(logits_NE),), 6, top_k).item()
    ours = moe.load_balance_loss(route.probs_NE, route.experts_NA)
    assert ours == pytest.approx(theirs / top_k, rel=1e-5)
