# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

from monai.bundle.utils import ID_SEP_KEY

__all__ = ["check_path"]


def check_path(name: str, path: str | os.PathLike[str]) -> str:
    """
    Refuse a folder whose name a configuration has changed: MONAI reads ``#`` in every value as ``::``.

    Args:
        name: of the argument, for the error.
        path: the folder.

    Returns:
        The path as text.

    Raises:
        ValueError: when there is ``::`` in it.
    """
    text = os.fspath(path)
    if ID_SEP_KEY in text:
        raise ValueError(
            f"{name} is {text!r}: MONAI's configurations read '#' as '{ID_SEP_KEY}', and the files would lie in "
            "another folder. Give one without these characters, such as a symbolic link."
        )
    return text
