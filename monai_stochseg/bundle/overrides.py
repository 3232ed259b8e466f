# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle import run as bundle_run

# Texts that a user writes where Python wants a literal; MONAI takes them as true, non-empty strings.
_LITERALS = {"true": "True", "false": "False", "none": "'$None'", "null": "'$None'"}


def check_overrides(argv: Sequence[str] | None = None) -> None:
    """
    Refuse overrides of a ``monai.bundle run`` command that MONAI would accept in silence: an id that the configuration
    files do not have, ``false`` for ``False``, which is a true string, a bare ``None``, which is dropped, and a ``#``
    in a name, which becomes ``::``.

    Args:
        argv: the command line; default ``sys.argv``. Commands other than monai.bundle's are not looked at.

    Raises:
        ValueError: names the override, and the ids that resemble it.
    """
    given = given_options(argv)
    if not given.get("config_file"):
        return
    config = ConfigParser.load_config_files(given["config_file"])
    commands = inspect.signature(bundle_run).parameters.keys() | inspect.signature(ConfigWorkflow).parameters.keys()
    for name, value in given.items():
        if name in commands:
            continue
        _check_id(name, config)
        if value is None:
            raise ValueError(f"--{name} None is dropped by MONAI, and the default would stay: write --{name} '$None'.")
        if isinstance(value, str) and value.lower() in _LITERALS:
            literal = _LITERALS[value.lower()]
            raise ValueError(f"--{name} {value} is text and not a value: write --{name} {literal}.")
        for text in _texts(value):
            if "#" in text and not text.startswith(("$", "@", "%")):
                raise ValueError(
                    f"--{name} {text}: MONAI reads '#' as '::', and would take another name. Give one without '#', "
                    "such as a symbolic link."
                )


def given_options(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """
    The options of a ``monai.bundle`` command, those of its ``--args_file`` included; none for another command.

    Args:
        argv: the command line; default ``sys.argv``.
    """
    argv = sys.argv if argv is None else argv
    if len(argv) < 2 or "monai/bundle" not in argv[0].replace("\\", "/"):
        return {}
    given = _options(argv[2:])
    if given.get("args_file"):
        given = {**ConfigParser.load_config_file(given["args_file"]), **given}
    return given


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value, in lists and dictionaries too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _texts(inner)


def _options(args: Sequence[str]) -> dict[str, Any]:
    """``--name value``, ``--name=value`` and ``--name`` as fire reads them."""
    options: dict[str, Any] = {}
    for i, arg in enumerate(args):
        if not _is_option(arg):
            continue
        name, equals, text = arg.lstrip("-").partition("=")
        if not equals:
            followed = i + 1 < len(args) and not _is_option(args[i + 1])
            text = args[i + 1] if followed else "True"
        options[name.replace("-", "_")] = DefaultParseValue(text)
    return options


def _is_option(arg: str) -> bool:
    """fire takes one dash or two, and a negative number is a value."""
    return re.match(r"--?[A-Za-z_]", arg) is not None


def _check_id(name: str, config: dict) -> None:
    """All but the last part of an id must exist: a component may take a new argument, the top level no new id."""
    parts = name.replace("::", "#").split("#")
    node: Any = config
    for depth, part in enumerate(parts):
        known = (
            [str(i) for i in range(len(node))]
            if isinstance(node, list)
            else list(node)
            if isinstance(node, dict)
            else []
        )
        if part not in known:
            if depth and depth == len(parts) - 1 and isinstance(node, dict):
                return
            close = difflib.get_close_matches(part, known, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"known there: {', '.join(sorted(known))}."
            raise ValueError(f"--{name}: the configuration has no id {'#'.join(parts[: depth + 1])}; {hint}")
        node = node[int(part)] if isinstance(node, list) else node[part]
