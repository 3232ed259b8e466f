# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_stochseg COMMAND``, with MONAI's own way of options; ``--help`` lists the commands."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

#: Module, and what the command does, by its name, which is that of the function in the module too. A module is imported
#: when its command is run: all of MONAI takes seconds.
COMMANDS: dict[str, tuple[str, str]] = {
    "benchmark": ("monai_stochseg.benchmark", "train every method on one task and compare them in one table"),
    "bundle": ("monai_stochseg.bundle.copies", "copy a bundle and the tasks' overlays into the working folder"),
    "compare": ("monai_stochseg.benchmark.compare", "test whether two evaluations differ, case by case"),
    "explore": ("monai_stochseg.explore", "show the samples of each case in the browser, or in one HTML file"),
    "mode_frequencies": ("monai_stochseg.tasks.mode_frequencies", "draw several evaluations' frequencies of the modes"),
    "pack": ("monai_stochseg.bundle.pack", "make a bundle by MONAI's specification of a trained output"),
    "plan": ("monai_stochseg.planning", "look at a folder of your own readers, and write a configuration that fits it"),
    "prepare": ("monai_stochseg.data.lidc.command", "make a folder of LIDC-IDRI's crops from DICOM or a shared set"),
    "reliability": ("monai_stochseg.tasks.reliability", "draw several evaluations' reliability in one diagram"),
}


def usage() -> str:
    """The commands, a line each."""
    lines = [f"  {name:<18}{what}" for name, (_, what) in COMMANDS.items()]
    first = "usage: python -m monai_stochseg COMMAND [options]; COMMAND --help shows its options"
    return "\n".join([first, "", *lines])


def main(command: Sequence[str] | None = None) -> None:
    """
    Run one command.

    Args:
        command: its words, those of the command line where None.

    Raises:
        SystemExit: When there is no such command, an option or the data are wrong, or a file or a package is missing:
            with one line that says so, and no traceback.

    """
    words = list(sys.argv[1:] if command is None else command)
    if not words or words[0] in ("--help", "-h", "help"):
        print(usage())
        return
    if words[0] not in COMMANDS:
        sys.exit(f"there is no command {words[0]!r}; there are {', '.join(COMMANDS)}.")
    import fire

    from monai_stochseg.data.case import CaseError

    try:
        function = getattr(import_module(COMMANDS[words[0]][0]), words[0])
        _check_options(words[0], words[1:], function)
        fire.Fire({words[0]: function}, command=words, name="monai_stochseg")
    except Exception as error:
        from monai_stochseg.benchmark import BenchmarkError
        from monai_stochseg.networks.export.formats import ExportError

        expected = (BenchmarkError, CaseError, ExportError, FileExistsError, FileNotFoundError, ImportError)
        if not isinstance(error, expected):
            raise
        sys.exit(f"{type(error).__name__}: {error}")


def _check_options(command: str, words: Sequence[str], function: Callable) -> None:
    """Refuse an unknown option now: fire runs the function first, and complains when it is done."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    given = [word[2:].split("=")[0].replace("-", "_") for word in words if word.startswith("--") and word != "--"]
    for name in given:
        if name != "help" and name not in parameters and name.removeprefix("no") not in parameters:
            close = difflib.get_close_matches(name, parameters, n=1)
            known = (
                f"did you mean --{close[0]}?" if close else f"it has {', '.join(f'--{each}' for each in parameters)}."
            )
            sys.exit(f"{command} has no option --{name}; {known}")


if __name__ == "__main__":
    main()
