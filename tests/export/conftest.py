"""Folders of finished runs, without the training."""

import pytest
from oracle import random_params

from toymoe import checkpoint, world
from toymoe.config import build, to_dict
from toymoe.organism import stored


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
        checkpoint.save(out / "history.npz", {"step": [0]}, whose)
        checkpoint.write_json(out / "metrics.json", whose)
        return out

    return make
