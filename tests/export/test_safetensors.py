"""A .safetensors file, read by a reader that was written from the format's description alone."""

import json
import struct

import numpy as np
import pytest

from toymoe.export import safetensors


def read(data):
    """Name -> array; fails where bytes are left out, or belong to two arrays."""
    (size,) = struct.unpack("<Q", data[:8])
    header, numbers = json.loads(data[8 : 8 + size]), data[8 + size :]
    assert data[8:9] == b"{" and header.pop("__metadata__") == {"format": "pt"}
    arrays, at = {}, 0
    for name, said in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = said["data_offsets"]
        assert said["dtype"] == "F32" and begin == at and end - begin == 4 * np.prod(said["shape"])
        arrays[name] = np.frombuffer(numbers[begin:end], "<f4").reshape(said["shape"])
        at = end
    assert at == len(numbers) and (8 + size) % 8 == 0  # whole, and where torch may map it
    return arrays


@pytest.mark.parametrize(
    "name", ["w", "w1", "w12", "w123", "w1234", "w12345", "w123456", "w1234567"]
)
def test_what_is_written_is_read(name):
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.normal(size=(3, 5)).astype(np.float32),
        "transposed": rng.normal(size=(4, 2)).astype(np.float32).T,  # not in C order
        "one": np.float32([1e-30]),
        "big-endian": np.arange(6, dtype=">f4").reshape(1, 2, 3),
    }
    found = read(safetensors.encode(arrays))
    assert found.keys() == arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(found[key], array)
