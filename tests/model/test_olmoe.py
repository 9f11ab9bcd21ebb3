"""Against an implementation nobody here wrote, by way of the code in docs/parameters.md.

Needs torch and transformers, the dependency group ``oracle``. Where TOYMOE_ORACLE is set, as
`.ci/run` sets it, their absence is a failure; elsewhere these tests are skipped.
"""

import json
import os
import re
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np
import pytest
from oracle import assert_close, random_params, rounding

from toymoe import checkpoint, model, world
from toymoe.config import ModelConfig, WorldConfig
from toymoe.model import moe

if os.environ.get("TOYMOE_ORACLE"):
    import torch
    import transformers
else:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

PAGE = Path(__file__).parents[2] / "docs" / "parameters.md"
VOCABULARY = 29
FUSED = int(transformers.__version__.split(".")[0]) >= 5
CONFIGS = {
    "top one": ModelConfig(3, width=24, heads=3, experts=8, expert_width=12, top_k=1),
    "top one, normalised": ModelConfig(1, 16, 2, 4, expert_width=8, top_k=1, norm_topk_prob=True),
    "top two": ModelConfig(1, width=32, heads=4, experts=8, expert_width=20, top_k=2),
    "top two, normalised": ModelConfig(3, 16, 1, 6, expert_width=8, top_k=2, norm_topk_prob=True),
    # torch's grouped matmul would refuse these two: rows of no multiple of 16 bytes.
    "default": ModelConfig(),
    "odd widths": ModelConfig(2, width=18, heads=3, experts=5, expert_width=7, top_k=2),
}


def blocks():
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture(params=CONFIGS)
def converted(request, tmp_path, monkeypatch):
    """A checkpoint as toymoe writes it, and what the page makes of it: its variables."""
    cfg = CONFIGS[request.param]
    params = random_params(cfg, VOCABULARY)
    checkpoint.save(tmp_path / "aligned.npz", params, {})
    checkpoint.write_json(tmp_path / "config.json", {"model": asdict(cfg)})
    monkeypatch.chdir(tmp_path)
    page = {}
    for block in blocks():
        exec(compile(block, str(PAGE), "exec"), page)
    return cfg, params, page


def assert_same_logits(olmoe, cfg, params):
    tokens_BT = np.random.default_rng(1).integers(0, VOCABULARY, (64, 17), np.int32)
    with torch.no_grad():
        theirs_BTV = olmoe(torch.tensor(tokens_BT).long()).logits.numpy()
    with jax.enable_x64(
        True
    ):  # ours: it says how far float32 may be off, and nothing of what is so
        double = jax.jit(lambda params: model.forward(params, tokens_BT, cfg).logits_BTV)
        within = 2 * rounding(lambda params: np.asarray(double(params)), params)  # both round
    assert theirs_BTV.std() > 1000 * within
    for grouped in (False, True):
        run = jax.jit(model.forward, static_argnames=("cfg", "grouped"))
        ours_BTV = np.asarray(run(params, tokens_BT, cfg=cfg, grouped=grouped).logits_BTV)
        assert_close(ours_BTV, theirs_BTV, within)
        second_BT, first_BT = np.moveaxis(np.sort(theirs_BTV)[..., -2:], -1, 0)
        clear_BT = (first_BT - second_BT > within) | (cfg == CONFIGS["default"])
        assert clear_BT.mean() > 0.99
        same_BT = ours_BTV.argmax(-1) == theirs_BTV.argmax(-1)
        assert same_BT[clear_BT].all()


def test_folder_of_the_page_gives_the_same_logits(converted):
    cfg, params, page = converted
    assert_same_logits(page["olmoe"], cfg, params)
    assert sum(p.numel() for p in page["olmoe"].parameters()) == model.count(params)
    _, info = transformers.OlmoeForCausalLM.from_pretrained("olmoe", output_loading_info=True)
    assert not any(info.values()), info


def test_tensors_of_the_page_give_the_same_logits(converted):
    """Through memory, in the layout of this version of transformers; strict about names."""
    cfg, params, page = converted
    olmoe = transformers.OlmoeForCausalLM(transformers.OlmoeConfig(**page["config"])).eval()
    tensors = page["olmoe_tensors"](page["arrays"], fused=FUSED)
    olmoe.load_state_dict({name: torch.tensor(x) for name, x in tensors.items()})
    assert_same_logits(olmoe, cfg, params)


def test_the_comparison_would_notice():
    """Each entry of a checkpoint matters: changed, it changes the logits by more than allowed."""
    cfg = CONFIGS["top two, normalised"]
    params = random_params(cfg, VOCABULARY)
    tokens_BT = np.random.default_rng(1).integers(0, VOCABULARY, (64, 17))
    run = jax.jit(model.forward, static_argnames="cfg")
    before_BTV = np.asarray(run(params, tokens_BT, cfg=cfg).logits_BTV)
    flat = checkpoint.flatten(params)
    for name, array in flat.items():
        changed = checkpoint.unflatten(flat | {name: array[..., ::-1]})
        assert np.abs(run(changed, tokens_BT, cfg=cfg).logits_BTV - before_BTV).max() > 1e-2, name


def test_every_entry_is_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    vocabulary = len(world.vocabulary(WorldConfig()))
    arrays = checkpoint.flatten(random_params(ModelConfig(), vocabulary))
    rows = dict(re.findall(r"^\| `([\w/]+)` \| \[[\w, ]+\] \| ([\d, ]+) \|", page, re.M))
    assert rows.keys() == arrays.keys()
    for name, shape in rows.items():
        assert list(map(int, shape.split(", "))) == list(arrays[name].shape), name


@pytest.mark.parametrize("top_k", [1, 3])
def test_load_balance_loss_is_theirs_over_top_k(top_k):
    from transformers.models.olmoe.modeling_olmoe import load_balancing_loss_func

    logits_NE = np.random.default_rng(2).normal(size=(50, 6)).astype(np.float32)
    route = moe.route_from_logits(logits_NE, top_k)
    theirs = load_balancing_loss_func((torch.tensor(logits_NE),), 6, top_k).item()
    ours = moe.load_balance_loss(route.probs_NE, route.experts_NA)
    assert ours == pytest.approx(theirs / top_k, rel=1e-5)


def test_config_of_the_page_is_valid_json_and_complete():
    page = {}
    exec(blocks()[0], page)
    cfg = ModelConfig(norm_topk_prob=True)
    config = page["olmoe_config"](checkpoint.flatten(random_params(cfg, VOCABULARY)), asdict(cfg))
    made = transformers.OlmoeConfig(**json.loads(json.dumps(config)))
    theirs = made.to_dict() | (made.to_dict().get("rope_parameters") or {})
    if FUSED:  # transformers 5 holds it outside of the file
        theirs["experts_implementation"] = made._experts_implementation
    assert {name: theirs[name] for name in config} == config
