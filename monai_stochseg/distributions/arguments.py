# SPDX-License-Identifier: Apache-2.0
"""Checks of arguments, one line each where they are called. All errors name the argument and the value received."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import cache, wraps
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from monai.networks.layers.factories import Norm
from monai.utils import ensure_tuple_rep, look_up_option

__all__ = [
    "check_arguments",
    "check_at_least",
    "check_axes",
    "check_broadcasts",
    "check_fields",
    "check_fraction",
    "check_norm",
    "check_num_classes",
    "check_option",
    "check_per_axis",
    "check_positive",
    "check_same_images",
    "check_same_shape",
    "check_spatial_dims",
    "naming",
]

P = ParamSpec("P")
T = TypeVar("T")
Fits = Callable[[Any], bool]


def check_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """
    Decorate a function so that each argument is checked against its annotation before the function runs.

    A bool is no number, NaN and infinity are no numbers either, text is no sequence, and a tensor is one of real
    numbers. Elements of a sequence are checked, those of a mapping are not. What an annotation says about shapes or
    ranges is for the function to check.

    Raises:
        TypeError: when an argument is of another type.
        ValueError: when a number, or one of a sequence, is not finite.

    Example::

        >>> @check_arguments
        ... def draw(num_samples: int) -> None: ...
        >>> draw(num_samples="4")
        Traceback (most recent call last):
        TypeError: num_samples must be an integer, got '4'.
    """
    names = list(inspect.signature(function).parameters)

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        kinds = _kinds(function)
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            if name in kinds:
                _check(name, value, *kinds[name])
        return function(*args, **kwargs)

    return checked


def reads_values() -> bool:
    """
    Whether checks look at the values of tensors. Not where ``torch.compile`` makes a graph: each look would cut it.

    Then a wrong label or weight shows in the loss, or as an error of the operation that meets it, and
    :py:class:`monai_stochseg.handlers.LossGuard` stops a training whose loss is not finite.
    """
    return not torch.compiler.is_compiling()


def check_fields(instance: Any) -> None:
    """Check the fields of a dataclass or NamedTuple against their annotations, as :py:func:`check_arguments` does."""
    if torch.compiler.is_compiling():
        return
    annotated: Callable = type(instance)
    for name, kind in _kinds(annotated).items():
        _check(name, getattr(instance, name), *kind)


def check_at_least(least: float, **values: float) -> None:
    """Raise a ValueError when a number is below ``least``."""
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"{name} must {f'be at least {least}' if least else 'not be negative'}, got {value}.")


def check_positive(**values: float) -> None:
    """Raise a ValueError when a number is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}.")


def check_fraction(**values: float) -> None:
    """Raise a ValueError when a number lies outside [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must lie in [0, 1), got {value}.")


def check_num_classes(**values: int) -> None:
    """Raise a ValueError for fewer than 2 classes."""
    for name, value in values.items():
        if value < 2:
            raise ValueError(f"{name} counts the background and must be at least 2, got {value}.")


def check_spatial_dims(spatial_dims: int) -> None:
    """Raise a ValueError for other ``spatial_dims`` than 2 or 3."""
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")


def check_option(name: str, value: Any, options: Collection[Any] | type[Enum]) -> Any:
    """
    The option of this value, by MONAI's ``look_up_option``.

    Args:
        name: of the argument, for the error.
        value: what was given.
        options: what there is.

    Raises:
        ValueError: for any other value; the error lists the options.
    """
    try:
        return look_up_option(value, options)
    except ValueError:
        if isinstance(options, type):
            options = [option.value for option in options]
        raise ValueError(f"{name} must be one of {tuple(options)}, got {value!r}.") from None


def check_norm(norm: str | tuple | None) -> None:
    """Raise a ValueError for a normalisation that MONAI does not know."""
    name = norm if isinstance(norm, str) or not norm else norm[0]
    if norm is not None and str(name).upper() not in Norm.names:
        raise ValueError(
            f"norm must be one of MONAI's {', '.join(Norm.names)}, with its options, or None, got {norm!r}."
        )


def check_per_axis(name: str, value: Any, axes: int, of: str = "the image") -> tuple[Any, ...]:
    """
    The values of one argument for each axis, by MONAI's ``ensure_tuple_rep``.

    Args:
        name: of the argument, for the error.
        value: one value, or one for each axis.
        axes: number of axes.
        of: what has these axes, for the error.

    Raises:
        ValueError: when there is another number of values.
    """
    try:
        return ensure_tuple_rep(value, axes)
    except ValueError:
        raise ValueError(
            f"{name} must have one value, or one for each of the {axes} axes of {of}, got {value}."
        ) from None


@contextmanager
def naming(*keys: Hashable) -> Iterator[None]:
    """Put the keys of the data in front of the error of an array transform that is called in this context."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{' with '.join(map(repr, keys))} of the data: {error}") from error


def check_axes(axes: str, least: int, **tensors: torch.Tensor) -> None:
    """
    Check tensors for their number of axes, and that none of these is empty.

    Args:
        axes: what the axes are, for the error, such as ``"[B, C, *S]"``.
        least: the least number of axes.
        tensors: by the names of the arguments.

    Raises:
        ValueError: when there are fewer axes, or one is empty.
    """
    for name, tensor in tensors.items():
        if tensor.ndim < least or not tensor.numel():
            raise ValueError(f"{name} must be {axes}, none of its axes empty, got {tuple(tensor.shape)}.")


def check_same_shape(**tensors: torch.Tensor) -> None:
    """Raise a ValueError when a tensor has another shape than the first one."""
    (reference, first), *others = tensors.items()
    for name, tensor in others:
        if tensor.shape != first.shape:
            raise ValueError(
                f"{name} must have the shape of {reference}, {tuple(first.shape)}, got {tuple(tensor.shape)}."
            )


def check_broadcasts(name: str, tensor: torch.Tensor, reference: str, other: torch.Tensor) -> None:
    """Raise a ValueError when a tensor cannot be broadcast to the shape of another one."""
    sizes = zip(reversed(tensor.shape), reversed(other.shape), strict=False)
    if tensor.ndim > other.ndim or any(n not in (1, m) for n, m in sizes):
        raise ValueError(
            f"{name} must have the shape of {reference}, {tuple(other.shape)}, or broadcast to it, got "
            f"{tuple(tensor.shape)}."
        )


def check_same_images(**tensors: torch.Tensor) -> None:
    """Raise a ValueError when tensors ``[B, ?, *S]`` differ in B or S from the first one, or have an empty axis."""
    reference, first = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        check_axes("[B, ?, *S]", 2, **{name: tensor})
        if (tensor.shape[0], tensor.shape[2:]) != (first.shape[0], first.shape[2:]):
            raise ValueError(
                f"{name} must agree with {reference} in all axes but the second, got {tuple(tensor.shape)} and "
                f"{tuple(first.shape)}."
            )


def _check(name: str, value: Any, fits: Fits, expected: str) -> None:
    if not fits(value):
        parts = value if _is_sequence(value) else [value]
        infinite = any(isinstance(part, Real) and not math.isfinite(part) for part in parts)
        raise (ValueError if infinite else TypeError)(f"{name} must be {expected}, got {_shown(value)}.")


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"a {type(value).__name__} of shape {tuple(value.shape)} and type {value.dtype}"
    text = repr(value)
    return text if len(text) <= 60 else type(value).__name__


@cache
def _kinds(annotated: Callable) -> dict[str, tuple[Fits, str]]:
    """Of each annotated argument, what fits it and how that is called."""
    hints = typing.get_type_hints(annotated)
    return {name: _kind(hint) for name, hint in hints.items() if name != "return"}


def _kind(hint: Any) -> tuple[Fits, str]:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [_kind(part) for part in parts]
        names = sorted(dict.fromkeys(name for _, name in kinds), key=lambda name: "sequence" in name)
        return lambda value: any(fits(value) for fits, _ in kinds), " or ".join(names)
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Sequence) and not hasattr(kind, "_fields"):
        fits, name = _kind(parts[0]) if parts else _SIMPLE[Any]
        return lambda value: _is_sequence(value) and all(map(fits, value)), f"a sequence, each {name}"
    if kind is Callable:
        return callable, "callable"
    if isinstance(kind, type) and not getattr(kind, "_is_protocol", False):
        fields = getattr(kind, "_fields", None)
        name = f"a {kind.__name__}" if fields is None else f"{kind.__name__}({', '.join(fields)})"
        return lambda value: isinstance(value, kind), name
    return _SIMPLE[Any]


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


_SIMPLE: dict[Any, tuple[Fits, str]] = {
    Any: (lambda value: True, "anything"),
    types.NoneType: (lambda value: value is None, "None"),
    bool: (lambda value: isinstance(value, bool | np.bool_), "True or False"),
    int: (lambda value: isinstance(value, Integral) and not isinstance(value, bool), "an integer"),
    float: (_is_number, "a finite number"),
    str: (lambda value: isinstance(value, str), "text"),
    torch.Tensor: (
        lambda value: isinstance(value, torch.Tensor) and not value.is_complex(),
        "a tensor of real numbers",
    ),
}
