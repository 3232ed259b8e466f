# SPDX-License-Identifier: Apache-2.0
"""
Calls with one wrong argument: an error names the argument.

`python tests/test_bad_calls.py` prints how many calls of each room are refused by name, die obscurely, or pass.
"""

from __future__ import annotations

import inspect
import re
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from bad_values import wrong_values
from good_calls import Good, good_calls
from permitted import PERMITTED, Permit

from monai_stochseg import distributions, inferers, losses, metrics, networks, transforms
from monai_stochseg.networks import blocks, export, nets

ROOMS = {
    "distributions": [distributions],
    "losses": [losses],
    "metrics": [metrics],
    "transforms": [transforms],
    "networks": [networks, nets, blocks],
    "export": [export],
    "inferers": [inferers],
}
# Bases of classes, which have no instances of their own.
BASES = {"DistanceMetric", "ItemMetric", "PooledMetric", "PredictiveDistribution", "SampleExport"}


class Case(NamedTuple):
    """One call: what is called, with which argument wrong."""

    place: str
    argument: str
    names: tuple[str, ...]
    wrong: str
    value: Any
    call: Callable[[Any], Any]


def public(room: str) -> Iterator[str]:
    """Names of the classes and functions of a room that can be called with a wrong argument."""
    for package in ROOMS[room]:
        for name in package.__all__:
            value = getattr(package, name)
            described = isinstance(value, type) and (issubclass(value, tuple) or getattr(value, "_is_protocol", False))
            if callable(value) and not described and name not in BASES:
                yield name


def _object(name: str) -> Any:
    return next(getattr(package, name) for room in ROOMS.values() for package in room if hasattr(package, name))


def _parameters(function: Callable) -> dict[str, inspect.Parameter]:
    found = inspect.signature(function).parameters
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: parameter for name, parameter in found.items() if parameter.kind in named and name != "self"}


def _arguments(function: Callable, given: dict[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """Name, right value and whether None is right, of each argument."""
    parameters = _parameters(function)
    for name in {**parameters, **given}:
        parameter = parameters.get(name)
        optional = parameter is None or parameter.default is None or "None" in str(parameter.annotation)
        yield name, given.get(name, parameter.default if parameter else None), optional


def _cases(place: str, function: Callable, given: dict[str, Any], call: Callable[[dict], Any]) -> Iterator[Case]:
    """Wrong calls of one function: ``call`` is given all arguments."""
    fields = [part for value in given.values() if hasattr(value, "_fields") for part in value]
    tensors = sum(isinstance(value, torch.Tensor) for value in [*given.values(), *fields])
    for name, good, optional in _arguments(function, given):
        if good is None and name in given:  # is not used by this one
            continue
        if good is None:
            raise AssertionError(f"{place}: give {name} a value in good_calls.py, for its kind is not known.")
        for wrong, value in wrong_values(name, good, optional, alone=tensors == 1):
            yield Case(place, name, (name,), wrong, value, lambda v, name=name: call({**given, name: v}))
        if name == "data":
            parts = {key: (item, lambda v, key=key, good=good: {**good, key: v}) for key, item in good.items()}
        elif hasattr(good, "_fields"):
            parts = {
                key: (getattr(good, key), lambda v, key=key, good=good: good._replace(**{key: v}))
                for key in good._fields
            }
        else:
            continue
        for key, (item, replace) in parts.items():
            for wrong, value in wrong_values(key, item, False, len(parts) == 1):
                yield Case(
                    place,
                    f"{name}.{key}",
                    (key, name),
                    wrong,
                    value,
                    lambda v, name=name, replace=replace: call({**given, name: replace(v)}),
                )


def _method(instance: Any, method: str) -> Callable:
    return instance if method in ("forward", "__call__") else getattr(instance, method)


def cases(name: str, good: Good) -> Iterator[Case]:
    """All wrong calls of a public name."""
    target = _object(name)
    if good.init is None:
        yield from _cases(name, target, dict(good.calls["__call__"]), partial(_call, target))
        return
    init = dict(good.init)
    yield from _cases(name, target.__init__, init, lambda given: _construct(target, given, good))
    for method, given in good.calls.items():
        instance = target(**init)
        function = target.forward if method == "__call__" and hasattr(target, "forward") else getattr(target, method)
        called = _method(instance, method)
        yield from _cases(f"{name}.{method}", function, dict(given), partial(_call, called))


def _call(function: Callable, given: dict[str, Any]) -> Any:
    """Call with arguments by name, but for those of ``*args``."""
    rest = [name for name, p in inspect.signature(function).parameters.items() if p.kind == p.VAR_POSITIONAL]
    if not rest or rest[0] not in given:
        return function(**given)
    named = dict(given)
    positional = named.pop(rest[0])
    positional = positional if isinstance(positional, tuple | list) else [positional]
    first = [named.pop(name) for name in list(inspect.signature(function).parameters) if name in named]
    return function(*first, *positional)


def _construct(target: type, init: dict[str, Any], good: Good) -> None:
    """Construct and call: an argument may be checked when it is first used."""
    instance = target(**init)
    for method, given in good.calls.items():
        _method(instance, method)(**given)


def outcome(case: Case) -> tuple[str, str]:
    """``refused``, ``obscure`` or ``passed``, and the error's text."""
    try:
        case.call(case.value)
    except (ValueError, TypeError, FloatingPointError, KeyError) as error:
        text = f"{type(error).__name__}: {error}"
        # MONAI's error for a key that is not in the data names the key and what to do.
        if case.argument.endswith(("keys", "_key")) and isinstance(error, KeyError) and str(case.value) in text:
            return "refused", text
        named = any(re.search(rf"(?<![\w.]){re.escape(name)}\b", text) for name in case.names)
        ours = not isinstance(error, KeyError) or case.argument.startswith("data")
        return ("refused" if named and ours else "obscure"), text
    except Exception as error:
        return "obscure", f"{type(error).__name__}: {error}"
    return "passed", ""


def permitted(room: str, case: Case) -> list[Permit]:
    """What says that a call may pass."""
    return [permit for permit in PERMITTED if permit.covers(room, case.place, case.argument, case.wrong)]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> dict[str, Good]:
    return good_calls(tmp_path_factory.mktemp("files"))


RUN: set[str] = set()
USED: set[Permit] = set()
NAMES = [(room, name) for room in ROOMS for name in sorted(set(public(room)))]


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_a_wrong_argument_is_refused_by_its_name(room: str, name: str, table: dict[str, Good]) -> None:
    assert name in table, f"give {name} a right call in good_calls.py"
    found = []
    for case in cases(name, table[name]):
        result, text = outcome(case)
        permits = permitted(room, case) if result == "passed" else []
        USED.update(permits)
        if result != "refused" and not permits:
            found.append(f"{case.place}({case.argument}), {case.wrong}: {result} {text[:200]}")
    RUN.add(name)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_the_right_call_runs(room: str, name: str, table: dict[str, Good]) -> None:
    good = table[name]
    if good.init is None:
        _call(_object(name), dict(good.calls["__call__"]))
    else:
        _construct(_object(name), dict(good.init), good)


def test_each_permit_is_of_use() -> None:
    if {name for _, name in NAMES} - RUN:
        pytest.skip("not all names have run")
    assert set(PERMITTED) == USED


def main(rooms: Sequence[str] = ()) -> None:
    """Print the table, and for the rooms named the calls that are not refused."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        table = good_calls(Path(folder))
    print(f"{'room':15s} {'calls':>6s} {'refused':>8s} {'obscure':>8s} {'passed':>7s} {'permitted':>10s}")
    total: Counter[str] = Counter()
    used: set[Permit] = set()
    for room in ROOMS:
        counts: Counter[str] = Counter()
        for name in sorted(set(public(room))):
            for case in cases(name, table[name]):
                result, text = outcome(case)
                permits = permitted(room, case) if result == "passed" else []
                used.update(permits)
                counts["permitted" if permits else result] += 1
                if room in rooms and result != "refused" and not permits:
                    print(f"  {result:8s} {case.place}({case.argument}) {case.wrong}: {text[:120]!r}")
        print(_row(room, counts))
        total += counts
    print(_row("total", total))
    for permit in set(PERMITTED) - used:
        print("no such call:", permit)


def _row(room: str, counts: Counter[str]) -> str:
    columns = [counts.total(), counts["refused"], counts["obscure"], counts["passed"], counts["permitted"]]
    return f"{room:15s} {columns[0]:6d} {columns[1]:8d} {columns[2]:8d} {columns[3]:7d} {columns[4]:10d}"


if __name__ == "__main__":
    main(sys.argv[1:])
