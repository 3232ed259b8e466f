# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from functools import partial
from types import TracebackType


def explain_errors(more: Callable[[BaseException], str | None] | None = None) -> None:
    """
    Let the last line of an uncaught exception say what is wrong.

    MONAI wraps whatever fails within a configuration into "Failed to evaluate ConfigExpression": the first cause, which
    names the patient, the id or the term, is printed once more below the traceback. Ctrl-C ends with one line.

    Args:
        more: gives a further line below an exception, or None.
    """
    sys.excepthook = partial(_print_cause_last, more)


def _print_cause_last(
    more: Callable[[BaseException], str | None] | None,
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
) -> None:
    if issubclass(kind, KeyboardInterrupt):  # the user's wish, and where it was is of no use
        print("Interrupted.", file=sys.stderr)
        return
    traceback.print_exception(kind, error, trace)
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if cause is not error:
        print(f"\n{type(cause).__name__}: {cause}", file=sys.stderr)
    if more is not None and (line := more(error)):
        print(f"\n{line}", file=sys.stderr)
