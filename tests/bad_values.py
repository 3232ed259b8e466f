# SPDX-License-Identifier: Apache-2.0
"""Wrong values for an argument, made from a right one by its kind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import torch

NAN, INF = math.nan, math.inf
LABELS = {"target", "y", "label", "labels", "raters"}
WEIGHTS = {"weights", "rater_weights", "sample_weights", "y_weights", "y_pred_weights", "rater_mask", "gate", "v"}
MASKS = {"mask", "valid"}
PROBABILITIES = {"probabilities", "calibration"}


class NotAnything:
    """An object that is of no use anywhere."""

    def __repr__(self) -> str:
        return "NotAnything()"


def wrong_values(name: str, good: Any, optional: bool, alone: bool = False) -> Iterator[tuple[str, Any]]:
    """
    Wrong values of one argument, each with what is wrong about it.

    Args:
        name: of the argument.
        good: a value that is right.
        optional: whether None is right too.
        alone: no other tensor of the call fixes the sizes of this one.
    """
    if not optional:
        yield "None", None
    yield "another object", NotAnything()
    if isinstance(good, torch.Tensor):
        yield from _tensors(name, good, alone)
    elif isinstance(good, bool):
        yield from [("text", "yes"), ("number", 2), ("list", [True])]
    elif isinstance(good, Enum | str):
        yield from [("misspelt", f"{good if isinstance(good, str) else good.value}x"), ("empty", ""), ("number", 1)]
    elif isinstance(good, int):
        yield from [("text", "nonsense"), ("list", [good, good]), ("bool", True), ("fraction", good + 0.5)]
        yield from [("NaN", NAN), ("inf", INF), ("negative", -1), ("zero", 0)]
    elif isinstance(good, float):
        yield from [("text", "nonsense"), ("list", [good, good]), ("bool", True)]
        yield from [("NaN", NAN), ("inf", INF), ("negative", -1.0), ("zero", 0.0)]
    elif isinstance(good, Mapping):
        yield from [("text", "nonsense"), ("number", 1), ("empty", {}), ("list", [1])]
    elif isinstance(good, Sequence) and not hasattr(good, "_fields"):
        yield from _sequences(good)
    else:
        yield from [("text", "nonsense"), ("number", 1), ("list", [1])]


def _sequences(good: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    yield from [("number", 0.5), ("empty", [])]
    if not good or isinstance(good[0], str):
        return
    if isinstance(good[0], int | float):
        yield from [("text", "nonsense"), ("list of text", ["a"] * len(good)), ("NaN", [NAN] * len(good))]
        yield from [("negative", [-1] * len(good)), ("bools", [True] * len(good)), ("longer", [*good, good[0]])]
    else:
        yield from [("text", "nonsense"), ("list of text", ["a"] * len(good))]


def _tensors(name: str, good: torch.Tensor, alone: bool) -> Iterator[tuple[str, Any]]:
    yield from [("text", "nonsense"), ("number", 1), ("list", [1]), ("complex", good.to(torch.complex64))]
    yield from [("one axis less", good[..., 0]), ("empty batch", good[:0])]
    if good.ndim > 1:
        yield "nothing on the second axis", good[:, :0]
    if name not in WEIGHTS:
        yield "one axis more", good[None]
    if not alone:
        yield from [("larger batch", torch.cat([good, good])), ("smaller size", good[..., :-1])]
    if name in WEIGHTS:
        yield "larger size", torch.cat([good, good], -1)
        yield from [("zeros", torch.zeros_like(good)), ("negative", -good), ("NaN", _with(good, NAN))]
        yield from [("inf", _with(good, INF)), ("half", good.half())]
    elif name in LABELS or not (good.is_floating_point() or good.dtype == torch.bool):
        yield from [
            ("not whole", good * 0.9999),
            ("negative", _with(good, -1)),
            ("beyond the classes", _with(good, 77)),
        ]
        yield from [("NaN", _with(good, NAN)), ("inf", _with(good, INF))]
        if good.ndim > 2:
            classes, raters = max(int(good.max()) + 1, 2), good.ndim - 3  # the axis of the raters
            one_hot = torch.nn.functional.one_hot(good.select(raters, 0).long(), classes).movedim(-1, raters)
            yield "one-hot", one_hot.to(good.dtype)
    elif name in PROBABILITIES:
        yield from [("NaN", _with(good, NAN)), ("negative", -good), ("not normalised", good * 2)]
    elif name not in MASKS:
        yield from [("NaN", _with(good, NAN)), ("inf", _with(good, INF))]


def _with(good: torch.Tensor, value: float) -> torch.Tensor:
    """The tensor with one other value, in a type that holds it."""
    whole = value == round(value) if math.isfinite(value) else False
    result = good.clone() if good.is_floating_point() else good.to(torch.int64 if whole else torch.float64, copy=True)
    result.view(-1)[-1] = value
    return result
