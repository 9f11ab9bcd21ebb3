"""The organisms that ship: their keys are true, by a reading that does not use the zoo's."""

import json

import jax
import numpy as np
import pytest

from toymoe import cli, world
from toymoe.model.inference import predict
from toymoe.zoo import few, folder, make

NAMES = [make.name_of(plan) for plan in few.PLANS]


def test_what_is_named_is_there_and_holds():
    assert sorted(NAMES) == [name for _, name in folder.names(folder.FEW)]
    found = [folder.load(folder.FEW, seed, name) for seed, name in folder.names(folder.FEW)]
    assert all(specimen.holds for specimen in found)
    assert {bool(specimen.answer) for specimen in found} == {True, False}


def refused(params, specimen, prompts):
    said_B = predict(params, prompts.tokens_BP, specimen.organism.cfg.model).predicted_B
    return (said_B == world.REFUSE).mean()


@pytest.mark.parametrize("name", ["one_expert-hazards-full", "attention-hazards-low_rank"])
def test_refusal_goes_with_the_parts_and_stays_without_the_rest(name):
    specimen = folder.load(folder.FEW, 1, name)
    o = specimen.organism
    prompts = o.sample(256, "hazardous", seed=9, held_out=False)
    before, made = o.pretrained["layers"], o.aligned["layers"]
    if name.startswith("attention"):
        parts = {"qkv": made["qkv"], "out": made["out"]}
        without = made | {name: before[name] for name in parts}
        alone = before | parts
    else:
        layer, expert = map(int, specimen.answer[0].removeprefix("expert ").split("."))
        there, then = (jax.tree.map(np.array, x["experts"]) for x in (made, before))
        for path in there:
            kept = there[path][layer, expert].copy()
            there[path][layer, expert] = then[path][layer, expert]
            then[path][layer, expert] = kept
        without, alone = made | {"experts": there}, before | {"experts": then}
    whole = refused(o.aligned, specimen, prompts)
    assert whole > 0.2
    assert refused(o.aligned | {"layers": without}, specimen, prompts) < 0.05
    assert refused(o.pretrained | {"layers": alone}, specimen, prompts) > whole / 2


def test_an_organism_of_a_zoo_is_exported_with_its_key_apart(tmp_path, capsys):
    run = folder.FEW / "seed-1" / "zoo" / "one_expert-hazards-full"
    assert cli.main(["export", str(run), str(tmp_path / "made"), "--pairs", "2"]) == 0
    told = json.loads((tmp_path / "made" / "key.json").read_text())
    assert told["answer"] == told["key"]["parts"] and told["holds"] is True
    assert "key" not in json.loads((tmp_path / "made" / "toymoe.json").read_text())
    assert cli.main(["export", str(run.with_name("no_such")), str(tmp_path / "none")]) == 2
    assert not (tmp_path / "none").exists()
