"""Folders of finished runs, without the training; and what docs/parameters.md says of tensors."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from oracle import random_params

from toymoe import checkpoint, world
from toymoe.config import build, to_dict
from toymoe.organism import stored

PAGE = Path(__file__).parents[2] / "docs" / "parameters.md"


@pytest.fixture(scope="session")
def folder_of_run():
    """Makes the files of a finished run, whose weights are random ones that show everything."""

    def make(out, settings):
        cfg = build("smoke", 0, settings)
        checkpoint.make_folder(out)
        stored.write_config(out, cfg)
        stored.first_tables(out, cfg)
        for seed, phase in enumerate(("align", "pretrain")):
            params = random_params(cfg.model, len(world.vocabulary(cfg.world)), seed)
            stored.write_params(out, cfg, phase, params)
        whose = {"config": to_dict(cfg)}
        checkpoint.save(out / "history.npz", {"step": np.arange(1)}, whose)
        checkpoint.write_json(out / "metrics.json", whose)
        return out

    return make


@pytest.fixture(scope="session")
def as_the_page_says():
    """Makes every tensor of a model, by the expressions in the page's tables."""
    return _as_the_page_says


def _rows(fused):
    """Of the page's tables, name -> (shape, where from); experts one by one, or fused."""
    found = re.findall(
        r"^\| `((?:model|lm_head)\.[^`]+)` \| \[([^]]+)\] \| (.*) \|$",
        PAGE.read_text("utf-8"),
        re.M,
    )
    one_by_one = re.compile(r"experts\.\{e\}")
    left_out = one_by_one if fused else re.compile(r"experts\.(gate_up|down)_proj$")
    return {name: (shape, text) for name, shape, text in found if not left_out.search(name)}


def _as_the_page_says(params, cfg, fused):
    flat, made = checkpoint.flatten(params), {}
    L, D, E, F = cfg.layers, cfg.width, cfg.experts, cfg.expert_width
    sizes = {"L": L, "D": D, "E": E, "F": F, "2F": 2 * F, "V": len(flat["embed"])}
    for name, (shape, text) in _rows(fused).items():
        code = re.sub(r"`([\w/]+)`", r'flat["\1"]', text).replace("2D", "2 * D")
        transposed, code = code.endswith(".T"), code.removesuffix(".T")
        for l, e in product(range(L), range(E)):  # noqa: E741
            array = eval(code, {"flat": flat, "l": l, "e": e, "D": D, "F": F})
            array = np.swapaxes(array, -1, -2) if transposed else array
            assert list(array.shape) == [sizes[letter] for letter in shape.split(", ")], name
            made[name.format(l=l, e=e)] = array
    return made
