# SPDX-License-Identifier: Apache-2.0
"""The public surface: each name has a docstring and one home, and no function has more than 12 parameters."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import monai_stochseg

ROOT = Path(monai_stochseg.__file__).parent
MAX_PARAMETERS = 12


def packages() -> list[ModuleType]:
    found = pkgutil.walk_packages([str(ROOT)], "monai_stochseg.")
    return [monai_stochseg, *(importlib.import_module(info.name) for info in found if info.ispkg)]


def public_objects() -> Iterator[tuple[str, str, object]]:
    for package in packages():
        for name in package.__all__:
            yield package.__name__, name, getattr(package, name)


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Each function and method of the package with its place, from the source."""
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", node


def number_of_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters that a caller may give; self and cls do not count."""
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_no_package_lists_a_name_twice() -> None:
    for package in packages():
        assert len(set(package.__all__)) == len(package.__all__), package.__name__


def test_every_public_class_and_function_has_a_docstring() -> None:
    without = [
        f"{package}.{name}"
        for package, name, value in public_objects()
        # not inspect.getdoc, which takes the docstring of a parent class
        if isinstance(value, (type, ModuleType)) or inspect.isroutine(value)
        if not (value.__doc__ or "").strip()
    ]
    assert not without


def test_every_public_name_has_one_home() -> None:
    homes: dict[str, list[str]] = {}
    for package, name, _ in public_objects():
        homes.setdefault(name, []).append(package)
    assert not {name: packages for name, packages in homes.items() if len(packages) > 1}


def test_a_public_object_has_one_name() -> None:
    """The same class or function under two names must be learned twice."""
    names: dict[int, list[str]] = {}
    for package, name, value in public_objects():
        if isinstance(value, type) or inspect.isroutine(value):
            names.setdefault(id(value), []).append(f"{package}.{name}")
    assert not [same for same in names.values() if len(same) > 1]


def test_no_function_has_too_many_parameters() -> None:
    """Constructors may have more: they hold the options of a network or of an object."""
    too_many = {
        place: number_of_parameters(function)
        for place, function in functions()
        if function.name != "__init__" and number_of_parameters(function) > MAX_PARAMETERS
    }
    assert not too_many


@pytest.mark.parametrize(
    ("source", "number"),
    [
        ("def f(a, /, b, *c, d=0, **e): ...", 3),
        ("def f(self, a): ...", 1),
        ("async def f(cls): ...", 0),
    ],
)
def test_parameters_are_counted(source, number) -> None:
    (function,) = ast.parse(source).body
    assert number_of_parameters(function) == number
