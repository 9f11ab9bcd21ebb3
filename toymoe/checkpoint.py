"""Files that are whole or absent: atomic writing, JSON and checkpoints that prove themselves.

JSON carries the SHA-256 of its content under "hash".

A checkpoint is an uncompressed .npz that plain `np.load` reads: an entry ``a/b/c`` per array,
``__meta__`` (JSON) and ``__hash__`` (SHA-256 of all the rest). Loading never unpickles, and never
sets aside more memory than the file has bytes.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import secrets
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .config import ConfigError
from .errors import ToymoeError

META, HASH = "__meta__", "__hash__"
KINDS = "biufc"  # numpy's letters for bool, int, uint, float, complex
REMEDY = "use another copy, or delete it and train again"


class CheckpointError(ToymoeError, ValueError):
    """One sentence for the reader: what was given, what is allowed, what to do."""


def make_folder(path: Path) -> None:
    """Make a folder, where it is not there yet.

    Raises:
      ConfigError: it cannot be made.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path} is a file: name a folder.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be made ({error.strerror}): name another.") from error


def write_atomic(path: str | Path, data: bytes, replace: bool = True) -> None:
    """`data` as the file `path`; cut off at any moment, the old file or the new one is there.

    Args:
      replace: else a file that is there stays, also one that another process is just writing.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise CheckpointError(f"{path} cannot be written: create the folder {path.parent} first.")
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if not replace:
            with contextlib.suppress(OSError):  # one is there, or the file system knows no links
                os.link(temporary, path)
        if replace or not path.exists():
            os.replace(temporary, path)
        temporary.unlink(missing_ok=True)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, obj: Any, replace: bool = True) -> None:
    """`obj` as indented JSON, atomically; arrays become lists; NaN and infinity are refused.

    A dict also gets a ``hash`` of all the rest, which `read_json` asks for.
    """
    if isinstance(obj, dict):
        plain = json.loads(_json(path, obj))
        plain.pop("hash", None)
        obj = plain | {"hash": _json_digest(plain)}
    write_atomic(path, _json(path, obj, indent=2) + b"\n", replace)


def read_json(path: str | Path, remedy: str = REMEDY) -> dict:
    """The dict that `write_json` wrote, without its hash.

    Args:
      remedy: what to do about a file that is not what was written.

    Raises:
      CheckpointError: no such file; damaged, altered, or from before there was a hash.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is not there: {remedy}.")
    try:
        obj = json.loads(path.read_bytes())
        if not isinstance(obj, dict) or "hash" not in obj:
            raise ValueError("it has no hash")
        if obj.pop("hash") != _json_digest(obj):
            raise ValueError("wrong hash")
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else error
        raise CheckpointError(
            f"{path} is damaged or of another version of toymoe ({what}): {remedy}."
        ) from error
    return obj


def _json_digest(plain: dict) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def flatten(tree: dict, _above: str = "") -> dict[str, np.ndarray]:
    """Nested dicts of arrays as one dict ``{"a/b/c": array}``; copies only what is not C order."""
    if not isinstance(tree, dict):
        raise CheckpointError(f"a {type(tree).__name__} is not possible: give a dict of arrays.")
    flat = {}
    for key, value in tree.items():
        plain = isinstance(key, str) and key.isprintable() and not set(key) & set("/\\")
        if not plain or key in ("", META, HASH) or key.endswith(".npy"):
            raise CheckpointError(
                f"the key {key!r} is not possible: use printable text without slashes, "
                f"other than {META} and {HASH}, that does not end in .npy."
            )
        name, array = _above + key, None
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{name}/")
            continue
        if not isinstance(value, dict | list | tuple):  # these would not come back as they were
            with contextlib.suppress(TypeError):  # a random key of jax, a traced array
                array = np.asarray(value, order="C")
        if array is None or array.dtype.kind not in KINDS:
            kind = type(value).__name__ + ("" if array is None else f" of dtype {array.dtype}")
            raise CheckpointError(
                f"{name} is of type {kind}: use arrays of plain numbers in non-empty dicts."
            )
        flat[name] = array
    return flat


def unflatten(flat: dict[str, Any]) -> dict:
    """The inverse of `flatten`."""
    tree: dict = {}
    for name, array in flat.items():
        *folders, last = name.split("/")
        node: Any = tree
        for folder in folders:
            node = node.setdefault(folder, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last in node:
            raise CheckpointError(f"{name!r} is not possible beside an array above or below it.")
        node[last] = array
    return tree


def save(path: str | Path, tree: dict, meta: dict) -> None:
    """Nested dicts of arrays, and a dict that JSON can hold; equal input gives equal bytes."""
    if not isinstance(meta, dict):
        raise CheckpointError(f"meta = {meta!r:.60} is not possible: it must be a dict.")
    flat = flatten(tree)
    flat[META] = np.frombuffer(_json("meta", meta, sort_keys=True), np.uint8)
    flat[HASH] = np.frombuffer(_digest(flat), np.uint8)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in sorted(flat.items()):
            entry = zipfile.ZipInfo(f"{name}.npy")  # always dated 1980
            entry.create_system = 3  # Unix, whatever this machine is
            content = io.BytesIO()
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            archive.writestr(entry, content.getvalue())
    write_atomic(path, buffer.getvalue())


def load(
    path: str | Path, like: dict | None = None, belongs: dict | None = None
) -> tuple[dict, dict]:
    """The tree and the meta that `save` wrote, every array byte checked against the hash.

    Args:
      like: a tree of arrays, whose names, shapes and dtypes it must have.
      belongs: what its meta must say, among other things.

    Raises:
      CheckpointError: no such file; foreign, damaged or altered; or of something else than given.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise CheckpointError(f"{path} {what}: name an .npz file that toymoe wrote.")
    with path.open("rb") as file:
        if not b"PK".startswith(file.read(2)):
            raise CheckpointError(f"{path} is not an .npz file: name one that toymoe wrote.")
        try:
            with zipfile.ZipFile(file) as archive:
                flat = _read(path, archive, os.fstat(file.fileno()).st_size)
            intact = flat.pop(HASH).tobytes() == _digest(flat)
            meta = json.loads(flat.pop(META).tobytes()) if intact else {}
            if not isinstance(meta, dict):
                raise ValueError(f"{META} is no dict")
        except CheckpointError:
            raise
        except Exception as error:  # zipfile, numpy's header parser and json raise many kinds
            why = f"{error!s:.120}"  # zipfile quotes names that may be most of the file
            raise CheckpointError(f"{path} is cut short or damaged ({why}): {REMEDY}.") from error
    if not intact:
        raise CheckpointError(f"{path} was altered since it was saved (wrong hash): {REMEDY}.")
    for name, expected in (belongs or {}).items():
        if difference := _difference(name, expected, meta.get(name)):
            raise CheckpointError(
                f"{path} is not the file that belongs here ({difference}): {REMEDY}."
            )
    if like is not None:
        _require_alike(path, flat, flatten(like))
    return unflatten(flat), meta


def require_finite(path: str | Path, tree: dict) -> None:
    """Raise a CheckpointError if a file holds NaN or infinity."""
    for name, array in flatten(tree).items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{path}: {name} holds numbers that are not finite: {REMEDY}.")


def _read(path: Path, archive: zipfile.ZipFile, size: int) -> dict[str, np.ndarray]:
    entries = archive.infolist()
    lacking = {META, HASH} - {entry.filename.removesuffix(".npy") for entry in entries}
    if lacking:
        lacks = " and ".join(sorted(lacking))
        raise CheckpointError(f"{path} was not written by toymoe (no {lacks}): name one that was.")
    claimed = sum(max(entry.file_size, entry.compress_size) for entry in entries)
    if any(entry.compress_type for entry in entries) or claimed > size:
        raise ValueError(f"it claims {claimed} bytes and has {size}")
    flat = {}
    for entry in entries:
        name, data = entry.filename.removesuffix(".npy"), archive.read(entry)
        header = io.BytesIO(data)
        np.lib.format.read_magic(header)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
        if dtype.hasobject:
            raise CheckpointError(
                f"{path} holds Python objects in {name!r}, which can run code when they are "
                f"loaded: only numbers are allowed, so do not trust this file."
            )
        claimed, there = math.prod(shape) * dtype.itemsize, len(data) - header.tell()
        if dtype.kind not in KINDS or claimed != there or min(shape, default=0) < 0:
            raise ValueError(f"{name} claims {dtype}{list(shape)} and has {there} bytes")
        order = "F" if fortran else "C"
        flat[name] = np.ndarray(shape, dtype, data, header.tell(), order=order).copy()
    return flat


def _digest(flat: dict[str, np.ndarray]) -> bytes:
    digest = hashlib.sha256()
    for name, array in sorted(flat.items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode("ascii"))
        digest.update(array.tobytes())
    return digest.digest()


def _json(name: str | Path, obj: Any, **style) -> bytes:
    def plain(value):
        if hasattr(value, "__array__"):
            return np.asarray(value).tolist()
        raise TypeError(f"it holds a {type(value).__name__}")

    try:
        return json.dumps(obj, allow_nan=False, default=plain, **style).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{name} cannot be JSON ({error}): use finite numbers, text, lists and dicts."
        ) from error


def _difference(name: str, expected: Any, found: Any) -> str:
    """The first setting that differs, in words; empty where none does."""
    if isinstance(expected, dict) and isinstance(found, dict):
        parts = (
            _difference(f"{name}.{key}", expected.get(key), found.get(key))
            for key in expected | found
        )
        return next(filter(None, parts), "")
    return "" if expected == found else f"{name} is {found!r:.40} and must be {expected!r:.40}"


def _require_alike(path: Path, flat: dict[str, np.ndarray], like: dict[str, np.ndarray]) -> None:
    def few(names):
        return ", ".join(sorted(names)[:3]) + ", …" * (len(names) > 3) or "none"

    remedy = "load it with the settings it was saved with"
    lacking, extra = like.keys() - flat.keys(), flat.keys() - like.keys()
    if lacking or extra:
        raise CheckpointError(
            f"{path} holds other arrays than expected (missing: {few(lacking)}; "
            f"unexpected: {few(extra)}): {remedy}."
        )
    for name, array in like.items():
        expected, found = (f"{a.dtype}{list(a.shape)}" for a in (array, flat[name]))
        if expected != found:
            raise CheckpointError(f"{path}: {name} must be {expected} and is {found}: {remedy}.")
