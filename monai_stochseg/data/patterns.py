# SPDX-License-Identifier: Apache-2.0
"""Which file is what: patterns of paths with names in braces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .case import CaseError

#: What a pattern may name: the case, the channel of its image, the rater, the structure of a mask, and the person.
FIELDS = ("case", "modality", "rater", "structure", "subject")
_FIELD = re.compile(r"\{([^{}]*)\}|(\*)|(\?)")


class MatchedFile(NamedTuple):
    """
    A file that fits a pattern.

    Args:
        path: as it was given.
        fields: what stands in the place of each name of the pattern.
    """

    path: str
    fields: Mapping[str, str]


def pattern_fields(pattern: str) -> list[str]:
    """
    The names in braces of a pattern, each once, in their order.

    Args:
        pattern: see :py:func:`match_pattern`.

    Raises:
        CaseError: if a name is not one of ``FIELDS``.

    Example::

        >>> pattern_fields("{case}/{case}_{modality}.nii*")
        ['case', 'modality']
    """
    names = list(dict.fromkeys(name for name, star, any_ in _FIELD.findall(pattern) if not star and not any_))
    for name in names:
        if name not in FIELDS:
            raise CaseError(f"pattern {pattern!r} names {{{name}}}; it may name {', '.join(FIELDS)}.")
    return names


def match_pattern(
    pattern: str, files: Iterable[str], known: Mapping[str, Sequence[str]] | None = None
) -> list[MatchedFile]:
    """
    Find the files whose path ends as a pattern says.

    In a pattern ``{case}``, ``{modality}``, ``{rater}``, ``{structure}`` and ``{subject}`` stand for one or more
    characters of one path component, ``*`` for any number and ``?`` for one. A name that occurs twice stands for the
    same characters; of two names side by side the first takes as much as it can.

    Args:
        pattern: of the end of a path, from the beginning of a path component.
        files: paths with ``/``.
        known: for a name all that it may stand for. Default: anything.

    Raises:
        CaseError: if a name in braces is unknown.

    Example::

        >>> match_pattern("{case}/{case}_{modality}.nii*", ["/data/BraTS_1/BraTS_1_t2.nii.gz"])[0].fields
        {'case': 'BraTS_1', 'modality': 't2'}
    """
    seen: set[str] = set()
    pattern_fields(pattern)

    def expression(found: re.Match) -> str:
        if found[2] or found[3]:
            return "[^/]*" if found[2] else "[^/]"
        if found[1] in seen:
            return f"(?P={found[1]})"
        seen.add(found[1])
        what = "|".join(re.escape(value) for value in (known or {}).get(found[1], ())) or "[^/]+"
        return f"(?P<{found[1]}>{what})"

    parts, end = [], 0
    for found in _FIELD.finditer(pattern):
        parts += [re.escape(pattern[end : found.start()]), expression(found)]
        end = found.end()
    compiled = re.compile("(?:^|/)" + "".join(parts) + re.escape(pattern[end:]) + "$")
    return [MatchedFile(file, match.groupdict()) for file in files if (match := compiled.search(file))]


def group_by_case(
    pattern: str, files: Iterable[str], known: Mapping[str, Sequence[str]] | None = None
) -> dict[str, list[MatchedFile]]:
    """The files that fit a pattern with ``{case}``, by case; see :py:func:`match_pattern`."""
    found: dict[str, list[MatchedFile]] = {}
    for file in match_pattern(pattern, files, known):
        found.setdefault(file.fields["case"], []).append(file)
    return found
