# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.metrics import CumulativeIterationMetric
from monai.utils import CommonKeys, ImageMetaKey

from monai_stochseg.data import write_csv
from monai_stochseg.data.dealt_batches import gather, in_order
from monai_stochseg.metrics import PooledMetric

#: Rows of the table that are no cases.
SUMMARY_ROWS = ("mean", "std", "standard_error")


class CaseTable:
    """
    Writes the metrics of an evaluation to one CSV file: one row per case, those of all processes in their order, then
    the mean over the cases with a value. A metric whose value is no mean over cases has that value in the row of the
    mean, and NaN in the others. The file appears whole or not at all, and a name that a spreadsheet would take for a
    formula gets an apostrophe.

    Args:
        filename: the CSV file.
        metrics: MONAI metrics that the evaluator updates, by name. A metric with several columns names them in its
            attribute ``names``.
        image_key: key of the image in the batch, whose file name names the case.
        std: whether a further row has the standard deviation over the cases with a value, divided by their number.
        standard_error: whether a further row has the standard error of the mean: the standard deviation over the n
            cases with a value, divided by n - 1, over the square root of n.

    Raises:
        ValueError: when two columns have the same name.
    """

    def __init__(
        self,
        filename: str,
        metrics: Mapping[str, CumulativeIterationMetric],
        image_key: str = CommonKeys.IMAGE,
        std: bool = False,
        standard_error: bool = False,
    ) -> None:
        columns = [label for name, metric in metrics.items() for label in _columns(name, metric)]
        if twice := sorted({label for label in columns if columns.count(label) > 1}):
            raise ValueError(f"metrics must name each column once, got {twice} more than once.")
        self.filename = Path(filename)
        self.metrics = metrics
        self.image_key = image_key
        self.std = std
        self.standard_error = standard_error
        self._cases: list[list[str]] = []
        self._values: dict[str, torch.Tensor] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._name_cases)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self._cases = []

    def _name_cases(self, engine: Engine) -> None:
        files = [Path(str(item[self.image_key].meta[ImageMetaKey.FILENAME_OR_OBJ])) for item in engine.state.output]
        self._cases.append([file.name.removesuffix(".gz").removesuffix(".nii") for file in files])

    def _write(self, engine: Engine) -> None:
        batches = gather(self._cases)
        gathered = [case for own in batches for batch in own for case in batch]  # by rank, as metrics are
        cases = list(dict.fromkeys(in_order(batches)))  # another sampler may repeat a case to fill the last round
        rows = [gathered.index(case) for case in cases]
        columns: dict[str, list[float]] = {}
        pooled: dict[str, float] = {}
        for name, metric in self.metrics.items():
            if isinstance(metric, PooledMetric):
                pooled[name] = float(metric.aggregate())
                columns[name] = [math.nan] * len(cases)
                continue
            values: Any = metric.get_buffer()  # gathered over the processes
            for label, column in zip(_columns(name, metric), values.float().cpu().unbind(1), strict=True):
                columns[label] = column[rows].tolist()
        if engine.state.rank != 0:
            return
        table = torch.tensor(list(columns.values())).reshape(len(columns), len(cases))
        mean = table.nanmean(1)
        summary = {"mean": mean}
        squares = (table - mean[:, None]).square()
        if self.std:
            summary["std"] = squares.nanmean(1).sqrt()
        if self.standard_error:
            number = (~table.isnan()).sum(1)
            variance = squares.nansum(1) / (number - 1)  # 0 / 0 of a single case is NaN
            summary["standard_error"] = (variance / number).sqrt().masked_fill(number < 2, torch.nan)
        for row, label in enumerate(columns):
            if label in pooled:
                mean[row] = pooled[label]
        values_by_row = [*zip(cases, *columns.values(), strict=True), *((k, *v.tolist()) for k, v in summary.items())]
        table_rows = [[name, *(f"{value:.6g}" for value in values)] for name, *values in values_by_row]
        write_csv(self.filename, [["case", *columns], *table_rows])
        for label, value in zip(columns, mean.tolist(), strict=True):
            of = "over all" if label in pooled else "mean of"
            engine.logger.info(f"{label}: {value:.4f} ({of} {len(cases)} cases)")
        engine.logger.info(f"Wrote {self.filename}.")


def _columns(name: str, metric: CumulativeIterationMetric) -> Sequence[str]:
    """The names of a metric's columns in the table."""
    return [name] if isinstance(metric, PooledMetric) else getattr(metric, "names", None) or [name]
