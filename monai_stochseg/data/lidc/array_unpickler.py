# SPDX-License-Identifier: Apache-2.0
"""Read a pickle of NumPy's arrays from a stranger: it can run no code, and build no array that NumPy would not."""

from __future__ import annotations

import math
import pickle
import re
from typing import Any, BinaryIO

import numpy as np

_ORDERS = ("<", ">", "|", "=")


class ArrayUnpickler(pickle.Unpickler):
    """
    Makes NumPy's arrays of booleans and real numbers, and Python's own plain types, and nothing else.

    NumPy's own functions trust the state that a pickle gives them: a type with fields of Python objects takes bytes of
    the file for addresses. Here stand-ins take that state, check it, and copy its bytes into an array.

    Args:
        file: the pickle.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name, which a pickle asks for."""
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, but only NumPy's arrays are accepted")
        return _STAND_INS[module, name]


class PickledArray:
    """An array on its way; ``numpy.asarray`` gives it."""

    def __init__(self) -> None:
        self.array = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.array = _array(content, dtype, shape, "F" if fortran else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype, copy=copy)


class _PlainType:
    """The type of an array's elements."""

    def __init__(self, name: Any, *_: Any) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[biuf]\d{1,2}", name):
            raise pickle.UnpicklingError(f"it asks for elements of the type {name!r}, but only numbers are accepted")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        _, order, *parts = state
        if order not in _ORDERS or any(part is not None for part in parts[:3]):  # subarray, names, fields
            raise pickle.UnpicklingError("it asks for elements with fields, but only numbers are accepted")
        self.dtype = self.dtype.newbyteorder(order)


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if isinstance(content, str):  # of Python 2
        content = content.encode("latin1")
    if not isinstance(dtype, _PlainType) or not isinstance(content, (bytes, bytearray)) or order not in ("C", "F"):
        raise pickle.UnpicklingError("it holds an array that is none of numbers")
    sizes = [shape] if isinstance(shape, int) else list(shape)
    if any(type(size) is not int or size < 0 for size in sizes):
        raise pickle.UnpicklingError(f"it holds an array of the shape {shape}")
    if len(content) != math.prod(sizes) * dtype.dtype.itemsize:
        raise pickle.UnpicklingError(f"it holds {len(content)} bytes for an array of the shape {shape}")
    return np.frombuffer(content, dtype.dtype).reshape(sizes, order=order)


def _reconstruct(*_: Any) -> PickledArray:
    return PickledArray()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return _array(content, dtype, shape, order)


def _scalar(dtype: Any, content: Any) -> Any:
    return _array(content, dtype, (), "C")[()]


def _encode(text: str, encoding: str) -> bytes:
    """Bytes as protocols 0 to 2 write them."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    return b""


_STAND_INS: dict[tuple[str, str], Any] = {
    **{
        (f"{package}.{module}", name): stand_in
        for package in ("numpy.core", "numpy._core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): _PlainType,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _empty_bytes,
    ("__builtin__", "bytes"): _empty_bytes,
}
