"""Weight patching between the two checkpoints, by component."""

import dataclasses

import numpy as np
import pytest
from surgery import said

from toymoe import checkpoint, world
from toymoe.attribution import weight_patching


def test_components_are_all_parameters_once(trained):
    paths = [path for paths in weight_patching.COMPONENTS.values() for path in paths]
    flat = checkpoint.flatten(trained.params)
    assert sorted(paths) == sorted(flat)
    for name, own in weight_patching.COMPONENTS.items():
        swapped = checkpoint.flatten(
            weight_patching.patch(trained.params, trained.pretrained, [name])
        )
        before = checkpoint.flatten(trained.pretrained)
        for path, leaf in swapped.items():
            assert leaf is (before if path in own else flat)[path]


def test_swaps_go_from_one_checkpoint_to_the_other(trained):
    found = weight_patching.by_component(trained)
    assert list(found) == ["nothing", *weight_patching.COMPONENTS, "everything"]
    assert found["nothing"].removed == found["everything"].alone
    assert found["nothing"].alone == found["everything"].removed
    assert found["nothing"].removed.refusal > 0.7 and found["nothing"].alone.refusal < 0.1
    margin, says = said(trained.params, trained.cfg, trained.hazards)
    assert found["nothing"].removed.margin == pytest.approx(margin.mean(), abs=1e-4)
    assert found["nothing"].removed.refusal == (says == world.REFUSE).mean()
    answered = (says == np.asarray(trained.hazards.answer_B)).mean()
    assert found["nothing"].removed.hazard_answered == answered
    nothing = weight_patching.by_component(dataclasses.replace(trained, pretrained=trained.params))
    assert len({swap for swap in nothing.values()}) == 1
