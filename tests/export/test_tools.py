"""The cells of docs/tools.md, run as a reader would; what they compute, toymoe computes as well.

Needs torch, transformers and the tools, the dependency group ``oracle``; see test_transformers.
"""

import os
import re
import runpy
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from toymoe import cli, model, organism, world
from toymoe.model import taps

TOOLS = ("torch", "transformers", "transformer_lens", "nnsight", "captum", "bertviz")
if not os.environ.get("TOYMOE_ORACLE"):
    for _name in TOOLS:
        pytest.importorskip(_name)

PAGE = Path(__file__).parents[2] / "docs" / "tools.md"
ROUNDING = 1e-4  # of logits of standard deviation 3


def cells(section):
    """The code of a section, after that of the first one."""
    of = {part.split("\n", 1)[0]: part for part in PAGE.read_text("utf-8").split("\n## ")[1:]}
    first = next(iter(of))
    wanted = [first] if section == first else [first, section]
    return "\n".join(
        cell for x in wanted for cell in re.findall(r"^```python\n(.*?)^```$", of[x], re.M | re.S)
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a section where the export of the page is: its variables. From a file, since nnsight
    reads the source."""
    folder = tmp_path_factory.mktemp("tools")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_HUB_OFFLINE", "1")
        assert cli.main(["export", "conjunction", "export"]) == 0

        def of(section):
            script = folder / f"{section}.py"
            script.write_text(cells(section), "utf-8")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # theirs
                return SimpleNamespace(**runpy.run_path(str(script)))

        yield of


@pytest.fixture(scope="module")
def ours():
    """The shipped organism, and logits of it under edits, of any tokens."""
    made = organism.load("conjunction")

    def logits(tokens_BP, **edits):
        tokens_BP = np.asarray(tokens_BP, np.int32)
        made_edits = taps.edits(made.cfg.model, tokens_BP, **edits) if edits else None
        return model.forward(made.aligned, tokens_BP, made.cfg.model, edits=made_edits).logits_BTV

    return made, logits


def close(theirs, expected):
    np.testing.assert_allclose(np.asarray(theirs), expected, rtol=0, atol=ROUNDING)


def without_expert_5(made, tokens_BP):
    where = taps.places("expert_out", made.cfg.model, tokens_BP, layer=1, expert=5)
    return taps.zero(where)


def route_of(made, tokens_BP):
    routes = model.forward(made.aligned, np.asarray(tokens_BP, np.int32), made.cfg.model).routes
    return taps.freeze(routes)


def test_transformers(run, ours):
    found, (_, logits) = run("transformers"), ours
    close(found.before_BPV, logits(found.hazards_BP))
    assert found.refused(found.before_BPV) == 1
    end = " ".join(found.tokenizer.decode(found.said[0]).split()[-4:])
    assert end == "ANS REFUSE SORRY END"


def test_transformer_lens(run, ours):
    found, (made, logits) = run("TransformerLens"), ours
    tokens_BP = np.asarray(found.hazards_BP, np.int32)
    assert (found.words == found.hazards_BP).all()
    before_BPV = logits(tokens_BP)
    close(found.bridge_BPV, before_BPV)
    without_BPV = logits(tokens_BP, expert_out=without_expert_5(made, tokens_BP))
    assert np.abs(without_BPV - before_BPV).max() > 1
    close(found.without_BPV, without_BPV)
    route_BPV = logits(tokens_BP, route=route_of(made, found.twins_BP))
    assert np.abs(route_BPV - before_BPV).max() > 1
    close(found.on_twins_route_BPV, route_BPV)
    assert found.refused(found.on_twins_route_BPV) == 0.828125
    out = model.forward(made.aligned, tokens_BP, made.cfg.model, record=("contribution",))
    close(found.added_BPD, out.record["contribution"][1, :, :, 5])
    # The traps.
    assert (found.unchanged_BPV == found.bridge_BPV).all()
    boost, in_place = (
        (x - found.bridge_BPV).abs().max() for x in (found.boosted_BPV, found.in_place_BPV)
    )
    assert boost > 14 > 3 > in_place
    assert (found.indices_only_BPV - found.on_twins_route_BPV).abs().max() > 1
    assert found.doubled[0].tolist()[1:] == found.hazards[0]["tokens"]
    assert found.doubled[0, :2].tolist() == [world.BOS] * 2
    assert (found.centred_BPV - found.bridge_BPV).abs().max() > 1
    close(found.centred_BPV.log_softmax(-1), found.bridge_BPV.log_softmax(-1))


def test_nnsight(run, ours):
    found, (made, logits) = run("nnsight"), ours
    tokens_BP = np.asarray(found.hazards_BP, np.int32)
    close(
        found.nnsight_without_BPV, logits(tokens_BP, expert_out=without_expert_5(made, tokens_BP))
    )
    close(found.nnsight_route_BPV, logits(tokens_BP, route=route_of(made, found.twins_BP)))
    close(found.nnsight_unchanged_BPV, logits(tokens_BP))


def test_captum(run, ours):
    found, (_, logits) = run("captum"), ours
    answers_B, some = np.asarray(found.answers_B), np.arange(8)

    def margin(tokens_BP):
        last_BV = np.asarray(logits(tokens_BP[:8]))[:, -1]
        return last_BV[:, world.REFUSE] - last_BV[some, answers_B[:8]]

    whole_B = margin(found.hazards_BP) - margin(found.twins_BP)
    close(found.whole_B, whole_B)
    seen_B = np.asarray(found.seen_BPD.detach()).sum((1, 2))
    np.testing.assert_allclose(seen_B - whole_B, np.asarray(found.missed_B), atol=1e-3)
    assert 5 < np.abs(whole_B).mean() < 7
    assert 2 < np.abs(seen_B - whole_B).mean() < 3 and np.abs(seen_B - whole_B).max() > 10


def test_bertviz(run, ours):
    found, (made, _) = run("bertviz"), ours
    tokens_BP = np.asarray(found.hazards_BP[:1], np.int32)
    out = model.forward(made.aligned, tokens_BP, made.cfg.model, record=("pattern",))
    close([x.numpy() for x in found.seen.attentions], out.record["pattern"])
    assert found.hazards[0]["topic"] in found.page and "<script" in found.page


def test_the_page_names_the_versions_that_ci_installs():
    from importlib.metadata import version

    text = " ".join(PAGE.read_text("utf-8").split())
    names = dict(zip(TOOLS, ("torch", "transformers", "TransformerLens", *TOOLS[3:]), strict=True))
    ci = (PAGE.parents[1] / ".ci" / "run").read_text("utf-8")
    for package, name in names.items():
        number = version(package).partition("+")[0]
        assert f"{name} {number}" in text
        assert f"{package.replace('_', '-')}=={number}" in ci
