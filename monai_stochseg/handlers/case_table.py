# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.metrics import CumulativeIterationMetric
from monai.utils import CommonKeys, ImageMetaKey, string_list_all_gather

from monai_stochseg.data import write_csv


class CaseTable:
    """
    Writes the metrics of an evaluation to one CSV file: one row per case, then the mean over the cases with a value.
    The file appears whole or not at all, and a name that a spreadsheet would take for a formula gets an apostrophe.

    Args:
        filename: the CSV file.
        metrics: MONAI metrics that the evaluator updates, by name. A metric with several columns names them in its
            attribute ``names``.
        image_key: key of the image in the batch, whose file name names the case.
        std: whether a last row has the standard deviation over the cases with a value, divided by their number.

    Raises:
        ValueError: when two columns have the same name.
    """

    def __init__(
        self,
        filename: str,
        metrics: Mapping[str, CumulativeIterationMetric],
        image_key: str = CommonKeys.IMAGE,
        std: bool = False,
    ) -> None:
        columns = [label for name, metric in metrics.items() for label in getattr(metric, "names", None) or [name]]
        if twice := sorted({label for label in columns if columns.count(label) > 1}):
            raise ValueError(f"metrics must name each column once, got {twice} more than once.")
        self.filename = Path(filename)
        self.metrics = metrics
        self.image_key = image_key
        self.std = std
        self._cases: list[str] = []
        self._values: dict[str, torch.Tensor] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._name_cases)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self._cases = []

    def _name_cases(self, engine: Engine) -> None:
        for item in engine.state.output:
            name = Path(str(item[self.image_key].meta[ImageMetaKey.FILENAME_OR_OBJ])).name
            self._cases.append(name.removesuffix(".gz").removesuffix(".nii"))

    def _write(self, engine: Engine) -> None:
        gathered = string_list_all_gather(self._cases)
        cases = list(dict.fromkeys(gathered))  # a distributed sampler may repeat a case to fill the last round
        rows = [gathered.index(case) for case in cases]
        columns: dict[str, list[float]] = {}
        for name, metric in self.metrics.items():
            values: Any = metric.get_buffer()  # gathered over the processes, in the order of the cases
            names = getattr(metric, "names", None) or [name]
            for label, column in zip(names, values.float().cpu().unbind(1), strict=True):
                columns[label] = column[rows].tolist()
        if engine.state.rank != 0:
            return
        table = torch.tensor(list(columns.values())).reshape(len(columns), len(cases))
        mean = table.nanmean(1)
        summary = {"mean": mean}
        if self.std:
            summary["std"] = (table - mean[:, None]).square().nanmean(1).sqrt()
        values_by_row = [*zip(cases, *columns.values(), strict=True), *((k, *v.tolist()) for k, v in summary.items())]
        table_rows = [[name, *(f"{value:.6g}" for value in values)] for name, *values in values_by_row]
        write_csv(self.filename, [["case", *columns], *table_rows])
        for label, value in zip(columns, mean.tolist(), strict=True):
            engine.logger.info(f"{label}: {value:.4f} (mean of {len(cases)} cases)")
        engine.logger.info(f"Wrote {self.filename}.")
