"""Where training stands: what is gone on with, and all that is not."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from toymoe import checkpoint
from toymoe.checkpoint import CheckpointError
from toymoe.measures import history
from toymoe.organism import stored
from toymoe.runs import runner, state
from toymoe.training import phases

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def blank(small, small_run):
    tables = stored.tables(small_run.out, small)
    return history.empty(small, history.probes(phases.keys(0).measure, tables, small))


def damaged(data):
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damaged, "damaged|altered"),
        (lambda data: data[: len(data) // 3], "cut short or damaged"),
        (lambda data: b"", "not an .npz|cut short"),
        (lambda data: b"hello", "not an .npz"),
    ],
    ids=["one bit", "truncated", "empty", "text"],
)
def test_a_damaged_state_is_refused(small, begun, tmp_path, harm, words):
    shutil.copytree(begun["pretrain"], tmp_path, dirs_exist_ok=True)
    state = tmp_path / "state.npz"
    state.write_bytes(harm(state.read_bytes()))
    kept = state.read_bytes()
    with pytest.raises(CheckpointError, match=words) as caught:
        runner.run(small, tmp_path)
    assert "\n" not in str(caught.value) and "state.npz" in str(caught.value)
    assert state.read_bytes() == kept and {p.name for p in tmp_path.iterdir()} == {
        "config.json",
        "tables.npz",
        "state.npz",
        "snapshots",
    }


def test_a_checkpoint_is_no_state(small, small_run, tmp_path):
    shutil.copy(small_run.out / "pretrained.npz", tmp_path / "state.npz")
    with pytest.raises(CheckpointError, match="not the state of a run"):
        runner.run(small, tmp_path)


def test_a_state_of_another_version_is_refused(small, begun, tmp_path):
    tree, meta = checkpoint.load(begun["pretrain"] / "state.npz")
    tree["state"].popitem()
    checkpoint.save(tmp_path / "state.npz", tree, meta)
    with pytest.raises(CheckpointError, match="another version"):
        runner.run(small, tmp_path)


def test_a_state_of_other_settings_is_refused(small, begun, tmp_path):
    shutil.copytree(begun["pretrain"], tmp_path, dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match="other settings"):
        runner.run(dataclasses.replace(small, seed=9), tmp_path)


def test_an_archive_of_numpy_is_refused(small, tmp_path):
    np.savez(tmp_path / "state.npz", np.zeros(3))
    with pytest.raises(CheckpointError, match="not written by toymoe"):
        runner.run(small, tmp_path)


# --- nonsense with a right hash -----------------------------------------------------------------


def meta_with(**said):
    return lambda tree, meta: meta.update(said)


def leaf_with(kind, value, name=""):
    """The first array of that kind in the optimiser's state, filled with a value."""

    def change(tree, meta):
        at = next(k for k, x in sorted(tree["state"].items()) if x.dtype.kind == kind and k >= name)
        tree["state"][at] = np.full_like(tree["state"][at], value)

    return change


def all_with(value):
    def change(tree, meta):
        for at, leaf in tree["state"].items():
            if leaf.dtype.kind == "f":
                tree["state"][at] = np.full_like(leaf, value)

    return change


def history_with(name, change):
    return lambda tree, meta: tree["history"].update({name: change(tree["history"][name])})


NONSENSE = {
    "no phase": lambda tree, meta: meta.pop("phase"),
    "unknown phase": meta_with(phase="sleep"),
    "phase of another type": meta_with(phase=["align"]),
    "no step": lambda tree, meta: meta.pop("step"),
    "negative step": meta_with(step=-3),
    "step beyond the end": meta_with(step=9),
    "step between two chunks": meta_with(step=2),
    "step further on": meta_with(step=6),
    "step back": meta_with(step=0),
    "step that is true": meta_with(step=True),
    "step as text": meta_with(step="3"),
    "step as a fraction": meta_with(step=3.0),
    "no seconds": lambda tree, meta: meta.pop("seconds"),
    "seconds of other stages": meta_with(seconds={"sleep_s": 1.0}),
    "seconds as text": lambda tree, meta: meta["seconds"].update(align_s="long"),
    "negative seconds": lambda tree, meta: meta["seconds"].update(align_s=-1.0),
    "no settings": lambda tree, meta: meta.pop("config"),
    "another seed": lambda tree, meta: meta["config"].update(seed=5),
    "no state": lambda tree, meta: tree.pop("state"),
    "state that is one array": lambda tree, meta: tree.update(state=np.ones(3)),
    "an array too few": lambda tree, meta: tree["state"].popitem(),
    "an array too many": lambda tree, meta: tree["state"].update(z=np.ones(3, np.float32)),
    "arrays below an array": lambda tree, meta: tree["state"].update({"000": {"a": np.ones(3)}}),
    "arrays of another shape": lambda tree, meta: tree["state"].update(
        {k: x.T for k, x in tree["state"].items()}
    ),
    "arrays of another dtype": lambda tree, meta: tree["state"].update(
        {k: x.astype(np.float64) for k, x in tree["state"].items()}
    ),
    "arrays in another order": lambda tree, meta: tree.update(
        state=dict(zip(sorted(tree["state"]), list(tree["state"].values())[::-1], strict=True))
    ),
    "parameters that are NaN": leaf_with("f", np.nan),
    "optimiser that is infinite": leaf_with("f", np.inf, "005"),
    "negative mean squares": all_with(-1),
    "optimiser at another step": leaf_with("i", 7),
    "no history": lambda tree, meta: tree.pop("history"),
    "history without losses": lambda tree, meta: tree["history"].pop("loss_align"),
    "history with more": lambda tree, meta: tree["history"].update(more=np.ones(3)),
    "history that is one array": lambda tree, meta: tree.update(history=np.ones(3)),
    "a loss too few": history_with("loss_pretrain", lambda x: x[1:]),
    "a loss too many": history_with("loss_align", lambda x: np.append(x, np.float32(1))),
    "losses that are NaN": history_with("loss_pretrain", lambda x: x * np.float32(np.nan)),
    "losses of another dtype": history_with("loss_pretrain", np.float64),
    "a snapshot too few": history_with("experts_SLBPA", lambda x: x[1:]),
    "snapshots of other prompts": history_with("predicted_SB", lambda x: x[:, 1:]),
    "snapshots of other steps": history_with("step_S", lambda x: x[::-1]),
    "snapshots of another phase": history_with("phase_S", lambda x: 1 - x),
    "experts there are not": history_with("experts_SLBPA", lambda x: x + np.uint8(4)),
    "tokens there are not": history_with("predicted_SB", lambda x: x + np.int32(1000)),
    "negative tokens": history_with("predicted_SB", lambda x: -1 - x),
}


@pytest.mark.parametrize("phase", phases.PHASES)
@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_with_a_right_hash_is_refused(small, begun, blank, tmp_path, name, phase):
    tree, meta = checkpoint.load(begun[phase] / "state.npz")
    NONSENSE[name](tree, meta)
    checkpoint.save(tmp_path / "state.npz", tree, meta)
    with pytest.raises(
        CheckpointError, match=r"state\.npz (is not the state|belongs to)"
    ) as caught:
        state.read(tmp_path, small, blank)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(tmp_path)) * 2


@pytest.mark.parametrize("phase", phases.PHASES)
def test_what_was_written_is_read(small, begun, blank, phase):
    now = state.read(begun[phase], small, blank)
    assert (now.phase, now.step) == (phase, 3)
    assert jax.tree.structure(now.state) == jax.tree.structure(state._like(small, phase))
    assert len(now.raw.loss_pretrain) == {"pretrain": 3, "align": 6}[phase]


def test_alignment_does_not_go_on_without_the_pretrained_model_of_this_run(small, begun, tmp_path):
    shutil.copytree(begun["align"], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "pretrained.npz"
    tree, meta = checkpoint.load(path)
    told = []
    for change in ({"phase": "align"}, {"config": meta["config"] | {"seed": 5}}):
        checkpoint.save(path, tree, meta | change)
        with pytest.raises(CheckpointError, match=r"pretrained\.npz is not the file that belongs"):
            runner.run(small, tmp_path, told.append, pictures=False)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"pretrained\.npz is not there"):
        runner.run(small, tmp_path, told.append, pictures=False)
    assert told == []
