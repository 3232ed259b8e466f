# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import pickle
import struct
from typing import Any

import numpy as np
import pytest

from monai_stochseg.data.lidc.array_unpickler import ArrayUnpickler


def load(content: bytes) -> Any:
    return ArrayUnpickler(io.BytesIO(content)).load()


class Made:
    """Is pickled as the call of a function, and the state that follows it."""

    def __init__(self, function: Any, arguments: tuple, state: Any = None) -> None:
        self.how = function, arguments, *([] if state is None else [state])

    def __reduce__(self) -> tuple:
        return self.how


class Dtype(Made):
    def __init__(self, name: Any, state: Any = None) -> None:
        super().__init__(np.dtype, (name, False, True), state)


RECONSTRUCT = np.zeros(1).__reduce__()[0]


def forged(dtype: Any, content: Any, shape: Any = (1,)) -> Made:
    return Made(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, shape, dtype, False, content))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["?", "u1", "<i2", ">i4", "f2", "<f4", ">f8"])
def test_arrays_of_numbers_come_back(protocol, dtype) -> None:
    values = (np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)
    for array in (values, np.asfortranarray(values), values[:, 1], values[:0]):
        found = np.asarray(load(pickle.dumps(array, protocol)))
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert np.array_equal(found, array)
    assert load(pickle.dumps(values[0, 0, 1], protocol)) == 1


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_plain_types_come_back(protocol) -> None:
    content = {"a": [1, 2.5, "text", None, True, (b"", b"\x00\xff")]}
    assert load(pickle.dumps(content, protocol)) == content


ADDRESS = struct.pack("<Q", 0x4141414141414141)
FIELDS = (3, "|", None, ("f0",), {"f0": (Dtype("O8"), 0)}, 8, 1, 63)


@pytest.mark.parametrize(
    "attack",
    [
        forged(Dtype("V8", FIELDS), ADDRESS),
        forged(Dtype("f8", FIELDS), ADDRESS),
        forged(Dtype("f8", (3, "|", (Dtype("O8"), (1,)), None, None, 8, 1, 63)), ADDRESS),
        forged(Dtype("f8", (3, "|", None, ("a",), {"a": (Dtype("f8"), 0)}, 8, 1, 0)), ADDRESS),
        forged(Dtype("f8", (3, "|", (Dtype("f4"), (2,)), None, None, 8, 1, 0)), ADDRESS),
        forged(Dtype("O8"), ADDRESS),
        forged(Dtype("O8"), [1]),
        forged(Dtype([("a", "O")]), ADDRESS),
        forged(Dtype("M8[ns]"), ADDRESS),
        forged(Dtype("U2"), ADDRESS),
        forged(Dtype("f8"), ADDRESS, (2,)),
        forged(Dtype("f8"), ADDRESS, (-1,)),
        forged(Dtype("f8"), ADDRESS, (2**62, 4)),
        forged(Dtype("f8", (3, "x", None, None, None, -1, -1, 0)), ADDRESS),
        forged("f8", ADDRESS),
        forged(Dtype("f8"), 8),
        Made(np.float64(1).__reduce__()[0], (Dtype("O8"), ADDRESS)),
        Made(np.ndarray, ((10**12,),)),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_no_bytes_are_taken_for_addresses(attack, protocol) -> None:
    """NumPy's own unpickling reads the address 0x4141414141414141, and the process dies."""
    content = pickle.dumps(attack, protocol)
    with pytest.raises((pickle.UnpicklingError, TypeError)):
        load(content)


@pytest.mark.parametrize("ask", [b"c_codecs\nencode\n(Vx\nVzip\ntR.", b"c__builtin__\nbytes\n(I1000000000000\ntR."])
def test_its_own_functions_do_only_what_arrays_need(ask) -> None:
    with pytest.raises((pickle.UnpicklingError, TypeError)):
        load(ask)
