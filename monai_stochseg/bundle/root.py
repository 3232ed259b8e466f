# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from monai.bundle import ConfigWorkflow
from monai.utils import ensure_tuple

from monai_stochseg.bundle.copies import bundles_folder
from monai_stochseg.bundle.overrides import given_options

__all__ = ["find_bundle", "root_folder", "running_workflows"]


def find_bundle(name: str) -> str:
    """
    The absolute folder of the bundle that is run: that of its first configuration file, wherever the command is started
    from. So a bundle that is copied works in its copy, under any name.

    A configuration file does not know where it lies. Its folder is that of the ``ConfigWorkflow`` which evaluates this
    call, or of ``--config_file`` on the command line of ``monai.bundle``; overlays stand behind the bundle's own file.
    Without either, as where a ``ConfigParser`` is used by itself, it is the bundle of this name in the working folder
    or among the package's own.

    Args:
        name: the bundle's folder, for instance ``ssn_brats``.

    Raises:
        FileNotFoundError: when there is no configuration file that is run, and neither the working folder nor the
            package holds the bundle.
    """
    for workflow in running_workflows():
        return str(root_folder(workflow.config_root_path))
    files = given_options().get("config_file")
    if files:
        return str(root_folder(Path(ensure_tuple(files)[0]).parent))
    candidates = [Path.cwd() / "bundles" / name, bundles_folder() / name, Path.cwd()]
    for folder in candidates:
        if folder.name == name and (folder / "train.json").is_file():
            return str(folder)
    raise FileNotFoundError(
        f"bundle {name} is in none of {[str(c) for c in candidates]}; python -m monai_stochseg bundle NAME copies one."
    )


def running_workflows() -> Iterator[ConfigWorkflow]:
    """The workflows whose methods are being executed, the innermost first."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, ConfigWorkflow) and hasattr(caller, "config_root_path"):
            yield caller
        frame = frame.f_back


def root_folder(folder: Path) -> Path:
    """The bundle's folder; MONAI's own bundles keep their configurations in a folder ``configs``."""
    folder = folder.resolve()
    return folder.parent if folder.name == "configs" else folder
