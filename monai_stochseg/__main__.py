# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_stochseg COMMAND``, with MONAI's own way of options; ``--help`` lists the commands."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import fire

from .benchmark import BenchmarkError, benchmark
from .data import CaseError
from .data.lidc import import_lidc, prepare_lidc
from .planning import plan
from .tasks.mode_frequencies import mode_frequencies


def prepare(out: str, dicom_dir: str | None = None, prepared_set: str | None = None, **options: Any) -> str:
    """
    Make a folder of LIDC-IDRI's crops with up to four readers' masks; docs/lidc.md describes it.

    Give one of the two sources, and its options. --dicom_dir takes --spatial_dims (2 or 3), --spatial_size, --spacing
    (mm), --min_raters, --crowded, --max_slice_thickness (mm), --missing (error or skip), --readings and --progress of
    monai_stochseg.data.lidc.prepare_lidc; --prepared_set takes --spacing (mm) and --progress.

    Args:
        out: the folder to write; an earlier one is replaced.
        dicom_dir: the DICOM folder as TCIA delivers it.
        prepared_set: data_lidc.pickle or the folder of PNG that people share.

    Returns:
        The folder's path.

    """
    if (dicom_dir is None) == (prepared_set is None):
        raise CaseError("prepare: give one of --dicom_dir and --prepared_set.")
    function: Callable[..., str] = prepare_lidc if prepared_set is None else import_lidc
    arguments = (str(dicom_dir if prepared_set is None else prepared_set), str(out))
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError as error:
        raise CaseError(f"prepare: {error}; see python -m monai_stochseg prepare --help.") from None
    return function(*arguments, **options)


COMMANDS: dict[str, Callable[..., Any]] = {
    "benchmark": benchmark,
    "mode_frequencies": mode_frequencies,
    "plan": plan,
    "prepare": prepare,
}


def main(command: Sequence[str] | None = None) -> None:
    """
    Run one command.

    Args:
        command: its words, those of the command line where None.

    Raises:
        SystemExit: When an option or the data are wrong, or a file or a package is missing: with one line that says so,
            and no traceback.

    """
    try:
        fire.Fire(COMMANDS, command=command, name="monai_stochseg")
    except (BenchmarkError, CaseError, FileExistsError, FileNotFoundError, ImportError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
