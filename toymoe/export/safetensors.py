"""Arrays as the bytes of a .safetensors file: a length, a header in JSON, and the numbers."""

import json

import numpy as np


def encode(tensors: dict[str, np.ndarray]) -> bytes:
    """Float32 arrays as a .safetensors file that torch's loaders take.

    Source: the format as safetensors documents it: the header's length in 8 bytes (little-endian),
    the header, padded with spaces, and all arrays in C order, one after the other.
    """
    header: dict = {"__metadata__": {"format": "pt"}}
    data = [np.asarray(array, "<f4", order="C").tobytes() for array in tensors.values()]
    begin = 0
    for (name, array), part in zip(tensors.items(), data, strict=True):
        place = [begin, begin := begin + len(part)]
        header[name] = {"dtype": "F32", "shape": list(np.shape(array)), "data_offsets": place}
    said = json.dumps(header, separators=(",", ":")).encode("ascii")
    said += b" " * (-len(said) % 8)
    return b"".join([len(said).to_bytes(8, "little"), said, *data])
