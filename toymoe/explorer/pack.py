"""Parameters as text in a page and back: half or single precision, byte planes, gzip, base64.

Byte planes are the low bytes of all numbers, then the next ones, and so on: exponents beside
exponents are what gzip makes small. Half precision is not exact; `changed` says by how much.
"""

import base64
import gzip

import numpy as np

from .. import checkpoint, model
from ..config import Config, ConfigError
from ..model.inference import read

KINDS = {"float16": "<f2", "float32": "<f4"}  # how a page keeps weights


def known(kind: str) -> str:
    """The kind, if a page can keep weights so.

    Raises:
      ConfigError: it cannot.
    """
    if kind not in KINDS:
        raise ConfigError(
            f"weights = {kind!r:.40} is not possible: it must be one of {', '.join(KINDS)}."
        )
    return kind


def pack(arrays, kind: str) -> str:
    """The numbers of some arrays, one after the other in C order.

    Raises:
      ConfigError: an unknown kind, or numbers that are too large for it.
    """
    flat_X = np.concatenate([np.ravel(array) for array in arrays]).astype(np.float32)
    if kind == "float16" and np.abs(flat_X).max(initial=0) > np.finfo(np.float16).max:
        raise ConfigError("these weights are too large for float16: take weights float32.")
    planes = flat_X.astype(KINDS[known(kind)]).view(np.uint8).reshape(flat_X.size, -1).T
    squeezed = gzip.compress(planes.tobytes(), 9, mtime=0)  # undated: the same bytes every time
    return base64.b64encode(squeezed).decode("ascii")


def unpack(text: str, shapes: list[tuple[int, ...]], kind: str) -> list[np.ndarray]:
    """The arrays that `pack` wrote, float32, given their shapes."""
    size = np.dtype(KINDS[kind]).itemsize
    planes = np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8).reshape(size, -1)
    flat_X = np.ascontiguousarray(planes.T).view(KINDS[kind])[:, 0].astype(np.float32)
    parts = np.split(flat_X, np.cumsum([np.prod(shape, dtype=int) for shape in shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def parameters(params: model.Params) -> list[dict]:
    """Name and shape of every array, in the order in which `pack_params` writes them."""
    flat = checkpoint.flatten(params)
    return [{"name": name, "shape": list(flat[name].shape)} for name in sorted(flat)]


def pack_params(params: model.Params, kind: str) -> str:
    """All parameters of a model, in the order of their names."""
    return pack([array for _, array in sorted(checkpoint.flatten(params).items())], kind)


def unpack_params(text: str, listed: list[dict], kind: str) -> model.Params:
    """The model that `pack_params` wrote; ``listed`` as `parameters` lists them."""
    arrays = unpack(text, [tuple(x["shape"]) for x in listed], kind)
    return checkpoint.unflatten({x["name"]: a for x, a in zip(listed, arrays, strict=True)})


def changed(params: model.Params, kept: model.Params, cfg: Config, tokens_BT) -> dict:
    """What differs between a model and what a page keeps of it, both run on some prompts.

    Returns:
      ``answers``, how many of the ``prompts`` have another most probable token at ANS;
      ``selections``, how many ``of`` all places, layers times tokens, have another set of selected
      experts; ``logit``, the largest difference of a logit at ANS.
    """
    (gates, logits), (others, other_logits) = (
        read(x, tokens_BT, cfg.model) for x in (params, kept)
    )
    differs_LBT = ((gates > 0) != (others > 0)).any(-1)
    return {
        "prompts": len(logits),
        "answers": int((logits.argmax(-1) != other_logits.argmax(-1)).sum()),
        "selections": int(differs_LBT.sum()),
        "of": differs_LBT.size,
        "logit": float(np.abs(logits - other_logits).max()),
    }
