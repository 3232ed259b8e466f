# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai_stochseg.tasks import Task


class Given(Task):
    """A task of cases that are loaded already, each in every part."""

    simulated = False

    def __init__(self, cases: Sequence[Mapping[str, Any]], *args: Any, num_raters: int = 1, **kwargs: Any) -> None:
        super().__init__("given", 3, ["ct"], *args, **kwargs)
        self.given, self.num_raters = list(cases), num_raters

    def datalist(self, require_label: bool = True) -> list[dict[str, Any]]:
        return [dict(case) for case in self.given]

    def split(self, datalist: Sequence[Mapping[str, Any]]) -> dict[str, list]:
        return {part: list(datalist) for part in ("train", "validation", "test")}

    def load(self, with_label: bool = True) -> list[Callable]:
        return []

    def augmentation(self) -> list[Callable]:
        return []
