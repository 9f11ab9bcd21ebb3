"""What is stored comes back bit for bit, and what is damaged or from elsewhere is one sentence."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from oracle import random_params

from toymoe import checkpoint, world
from toymoe.config import ConfigError
from toymoe.errors import ToymoeError
from toymoe.organism import Organism, stored
from toymoe.zoo import folder, parts
from toymoe.zoo.specimen import Key, Specimen

pytestmark = pytest.mark.core

KEYS = {
    ("one_expert", "hazards"): Key(("expert 1.2",), "expert", "one"),
    ("one_expert", "entities"): Key(("expert 0.1",), "expert", "one"),
    ("head_and_expert", "hazards"): Key(("head 0.1", "expert 1.3"), "head", "all"),
    ("embeddings", "hazards"): Key(("embeddings",), "component", "one"),
    ("routed_expert", "hazards"): Key(("expert 1.0", "router 1.0"), "expert", "all"),
}


def specimens(cfg, tables, before, drifted, seed):
    """Organisms whose parts hold numbers of a third model."""
    other = random_params(cfg.model, len(world.vocabulary(cfg.world)), 7 + seed)
    for (mechanism, lesson), key in KEYS.items():
        made = parts.exchanged(drifted, other, parts.mask(key.parts, drifted, cfg.model))
        checks = {"whole": 0.9, "reach": 12, "each_set_back": [0.1, 0.2][: len(key.parts) - 1]}
        yield Specimen(
            cfg.seed,
            f"{mechanism}-{lesson}-full",
            mechanism,
            lesson,
            "full",
            Organism(cfg, tables, before, made),
            key,
            {"refused": 0.75, "right": 1.0},
            checks,
            lesson == "hazards",
        )


@pytest.fixture(scope="module")
def kept(fresh, tmp_path_factory):
    """A zoo of two seeds, written: its folder, and its organisms by seed and name."""
    out, made = tmp_path_factory.mktemp("zoo"), {}
    checkpoint.write_json(out / "zoo.json", {"key": 0})
    for seed in (0, 1):
        cfg, run = dataclasses.replace(fresh.cfg, seed=seed), out / f"seed-{seed}"
        run.mkdir()
        stored.write_config(run, cfg)
        checkpoint.save(run / "tables.npz", fresh.tables._asdict(), {"config": stored.to_dict(cfg)})
        stored.write_params(run, cfg, "pretrain", fresh.before)
        drifted = jax.tree.map(lambda leaf, by=seed: leaf + np.float32(by), fresh.base)
        folder.write_drifted(run, cfg, drifted)
        for one in specimens(cfg, fresh.tables, fresh.before, drifted, seed):
            folder.write(run, one)
            made[seed, one.name] = one
    return SimpleNamespace(out=out, made=made)


@pytest.fixture
def zoo(kept, tmp_path):
    """A copy of it, to damage."""
    folder._seed.cache_clear()
    yield shutil.copytree(kept.out, tmp_path / "zoo")
    folder._seed.cache_clear()


def test_every_organism_comes_back_bit_for_bit(kept):
    assert folder.names(kept.out) == sorted(kept.made)
    for (seed, name), one in kept.made.items():
        found = folder.load(kept.out, seed, name)
        assert found._replace(organism=None) == one._replace(organism=None)
        assert found.organism.cfg == one.organism.cfg
        for tree in ("tables", "pretrained", "aligned"):
            left, right = (jax.tree.leaves(getattr(o.organism, tree)) for o in (found, one))
            for x, y in zip(left, right, strict=True):
                assert np.asarray(x).dtype == np.asarray(y).dtype
                np.testing.assert_array_equal(x, y)
        assert folder.at(kept.out / f"seed-{seed}" / "zoo" / name).key == one.key
        assert found.answer == (one.key.parts if one.lesson == "hazards" else ())


def test_only_what_was_written_is_stored(kept, fresh):
    D, F = fresh.cfg.model.width, fresh.cfg.model.expert_width
    written, _ = checkpoint.load(kept.out / "seed-0/zoo/one_expert-hazards-full/written.npz")
    sizes = {path: x.size for path, x in checkpoint.flatten(written).items()}
    assert sizes == {"layers/experts/gate_up": 2 * D * F, "layers/experts/down": D * F}


def test_loading_one_organism_leaves_the_next_alone(kept):
    first = folder.load(kept.out, 0, "one_expert-hazards-full")
    for leaf in jax.tree.leaves(first.organism.aligned):
        if leaf.flags.writeable and not any(
            leaf is other for other in jax.tree.leaves(folder._seed(kept.out / "seed-0")[3])
        ):
            leaf += 1
    again = folder.load(kept.out, 0, "one_expert-hazards-full")
    jax.tree.map(
        np.testing.assert_array_equal,
        again.organism.aligned,
        kept.made[0, "one_expert-hazards-full"].organism.aligned,
    )


def test_a_row_says_what_specimen_json_does(kept):
    row = folder.row(kept.out / "seed-1/zoo/head_and_expert-hazards-full")
    assert row == {
        "seed": 1,
        "name": "head_and_expert-hazards-full",
        "mechanism": "head_and_expert",
        "lesson": "hazards",
        "update": "full",
        "parts": "head 0.1 expert 1.3",
        "grain": "head",
        "needs": "all",
        "refused": 0.75,
        "right": 1.0,
        "whole": 0.9,
        "reach": 12,
        "each_set_back": "0.1",
        "holds": True,
    }


def test_what_is_cut_off_before_its_numbers_is_not_there(zoo):
    (zoo / "seed-0/zoo/one_expert-hazards-full/specimen.json").unlink()
    assert (0, "one_expert-hazards-full") not in folder.names(zoo)
    assert "no specimen.json" in refused(zoo)


# --- damage ---------------------------------------------------------------------------------------

ONE = "one_expert-hazards-full"


def refused(zoo, seed=0, name=ONE):
    """The one sentence about an organism."""
    with pytest.raises(ToymoeError) as error:
        folder.load(zoo, seed, name)
    said = str(error.value)
    assert "\n" not in said and said.endswith(".") and str(zoo) in said
    return said


FILES = {
    f"zoo/{ONE}/specimen.json": "damaged",
    f"zoo/{ONE}/written.npz": "written.npz",
    "drifted.npz": "drifted.npz",
    "pretrained.npz": "pretrained.npz",
    "tables.npz": "tables.npz",
    "config.json": "config.json",
}


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "other"])
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_one_sentence(zoo, file, how):
    path = zoo / "seed-0" / file
    data = path.read_bytes()
    middle = len(data) // 2
    some = bytes(byte ^ 1 for byte in data[middle : middle + 200])  # more than a date in a header
    flipped = data[:middle] + some + data[middle + 200 :]
    other = b"hello" if path.suffix == ".npz" else b"[1, 2]"
    path.write_bytes({"cut": data[:middle], "flipped": flipped, "empty": b"", "other": other}[how])
    assert path.name in refused(zoo)
    assert folder.load(zoo, 1, ONE)  # the other seed is as well as it was


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_not_there_is_one_sentence(zoo, file):
    (zoo / "seed-0" / file).unlink()
    assert file.split("/")[-1] in refused(zoo)


@pytest.mark.parametrize("change", [{"toymoe": "0.0.1"}, {"holds": None}])
def test_numbers_of_another_version_are_one_sentence(zoo, change):
    path = zoo / "seed-0/zoo" / ONE / "specimen.json"
    said = checkpoint.read_json(path) | change
    checkpoint.write_json(path, {name: x for name, x in said.items() if x is not None})
    assert "of another version" in refused(zoo)
    with pytest.raises(ConfigError, match="of another version"):
        folder.row(path.parent)


def test_numbers_that_were_altered_are_not_believed(zoo):
    path = zoo / "seed-0/zoo" / ONE / "specimen.json"
    said = json.loads(path.read_bytes())
    assert not said["checks"]["each_set_back"] and said["holds"]
    path.write_text(json.dumps(said | {"holds": False}))
    assert "wrong hash" in refused(zoo)


def test_an_organism_of_another_seed_is_refused(zoo):
    shutil.rmtree(zoo / "seed-0/zoo" / ONE)
    shutil.copytree(zoo / "seed-1/zoo" / ONE, zoo / "seed-0/zoo" / ONE)
    assert "does not belong" in refused(zoo) or "belongs here (config.seed" in refused(zoo)


def test_an_organism_of_another_name_is_refused(zoo):
    shutil.copytree(zoo / "seed-0/zoo" / ONE, zoo / "seed-0/zoo/one_expert-hazards-low_rank")
    assert "another organism" in refused(zoo, name="one_expert-hazards-low_rank")


@pytest.mark.parametrize("file", ["written.npz", "specimen.json"])
def test_files_of_two_organisms_are_refused(zoo, file):
    mine, theirs = (zoo / "seed-0/zoo" / name for name in (ONE, "one_expert-entities-full"))
    shutil.copy(theirs / file, mine / file)
    refused(zoo)


def test_files_of_another_zoo_are_refused(zoo, fresh):
    cfg = dataclasses.replace(
        fresh.cfg, world=dataclasses.replace(fresh.cfg.world, hazard_share=0.25)
    )
    given = cfg, fresh.tables, fresh.before, fresh.base, 0
    one = next(specimens(*given))
    folder.write(zoo / "seed-0", one)
    assert "config.world.hazard_share" in refused(zoo)
    folder._seed.cache_clear()
    folder.write_drifted(zoo / "seed-0", cfg, fresh.base)
    assert "drifted.npz is not the file that belongs here" in refused(zoo)


def test_a_folder_that_is_no_zoo_is_one_sentence(tmp_path):
    for out in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match=r"holds no zoo .*`toymoe zoo --out .*` makes one"):
            folder.names(out)
    with pytest.raises(ConfigError, match="holds no organism of a zoo"):
        folder.at(tmp_path / "seed-0/zoo/x")
