"""Checkpoints against `np.load`, the standard library's hashes, and every damage we thought of."""

import hashlib
import io
import json
import math
import os
import pickle
import re
import stat
import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from toymoe import checkpoint
from toymoe.checkpoint import CheckpointError

few = settings(max_examples=25, deadline=None)
DTYPES = [np.bool_, np.int8, np.int32, np.int64, np.uint32, np.float16, np.float32, np.float64]
META = {"step": 40, "phase": "align", "loss": [0.5, -0.0], "none": None, "été": {"b": 1, "a": True}}


def small_tree():
    return {
        "embed": np.arange(6, dtype=np.float32).reshape(2, 3),
        "layers": {
            "0": {"w": np.array([[1.5, -0.0], [np.nan, np.inf]]), "on": np.array([True, False])},
            "1": {"key": np.array([0, 2**32 - 1], np.uint32), "none": np.zeros((0, 3), np.int8)},
        },
        "step": np.int64(40),
    }


def leaves(tree, above=()):
    """A slow independent walk: [(path of keys, array)]."""
    if not isinstance(tree, dict):
        return [(above, tree)]
    return sorted((leaf for k, v in tree.items() for leaf in leaves(v, (*above, k))), key=str)


def same(tree, other):
    """Equal to the bit: names, dtypes, shapes and bytes (NaN and -0.0 included)."""
    one, two = dict(leaves(tree)), dict(leaves(other))
    arrays = [(np.asarray(one[k]), np.asarray(two.get(k))) for k in one]
    return one.keys() == two.keys() and all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()) for a, b in arrays
    )


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def write_zip(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def read_zip(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.npz"
    checkpoint.save(path, small_tree(), META)
    return path


# --- round trips --------------------------------------------------------------------------------


def test_round_trip(saved):
    tree, meta = checkpoint.load(saved)
    assert same(tree, small_tree())
    assert meta == META
    assert tree["step"].shape == ()
    tree["embed"] += 1  # what is loaded can be changed


keys = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters="/\\."), min_size=1, max_size=4
)
arrays = hnp.arrays(
    st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
)
trees = st.dictionaries(
    keys, arrays | st.dictionaries(keys, arrays, min_size=1, max_size=3), max_size=3
)


@given(tree=trees, meta=st.dictionaries(st.text(), st.text() | st.integers() | st.booleans()))
@few
def test_round_trip_of_any_tree(tree, meta, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "any.npz"
    checkpoint.save(path, tree, meta)
    loaded, loaded_meta = checkpoint.load(path, like=tree)
    assert same(loaded, tree)
    assert loaded_meta == meta
    assert same(checkpoint.unflatten(checkpoint.flatten(tree)), tree)


def test_jax_arrays_and_python_numbers(tmp_path):
    tree = {
        "f": jnp.ones((2, 3)),
        "u": jax.random.key_data(jax.random.key(3)),
        "b": jnp.array([True]),
        "i": jnp.int32(7),
        "python": {"int": 3, "float": 0.25, "bool": True},
    }
    checkpoint.save(tmp_path / "a", tree, {"loss": jnp.float32(0.5), "who": np.arange(2)})
    loaded, meta = checkpoint.load(tmp_path / "a", like=tree)
    assert all(type(array) is np.ndarray for _, array in leaves(loaded))
    assert same(loaded, tree)
    assert [loaded[k].dtype.name for k in "fubi"] == ["float32", "uint32", "bool", "int32"]
    assert meta == {"loss": 0.5, "who": [0, 1]}


def test_flat_names():
    flat = checkpoint.flatten(small_tree())
    assert set(flat) == {
        "embed", "layers/0/w", "layers/0/on", "layers/1/key", "layers/1/none", "step"
    }  # fmt: skip
    assert flat["layers/1/key"].tolist() == [0, 2**32 - 1]
    assert checkpoint.flatten({}) == {} == checkpoint.unflatten({})


@pytest.mark.parametrize("key", ["", "a/b", "a\\b", "a\0b", "\ud800", "x.npy", "__meta__", 3, None])
def test_impossible_keys(key, tmp_path):
    for tree in ({key: np.ones(2)}, {"under": {key: np.ones(2)}}):
        with pytest.raises(CheckpointError, match=r"the key .* is not possible: use printable"):
            checkpoint.save(tmp_path / "a", tree, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("leaf", "kind"),
    [
        (None, "NoneType of dtype object"),
        ("text", "str of dtype <U4"),
        ([1, 2], "list"),
        ((np.ones(2),), "tuple"),
        ({}, "dict"),
        (np.array([{}]), "ndarray of dtype object"),
        (jnp.ones(2, jnp.bfloat16), "Array.* of dtype bfloat16"),
        (jax.random.key(0), "PRNGKeyArray"),
    ],
)
def test_impossible_leaves(leaf, kind):
    with pytest.raises(CheckpointError, match=f"^a/b is of type {kind}: use arrays of plain"):
        checkpoint.flatten({"a": {"b": leaf}})


def test_only_dicts(tmp_path):
    with pytest.raises(CheckpointError, match=r"a list is not possible: give a dict"):
        checkpoint.save(tmp_path / "a", [np.ones(2)], {})
    with pytest.raises(CheckpointError, match=r"meta = \[1\] is not possible: it must be a dict"):
        checkpoint.save(tmp_path / "a", {}, [1])
    with pytest.raises(CheckpointError, match=r"meta cannot be JSON .* finite numbers"):
        checkpoint.save(tmp_path / "a", {}, {"loss": math.nan})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a", "a/b/c"), ("a/b", "a/b/c/d")])
def test_an_array_cannot_also_be_a_folder(names):
    with pytest.raises(CheckpointError, match="beside an array above or below"):
        checkpoint.unflatten(dict.fromkeys(names, np.ones(2)))


# --- the format ---------------------------------------------------------------------------------


def test_equal_input_gives_equal_bytes(tmp_path, monkeypatch):
    def reverse(tree):
        pairs = reversed(list(tree.items()))
        return {k: reverse(v) if isinstance(v, dict) else v for k, v in pairs}

    tree, changed = small_tree(), small_tree()
    checkpoint.save(tmp_path / "one", tree, META)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    turned = reverse(tree) | {"embed": np.asfortranarray(tree["embed"])}
    assert turned["embed"].flags.f_contiguous and not turned["embed"].flags.c_contiguous
    assert list(turned) != list(tree)
    checkpoint.save(tmp_path / "two", turned, reverse(META))
    changed["layers"]["0"]["on"][1] = True
    checkpoint.save(tmp_path / "three", changed, META)
    checkpoint.save(tmp_path / "four", tree, META | {"step": 41})
    one, two, three, four = ((tmp_path / n).read_bytes() for n in ("one", "two", "three", "four"))
    assert one == two
    assert len({one, three, four}) == 3


def test_bytes_do_not_change_between_releases(tmp_path):
    # A file written by version 0.1 must stay readable: its bytes, assembled by hand.
    entries = {
        "__hash__.npy": None,
        "__meta__.npy": npy(np.frombuffer(b'{"a": 1}', np.uint8)),
        "b/c.npy": npy(np.array([1, 2], np.int32)),
    }
    said = b'["__meta__", "|u1", [8]]{"a": 1}["b/c", "<i4", [2]]\1\0\0\0\2\0\0\0'
    entries["__hash__.npy"] = npy(np.frombuffer(hashlib.sha256(said).digest(), np.uint8))
    write_zip(tmp_path / "hand.npz", entries)
    tree, meta = checkpoint.load(tmp_path / "hand.npz")
    assert same(tree, {"b": {"c": np.array([1, 2], np.int32)}})
    assert meta == {"a": 1}
    checkpoint.save(tmp_path / "a.npz", tree, meta)
    assert read_zip(tmp_path / "a.npz") == entries


def test_plain_numpy_reads_it(saved):
    with np.load(saved, allow_pickle=False) as file:
        assert set(file.files) == set(checkpoint.flatten(small_tree())) | {"__meta__", "__hash__"}
        assert json.loads(file["__meta__"].tobytes()) == META
        assert file["__hash__"].shape == (32,)
        for path, array in leaves(small_tree()):
            np.testing.assert_array_equal(file["/".join(path)], array, strict=True)
    with zipfile.ZipFile(saved) as archive:
        assert archive.testzip() is None
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_importing_it_does_not_import_jax():
    code = "import sys, toymoe.checkpoint; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- writing ------------------------------------------------------------------------------------


def broken(*_):
    raise OSError("disk full")


@pytest.mark.parametrize("what", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failed_writer_leaves_the_old_file_whole(saved, monkeypatch, what, error):
    def fail(*_):
        raise error("stopped")

    before = saved.read_bytes()
    monkeypatch.setattr(os, what, fail)
    with pytest.raises(error, match="stopped"):
        checkpoint.save(saved, {"a": np.ones(3)}, {})
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
    checkpoint.save(saved, {"a": np.ones(3)}, {})
    assert same(checkpoint.load(saved)[0], {"a": np.ones(3)})
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_is_there_stays_where_it_is_not_to_be_replaced(tmp_path, monkeypatch, links):
    """Also where the file system knows no links."""
    if not links:
        monkeypatch.setattr(os, "link", _no_link)
    checkpoint.write_atomic(tmp_path / "a", b"first", replace=False)
    checkpoint.write_atomic(tmp_path / "a", b"second", replace=False)
    assert (tmp_path / "a").read_bytes() == b"first"
    checkpoint.write_atomic(tmp_path / "a", b"third")
    assert (tmp_path / "a").read_bytes() == b"third"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def _no_link(*_):
    raise PermissionError(1, "Operation not permitted")


def test_the_new_file_is_complete_before_it_takes_the_name(tmp_path, monkeypatch):
    steps, real_fsync, real_replace = [], os.fsync, os.replace

    def fsync(descriptor):
        steps.append(("fsync", os.fstat(descriptor).st_size))
        real_fsync(descriptor)

    def replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)
        steps.append(("replace", os.path.getsize(source)))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    checkpoint.write_atomic(str(tmp_path / "a"), b"12345")
    assert steps == [("fsync", 5), ("replace", 5)]
    assert (tmp_path / "a").read_bytes() == b"12345"


@pytest.mark.skipif(sys.platform == "win32", reason="file modes are a matter of Unix")
def test_a_killed_writer_leaves_the_old_file_whole(saved):
    before = saved.read_bytes()
    code = (
        "import os, signal, sys; from toymoe import checkpoint\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "checkpoint.write_atomic(sys.argv[1], b'new')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(saved)], check=False)
    assert done.returncode == -9
    assert saved.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="file modes are a matter of Unix")
def test_files_are_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    checkpoint.write_atomic(tmp_path / "ours", b"")
    ours, plain = (stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("ours", "plain"))
    assert ours == plain


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(CheckpointError, match=r"create the folder .*no first"):
        checkpoint.write_atomic(tmp_path / "no" / "a", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        checkpoint.write_atomic(tmp_path / "folder", b"")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_json(tmp_path):
    path = tmp_path / "a.json"
    obj = {
        "b": np.float32(0.5),
        "a": [np.int64(3), np.bool_(True), np.arange(4).reshape(2, 2)],
        "jax": (jnp.float32(0.25), jnp.ones(2, bool)),
        "é": None,
    }
    checkpoint.write_json(path, obj)
    plain = {"b": 0.5, "a": [3, True, [[0, 1], [2, 3]]], "jax": [0.25, [True, True]], "é": None}
    said = '{"a":[3,true,[[0,1],[2,3]]],"b":0.5,"jax":[0.25,[true,true]],"\\u00e9":null}'
    signed = plain | {"hash": hashlib.sha256(said.encode("ascii")).hexdigest()}
    assert path.read_text("ascii") == json.dumps(signed, indent=2) + "\n"
    assert checkpoint.read_json(path) == plain
    checkpoint.write_json(path, plain | {"hash": "of before"})
    assert json.loads(path.read_bytes()) == signed  # an old hash is no part of the rest


@pytest.mark.parametrize(
    "bad",
    [
        math.nan,
        math.inf,
        np.float32("nan"),
        np.array([1, -np.inf]),
        jnp.array([jnp.nan]),
        {1, 2},
        1j,
        np.array([1j]),
        {(1, 2): 3},
        np.array([object()]),
    ],
    ids=lambda value: re.sub(" at 0x[0-9a-f]+", "", repr(value)),
)
def test_json_refuses_what_it_cannot_hold(bad, tmp_path):
    path = tmp_path / "a.json"
    checkpoint.write_json(path, [1])
    with pytest.raises(ValueError, match=r"a\.json cannot be JSON .* use finite numbers"):
        checkpoint.write_json(path, {"deep": [bad]})
    assert json.loads(path.read_text()) == [1]
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_read_as_written_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(CheckpointError, match=r"a\.json is not there: write it\.$"):
        checkpoint.read_json(path, "write it")
    checkpoint.write_json(path, {"rate": 0.25, "of": {"seed": 0}})
    whole = path.read_text()
    for old, new in (("0.25", "0.26"), ("0.25", '"0.25"'), ('"seed"', '"Seed"'), ("0\n", "1\n")):
        assert old in whole
        path.write_text(whole.replace(old, new))
        with pytest.raises(CheckpointError, match=r"a\.json is damaged .*\(wrong hash\): write"):
            checkpoint.read_json(path, "write it")
    path.write_text(whole.replace("0.25", "2.50e-1").replace("\n", " "))  # the same, said otherwise
    assert checkpoint.read_json(path) == {"rate": 0.25, "of": {"seed": 0}}


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "[]", "3", '{"a": 1}', "", "{"])
def test_json_of_others_is_one_sentence(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"a\.json is damaged or of another") as caught:
        checkpoint.read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(tmp_path))


# --- damage -------------------------------------------------------------------------------------


def test_cut_short(saved):
    whole = saved.read_bytes()
    for length in [*range(0, 80), *range(80, len(whole), 17), *range(len(whole) - 30, len(whole))]:
        saved.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"model\.npz is cut short or damaged"):
            checkpoint.load(saved)
    saved.write_bytes(whole)
    checkpoint.load(saved)


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_flipped_bytes_are_found_or_harmless(saved, flip):
    whole = bytearray(saved.read_bytes())
    harmless = 0
    for at in range(flip % 5, len(whole), 5):
        whole[at] ^= flip
        saved.write_bytes(whole)
        whole[at] ^= flip
        try:
            tree, meta = checkpoint.load(saved)
        except CheckpointError:
            continue
        harmless += 1
        assert same(tree, small_tree()) and meta == META
    # Zip dates and modes may differ; contents are most of the file, and none of them may.
    assert 0 < harmless < len(whole) / 5 / 4


def test_altered_arrays_are_found_though_the_zip_is_sound(saved):
    def alter(change):
        entries = read_zip(saved)
        change(entries)
        write_zip(saved.with_name("b.npz"), entries)
        return saved.with_name("b.npz")

    def swap(entries):
        one, two = "layers/0/on.npy", "layers/1/key.npy"
        entries[one], entries[two] = entries[two], entries[one]

    assert same(checkpoint.load(alter(lambda entries: None))[0], small_tree())
    changes = [
        swap,
        lambda entries: entries.pop("embed.npy"),
        lambda entries: entries.update({"new.npy": npy(np.ones(2))}),
        lambda entries: entries.update({"embed.npy": npy(np.arange(6, dtype=np.float32))}),
        lambda entries: entries.update({"step.npy": npy(np.uint64(40))}),
        lambda entries: entries.update({"__meta__.npy": npy(np.frombuffer(b"{}", np.uint8))}),
        lambda entries: entries.update({"__hash__.npy": npy(np.zeros(32, np.uint8))}),
    ]
    for change in changes:
        with pytest.raises(CheckpointError, match=r"altered since it was saved \(wrong hash\)"):
            checkpoint.load(alter(change))


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickles_are_never_executed(saved, tmp_path):
    went_off = tmp_path / "went_off"
    bomb = np.array([Bomb(went_off)], object)
    pickle.loads(pickle.dumps(bomb))[0].close()  # the bomb is real
    assert went_off.exists()
    went_off.unlink()
    for name in ("embed.npy", "new.npy", "__meta__.npy", "__hash__.npy"):
        path = tmp_path / "bomb.npz"
        write_zip(path, read_zip(saved) | {name: npy(bomb, allow_pickle=True)})
        with pytest.raises(CheckpointError, match=r"Python objects in .* do not trust this file"):
            checkpoint.load(path)
    np.savez(path, a=bomb)
    with pytest.raises(CheckpointError, match="was not written by toymoe"):
        checkpoint.load(path)
    path.write_bytes(pickle.dumps(bomb))
    with pytest.raises(CheckpointError, match=r"is not an \.npz file"):
        checkpoint.load(path)
    assert not went_off.exists()


def header(text, version=(1, 0)):
    text = text.encode("latin1")
    return np.lib.format.magic(*version) + len(text).to_bytes(2 * version[0], "little") + text


HUGE = {
    "one axis": "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}",
    "product overflows": "{'descr': '<f8', 'fortran_order': False, 'shape': (2**62, 4)}".replace(
        "2**62", str(2**62)
    ),
    "empty but huge": f"{{'descr': '|u1', 'fortran_order': False, 'shape': (0, {2**70})}}",
    "negative": "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -8)}",
    "too short": "{'descr': '|u1', 'fortran_order': False, 'shape': (7,)}",
    "many axes": f"{{'descr': '|u1', 'fortran_order': False, 'shape': (8,{'1,' * 99})}}",
    "text": "{'descr': '<U2', 'fortran_order': False, 'shape': (1,)}",
    "record": "{'descr': [('a', '<f4', (2,))], 'fortran_order': False, 'shape': (1,)}",
    "unknown": "{'descr': 'xyz', 'fortran_order': False, 'shape': (1,)}",
    "code": "{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': (1,)}",
    "unfinished": "{'descr': (",
    "long": "[" * 9000,
    "Python 2": "{'descr': '|u1', 'fortran_order': False, 'shape': (7L,)}",
    "not a dict": "7",
    "empty": "",
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (9, 0)], ids=str)
@pytest.mark.parametrize("entry", ["embed.npy", "__meta__.npy"])
def test_headers_that_lie(saved, name, version, entry):
    write_zip(saved, read_zip(saved) | {entry: header(HUGE[name], version) + bytes(8)})
    with pytest.raises(CheckpointError, match=r"is cut short or damaged"):
        checkpoint.load(saved)


def test_a_true_header_written_by_hand_is_read(saved):
    # So that the test above fails for the lie alone: the same road, without a lie.
    text = "{'descr': '|u1', 'fortran_order': False, 'shape': (8,)}"
    write_zip(saved, read_zip(saved) | {"embed.npy": header(text) + bytes(8)})
    with pytest.raises(CheckpointError, match="wrong hash"):
        checkpoint.load(saved)


def test_zip_bombs(saved):
    entries = read_zip(saved) | {"embed.npy": npy(np.zeros(10**7))}
    write_zip(saved, entries, zipfile.ZIP_DEFLATED)
    size = saved.stat().st_size
    assert size < 10**6
    with pytest.raises(
        CheckpointError, match=rf"damaged \(it claims 8\d{{7}} bytes and has {size}"
    ):
        checkpoint.load(saved)


def test_zip_entries_that_share_their_bytes(saved):
    """Many names for the same stored bytes, none of them a lie by itself."""
    checkpoint.save(saved, {"a": np.zeros(1000)}, {})
    with zipfile.ZipFile(saved, "a") as archive:
        entry = archive.getinfo("a.npy")
        archive.filelist += [entry] * 50
        archive._didModify = True
    with pytest.raises(CheckpointError, match=r"damaged \(it claims"):
        checkpoint.load(saved)


# --- foreign files ------------------------------------------------------------------------------


def test_no_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"a\.npz is not there: name an \.npz file"):
        checkpoint.load(tmp_path / "a.npz")
    with pytest.raises(CheckpointError, match=r"is a folder: name an \.npz file"):
        checkpoint.load(str(tmp_path))


@pytest.mark.parametrize(
    "data", [b"hello", b"\0" * 100, b"{}", npy(np.ones(3)), b"\x1f\x8b" + b"PK\3\4" * 9], ids=repr
)
def test_not_an_npz(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"is not an \.npz file: name one that toymoe wrote"):
        checkpoint.load(tmp_path / "a")


def test_npz_of_others(saved):
    other = saved.with_name("other.npz")
    for write in (np.savez, np.savez_compressed):
        write(other, a=np.ones(3), b=np.array(["text"]))
        with pytest.raises(CheckpointError, match=r"not written by toymoe \(no __hash__ and __met"):
            checkpoint.load(other)
    write_zip(other, {"word/document.xml": b"<xml>"})
    with pytest.raises(CheckpointError, match="not written by toymoe"):
        checkpoint.load(other)
    write_zip(other, {})
    with pytest.raises(CheckpointError, match="not written by toymoe"):
        checkpoint.load(other)
    for name in ("__meta__", "__hash__"):
        entries = read_zip(saved)
        del entries[f"{name}.npy"]
        write_zip(other, entries)
        with pytest.raises(CheckpointError, match=rf"not written by toymoe \(no {name}\)"):
            checkpoint.load(other)


def test_whose_it_is(saved):
    for belongs in ({}, {"step": 40}, {"phase": "align", "été": {"a": True, "b": 1}}):
        assert checkpoint.load(saved, belongs=belongs)[1] == META
    for belongs, said in (
        ({"step": 41}, "step is 40 and must be 41"),
        ({"seed": 0}, "seed is None and must be 0"),
        ({"été": {"b": 2, "a": True}}, "été.b is 1 and must be 2"),
        ({"été": {"b": 1}}, "été.a is True and must be None"),
    ):
        with pytest.raises(CheckpointError, match=rf"not the file that belongs here \({said}\)"):
            checkpoint.load(saved, belongs=belongs)


def test_finite(saved):
    tree = checkpoint.load(saved)[0]
    with pytest.raises(CheckpointError, match="layers/0/w holds numbers that are not finite"):
        checkpoint.require_finite(saved, tree)
    tree["layers"]["0"]["w"] = np.zeros(2)
    checkpoint.require_finite(saved, tree)


def test_a_meta_that_is_no_dict_is_damage(saved):
    entries = {"__meta__": np.frombuffer(b"[1]", np.uint8), "a": np.ones(2)}
    files = {f"{name}.npy": npy(array) for name, array in entries.items()}
    digest = np.frombuffer(checkpoint._digest(entries), np.uint8)
    write_zip(saved, files | {"__hash__.npy": npy(digest)})
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(saved)


def test_like_fits(saved):
    like = jax.tree.map(jnp.zeros_like, small_tree() | {"step": np.int32(0), "layers": {"a": 1.0}})
    checkpoint.save(saved, like, {})
    tree, _ = checkpoint.load(saved, like=like)  # jax arrays as the pattern, other values in it
    assert jax.tree.structure(tree) == jax.tree.structure(like)
    assert same(checkpoint.load(saved, jax.tree.map(lambda x: x + 1, like))[0], tree)


def test_like_of_other_names(saved):
    like = small_tree() | {n: np.ones(2) for n in "vwxyz"}
    with pytest.raises(CheckpointError, match=r"\(missing: v, w, x, …; unexpected: none\): load"):
        checkpoint.load(saved, like)
    like = small_tree()
    like["layers"]["2"] = like["layers"].pop("1")
    with pytest.raises(
        CheckpointError,
        match=r"\(missing: layers/2/key, layers/2/none; unexpected: layers/1/key, layers/1/none\)",
    ):
        checkpoint.load(saved, like)
    with pytest.raises(CheckpointError, match=r"missing: none; unexpected: embed, layers/0/on, "):
        checkpoint.load(saved, {})


def test_like_of_other_shape_or_dtype(saved):
    for leaf, said in [
        (np.ones((3, 2), np.float32), r"float32\[3, 2\] and is float32\[2, 3\]"),
        (np.ones((2, 3)), r"float64\[2, 3\] and is float32\[2, 3\]"),
        (np.float32(1), r"float32\[\] and is float32\[2, 3\]"),
    ]:
        with pytest.raises(CheckpointError, match=f"embed must be {said}: load it with the"):
            checkpoint.load(saved, small_tree() | {"embed": leaf})
