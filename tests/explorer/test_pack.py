"""Weights as text and back, against bytes taken apart by hand; and what half precision changes."""

import base64
import gzip
import struct

import jax
import numpy as np
import pytest

from toymoe import checkpoint, model, world
from toymoe.config import ConfigError
from toymoe.explorer import pack

SHAPES = [(3,), (2, 5), (1, 2, 3)]


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def by_hand(text, letter, size):
    """The numbers of a blob: byte i of number n stands at i * N + n."""
    planes = gzip.decompress(base64.b64decode(text))
    N = len(planes) // size
    return [
        struct.unpack(f"<{letter}", bytes(planes[i * N + n] for i in range(size)))[0]
        for n in range(N)
    ]


def test_float32_is_exact_and_byte_planes_are_as_said(arrays):
    text = pack.pack(arrays, "float32")
    flat = np.concatenate([x.ravel() for x in arrays])
    assert by_hand(text, "f", 4) == flat.tolist()
    for kept, array in zip(pack.unpack(text, SHAPES, "float32"), arrays, strict=True):
        assert kept.dtype == np.float32 and np.array_equal(kept, array)


def test_float16_is_the_nearest_half(arrays):
    text = pack.pack(arrays, "float16")
    halves = [struct.unpack("<e", struct.pack("<e", x))[0] for a in arrays for x in a.ravel()]
    assert by_hand(text, "e", 2) == halves
    kept = np.concatenate([x.ravel() for x in pack.unpack(text, SHAPES, "float16")])
    assert kept.tolist() == halves
    assert (kept != np.concatenate([x.ravel() for x in arrays])).mean() > 0.9  # they were rounded


def test_the_same_weights_are_the_same_text(arrays):
    assert pack.pack(arrays, "float16") == pack.pack([x.copy() for x in arrays], "float16")


def test_what_has_no_half_is_refused_and_float32_takes_it():
    large = [np.array([1.0, -70_000.0], np.float32)]
    with pytest.raises(ConfigError, match="too large for float16: take weights float32"):
        pack.pack(large, "float16")
    assert pack.unpack(pack.pack(large, "float32"), [(2,)], "float32")[0][1] == -70_000
    with pytest.raises(ConfigError, match="weights = 'int8'"):
        pack.pack(large, "int8")


def test_a_model_comes_back_by_its_names(taught):
    listed = pack.parameters(taught.aligned)
    flat = checkpoint.flatten(taught.aligned)
    assert [x["name"] for x in listed] == sorted(flat)
    back = pack.unpack_params(pack.pack_params(taught.aligned, "float32"), listed, "float32")
    assert jax.tree.all(jax.tree.map(np.array_equal, back, taught.aligned))


def test_what_half_precision_changes_is_counted_prompt_by_prompt(taught):
    cfg = taught.cfg
    prompts = world.sample(jax.random.key(3), taught.tables, cfg.world, 40)
    text = pack.pack_params(taught.aligned, "float16")
    kept = pack.unpack_params(text, pack.parameters(taught.aligned), "float16")
    coarse = jax.tree.map(lambda x: x.astype(np.float16).astype(np.float32), taught.aligned)
    assert jax.tree.all(jax.tree.map(np.array_equal, kept, coarse))
    rough = jax.tree.map(lambda x: (np.round(x * 8) / 8).astype(np.float32), taught.aligned)
    for other, differs in ((taught.aligned, False), (rough, True)):
        answers, selections, largest = 0, 0, 0.0
        for tokens_T in np.asarray(prompts.tokens_BP):
            one, two = (
                model.forward(x, tokens_T[None], cfg.model) for x in (taught.aligned, other)
            )
            logits = [np.asarray(x.logits_BTV[0, -1]) for x in (one, two)]
            answers += logits[0].argmax() != logits[1].argmax()
            largest = max(largest, np.abs(logits[0] - logits[1]).max())
            experts = [np.asarray(x.routes.experts_LBTA)[:, 0] for x in (one, two)]
            for place in np.ndindex(experts[0].shape[:2]):
                selections += {*experts[0][place].tolist()} != {*experts[1][place].tolist()}
        found = pack.changed(taught.aligned, other, cfg, prompts.tokens_BP)
        assert found["of"] == 40 * cfg.model.layers * prompts.tokens_BP.shape[1]
        assert (found["answers"], found["selections"]) == (answers, selections)
        assert found["logit"] == pytest.approx(largest, abs=1e-4)
        assert bool(selections and answers) is differs
