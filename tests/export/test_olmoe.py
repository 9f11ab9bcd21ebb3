"""The tensors of an export are those of the tables of docs/parameters.md, read without torch."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from oracle import random_params

from toymoe import checkpoint, world
from toymoe.config import Config, ModelConfig, WorldConfig, build
from toymoe.export import olmoe

PAGE = (Path(__file__).parents[2] / "docs" / "parameters.md").read_text("utf-8")
CFG = build("smoke", 0, {"model.experts": 5, "model.expert_width": 30})


@pytest.fixture(scope="module")
def params():
    return random_params(CFG.model, len(world.vocabulary(CFG.world)))


def test_the_tensors_are_those_of_the_tables(params, as_the_page_says):
    made, told = olmoe.tensors(params), as_the_page_says(params, CFG.model, fused=False)
    assert made.keys() == told.keys() and len(made) == 3 + 2 * (9 + 5 * 3)
    for name, array in told.items():
        np.testing.assert_array_equal(made[name], array, err_msg=name)


def test_every_number_of_the_model_is_in_one_tensor(params):
    made = np.concatenate([x.ravel() for x in olmoe.tensors(params).values()])
    there = np.concatenate([x.ravel() for x in checkpoint.flatten(params).values()])
    np.testing.assert_array_equal(np.sort(made), np.sort(there))


def test_the_configuration_has_every_row_of_the_page():
    section = PAGE[PAGE.index("| `OlmoeConfig`") : PAGE.index("## The names")]
    told = {n for row in re.findall(r"^\| (`.*?`) \|", section, re.M) for n in row.split("`")[1::2]}
    made = olmoe.config(CFG)
    assert made.keys() - {"model_type", "architectures", "dtype"} == told - {"OlmoeConfig"}
    assert json.loads(json.dumps(made)) == made
    assert (made["vocab_size"], made["intermediate_size"]) == (len(world.vocabulary(CFG.world)), 30)
    normalised = Config(WorldConfig(), ModelConfig(norm_topk_prob=True))
    assert olmoe.config(normalised)["norm_topk_prob"] is True and not made["norm_topk_prob"]


def test_every_entry_of_a_checkpoint_is_on_the_page():
    vocabulary = len(world.vocabulary(WorldConfig()))
    arrays = checkpoint.flatten(random_params(ModelConfig(), vocabulary))
    said = dict(re.findall(r"^\| `([\w/]+)` \| \[[\w, ]+\] \| ([\d, ]+) \|", PAGE, re.M))
    assert said.keys() == arrays.keys()
    for name, shape in said.items():
        assert list(map(int, shape.split(", "))) == list(arrays[name].shape), name
