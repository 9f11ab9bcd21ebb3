"""What `forward` refuses beforehand: one clear sentence each, and the rest simply works."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import random_params

from toymoe import model, start
from toymoe.config import ConfigError, ModelConfig
from toymoe.model import checks, taps

CFG = ModelConfig(layers=1, width=8, heads=2, experts=3, expert_width=3, top_k=1)
VOCABULARY = 11
TOKENS = np.random.default_rng(1).integers(0, VOCABULARY, (3, 5))


def look(tokens, **asked):
    return model.forward(random_params(CFG, VOCABULARY), tokens, CFG, **asked)


# --- tokens -------------------------------------------------------------------------------------

BAD = {
    "token too large": (
        lambda t: look(t + VOCABULARY - t.max()),
        "token 11 is not in the vocabulary: the model has 11 tokens, numbered from 0 to 10",
    ),
    "token below 0": (lambda t: look(t - 1 - t.min()), "token -1 is not in the vocabulary"),
    "one prompt": (lambda t: look(t[0]), r"must be \[B, T\]"),
    "no prompts": (lambda t: look(t[:0]), r"tokens of shape \[0, 5\] .* at least one prompt"),
    "empty prompts": (lambda t: look(t[:, :0]), "at least one prompt of at least one token"),
    "no numbers at all": (lambda t: look([]), r"tokens of shape \[0\] are not possible"),
    "floats": (lambda t: look(t + 0.0), "tokens of type float64 .* give whole numbers"),
    "truth values": (lambda t: look(t > 3), "tokens of type bool"),
    "traced floats": (lambda t: jax.jit(look)(t + 0.5), "tokens of type float32"),
    "ragged lists": (lambda t: look([[1, 2], [3]]), "as many lists of whole numbers as prompts"),
    "words": (lambda t: look([["BOS", "ASK"]]), "tokens = list is not possible"),
    "a number too long": (lambda t: look([[10**30]]), "tokens = list is not possible"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tokens_are_one_clear_error(case):
    call, message = BAD[case]
    with pytest.raises(taps.TapError, match=message) as error:
        call(TOKENS)
    assert "\n" not in str(error.value)


def test_nested_lists_and_every_whole_number_are_tokens():
    expected = look(TOKENS).logits_BTV
    for tokens in (TOKENS.tolist(), tuple(map(tuple, TOKENS.tolist())), TOKENS.astype(np.uint8)):
        np.testing.assert_array_equal(look(tokens).logits_BTV, expected)


# --- memory -------------------------------------------------------------------------------------


def test_a_record_that_would_not_fit_says_how_many_prompts_would():
    cfg = ModelConfig(experts=16)
    # 3 layers, 14 positions, 16 experts, width 64, 4 bytes: 172,032 bytes per prompt.
    shape, prompt = (20_000, 14), 172_032
    assert checks.record_bytes(cfg, (1, 14), ("expert_out",)) == prompt
    assert checks.record_bytes(cfg, (1, 14), ("selected",)) == 3 * 14 * 16
    like = jax.eval_shape(lambda: model.init(jax.random.key(0), cfg, 133))
    asked = partial(model.forward, cfg=cfg, record=("expert_out", "resid_pre"))
    fits = 2 * 2**30 // (prompt + prompt // 16)
    with pytest.raises(
        taps.TapError, match=f"3.4 GiB, and 2 GiB .* at most {fits} prompts .* leave out expert_out"
    ):
        jax.eval_shape(asked, like, jax.ShapeDtypeStruct(shape, jnp.int32))
    jax.eval_shape(asked, like, jax.ShapeDtypeStruct((fits, 14), jnp.int32))


@pytest.mark.parametrize("grouped", [False, True])
def test_prompts_that_would_not_fit_say_how_many_would(grouped):
    cfg = ModelConfig()
    like = jax.eval_shape(lambda: model.init(jax.random.key(0), cfg, 108))
    asked = partial(model.forward, cfg=cfg, grouped=grouped)
    with pytest.raises(taps.TapError, match=r"at most \d+ prompts at a time") as error:
        jax.eval_shape(asked, like, jax.ShapeDtypeStruct((200_000, 15), jnp.int32))
    assert ("grouped=True" in str(error.value)) is not grouped
    fits = int(str(error.value).split("at most ")[1].split(" ")[0])
    jax.eval_shape(asked, like, jax.ShapeDtypeStruct((fits, 15), jnp.int32))
    with pytest.raises(taps.TapError):
        jax.eval_shape(asked, like, jax.ShapeDtypeStruct((fits + 2, 15), jnp.int32))


@pytest.mark.parametrize("grouped", [False, True])
def test_the_estimate_is_what_the_compiler_sets_aside(grouped, optimised):
    cfg = ModelConfig(layers=2, heads=2)
    like = jax.eval_shape(lambda: model.init(jax.random.key(0), cfg, 108))
    tokens = jax.ShapeDtypeStruct((256, 15), jnp.int32)
    call = jax.jit(lambda p, t: model.forward(p, t, cfg, grouped=grouped).logits_BTV)
    sizes = call.lower(like, tokens).compile().memory_analysis()
    found = sizes.temp_size_in_bytes + sizes.output_size_in_bytes
    assert 0.5 < checks.forward_bytes(cfg, 108, tokens.shape, grouped) / found < 2


def test_a_model_that_this_machine_cannot_train_is_refused_beforehand(monkeypatch):
    # 2·108·64 + 64 + 3·(4·64 + 4·64² + 64·18 + 18·3·64·30) parameters, four times, 4 bytes each.
    count, needed = 378_304, 378_304 * 16
    monkeypatch.setattr(start, "memory", lambda: needed)
    model.check_size(ModelConfig(), 108)
    monkeypatch.setattr(start, "memory", lambda: needed - 1)
    with pytest.raises(ConfigError, match=f"{count:,} parameters takes 0.0 GiB to train"):
        model.check_size(ModelConfig(), 108)
    monkeypatch.setattr(start, "memory", lambda: None)
    model.check_size(ModelConfig(layers=16, width=1024, experts=256, expert_width=4096), 108)
