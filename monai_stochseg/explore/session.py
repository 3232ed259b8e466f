# SPDX-License-Identifier: Apache-2.0
"""What the server knows: the list of cases, and the one that is open."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_stochseg.data import CaseError
from monai_stochseg.explore.live import LiveEditor, LiveFolder
from monai_stochseg.explore.opened_case import OpenedCase
from monai_stochseg.explore.prediction_folder import PredictionFolder
from monai_stochseg.explore.summary import describe_case, summarise
from monai_stochseg.explore.volumes import structure_volumes

__all__ = ["NOTICE", "Session"]

NOTICE = "Research use only. Not for diagnosis."
_HIDDEN = "This cannot be shown; the terminal says why."
_NO_CONTROLS = "There are no controls; the terminal says why."

_logger = logging.getLogger(__name__)


@dataclass
class _Open:
    """The case that is open: its number, itself, its description, and its editor where it has one."""

    number: int
    case: OpenedCase
    description: dict[str, Any]
    editor: LiveEditor | None


class Session:
    """
    The cases of a folder by numbers, which stay while the server runs, and one open case: whatever is asked of another
    one closes it. Calls come from several threads and wait for each other.

    Args:
        folder: of predictions, or of predictions that are made.
        hide_names: whether names never leave the server.
    """

    def __init__(self, folder: PredictionFolder, hide_names: bool = False) -> None:
        self.folder = folder
        self.hide_names = hide_names
        self._names: list[str] = []
        self._open: _Open | None = None
        self._lock = threading.Lock()

    def cases(self) -> dict[str, Any]:
        """The list of cases, read anew."""
        with self._lock:
            names = self.folder.names()
            self._names += [name for name in names if name not in self._names]
            numbers = [self._names.index(name) for name in names]
            return {
                "title": "" if self.hide_names else self.folder.title,
                "notice": NOTICE,
                "hide_names": self.hide_names,
                "live": isinstance(self.folder, LiveFolder),
                "cases": [{"id": number, "name": self.shown_name(number)} for number in numbers],
                "message": self.shown_text(self.folder.message()),
            }

    def shown_name(self, number: int) -> str:
        """The name of a case as the page may show it."""
        return f"case {number + 1}" if self.hide_names else self._names[number]

    def shown_text(self, text: str | None, instead: str = _HIDDEN) -> str | None:
        """A message as the page may show it: one without a name where they are hidden, and the log has the own."""
        if text is None or not self.hide_names:
            return text
        _logger.warning(text)
        return instead

    def describe(self, number: int) -> dict[str, Any]:
        """All about one case."""
        with self._lock:
            return self._opened(number, anew=True).description

    def label_map(self, number: int, layer: str) -> tuple[OpenedCase, np.ndarray]:
        """A case with one of its label maps, ``[V]``."""
        with self._lock:
            case = self._opened(number).case
            return case, case.label_map(layer)

    def values(self, number: int, layer: str) -> tuple[OpenedCase, np.ndarray]:
        """A case with one of its label maps or maps of numbers, ``[V]``."""
        with self._lock:
            case = self._opened(number).case
            return case, case.label_map(layer) if layer in case.layers else case.heat_map(layer)

    def channel(self, number: int, index: int) -> tuple[OpenedCase, np.ndarray]:
        """A case with one channel of its image, ``[V]``."""
        with self._lock:
            case = self._opened(number).case
            return case, case.channel(index)

    def opened(self, number: int) -> OpenedCase:
        """A case that is open."""
        with self._lock:
            return self._opened(number).case

    def edit(self, number: int, settings: str) -> tuple[OpenedCase, np.ndarray, list[float]]:
        """A case with the label map of a choice, ``[V]``, and the volume of each structure in it."""
        with self._lock:
            opened = self._opened(number)
            if opened.editor is None:
                raise CaseError(opened.description["edit_message"] or "There are no controls.")
            labels = opened.editor.label_map(settings)
            case = opened.case
            inside = labels[None, labels > 0]
            volumes = [
                float(structure_volumes(inside, classes, case.voxel_volume)[0])
                for classes in case.record.regions.values()
            ]
            return case, labels, volumes

    def _opened(self, number: int, anew: bool = False) -> _Open:
        """The case of a number; ``anew``: its files are read again where it was open."""
        if not 0 <= number < len(self._names):
            raise CaseError(f"There is no case {number}; reload the list.")
        if self._open is not None and (anew or self._open.number != number):
            self._open = None
        if self._open is None:
            files = self.folder.files(self._names[number])
            case = OpenedCase(files)
            description = {"id": number, "name": self.shown_name(number), **describe_case(case, summarise(case))}
            editor, message = self._editor(case)
            edit = None if editor is None else editor.description()
            self._open = _Open(number, case, {**description, "edit": edit, "edit_message": message}, editor)
        return self._open

    def _editor(self, case: OpenedCase) -> tuple[LiveEditor | None, str | None]:
        if not isinstance(self.folder, LiveFolder):
            message = "Give the explorer --config_file and --checkpoint to change samples here."
            return None, message if case.record.num_samples else None
        try:
            return self.folder.editor(case.files), None
        except CaseError as error:
            return None, self.shown_text(str(error), _NO_CONTROLS)
        except Exception:  # of a network, such as one that needs more memory: the samples are there all the same
            _logger.exception("the network of case %s failed", case.record.name)
            return None, "There are no controls: the network failed, and the terminal says why."
