# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature

import torch
from monai.metrics import CumulativeIterationMetric
from monai.utils import MetricReduction, look_up_option

from .reduction import reduce_metric
from .weights import WeightedMaps

__all__ = ["ItemMetric"]


class ItemMetric(CumulativeIterationMetric):
    """
    Base of the metrics that give each item a value, or one per class, which may be undefined (NaN).

    A subclass implements ``_compute_tensor``, which returns ``[B, C]`` (C = 1 without classes). Accumulation and the
    gathering over processes are MONAI's, see :py:class:`monai.metrics.metric.CumulativeIterationMetric`. All arguments
    of a call, those by keyword included, have one row an item or are None; in a list the items may differ in shape,
    and an entry of ``y_pred`` or ``y`` may be :py:class:`~.weights.WeightedMaps`.

    Args:
        reduction: how to reduce the items, one of :py:class:`monai.utils.enums.MetricReduction`. Undefined items are
            left out; where all are, the result is NaN.
        get_not_nans: whether ``aggregate`` returns ``(value, not_nans)``, the latter being the number of defined items.

    Raises:
        ValueError: when ``reduction`` is unknown.
    """

    def __init__(self, reduction: MetricReduction | str = MetricReduction.MEAN, get_not_nans: bool = False) -> None:
        super().__init__()
        self.reduction = look_up_option(reduction, MetricReduction)
        self.get_not_nans = get_not_nans

    def _compute_list(
        self,
        y_pred: Sequence[torch.Tensor | WeightedMaps],
        y: Sequence[torch.Tensor | WeightedMaps] | None = None,
        **kwargs: Sequence[torch.Tensor] | None,
    ) -> torch.Tensor:
        """As MONAI's, which hands every item the whole batch's ``kwargs`` and stops at the end of the shorter list."""
        given = {"y_pred": y_pred, "y": y, **kwargs}
        rows = {name: value for name, value in given.items() if value is not None}
        for name, value in rows.items():
            if isinstance(value, WeightedMaps):
                raise TypeError(f"{name} must be a list with one WeightedMaps an item, got a single one.")
        lengths = {name: len(value) for name, value in rows.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"all arguments must have one entry per item, got lengths {lengths}.")
        return torch.cat([self._compute_tensor(**self._arguments(rows, item)) for item in range(len(y_pred))])

    def _arguments(self, rows: Mapping[str, Sequence[torch.Tensor | WeightedMaps]], item: int) -> dict:
        """The arguments of one item, a batch of 1; the weights of maps are an argument of their own."""
        arguments = {}
        for name, value in rows.items():
            entry = value[item]
            if isinstance(entry, WeightedMaps):
                weights = f"{name}_weights"
                if weights not in signature(self._compute_tensor).parameters:
                    raise ValueError(
                        f"{type(self).__name__} knows no weights of the maps in {name}: draw maps that weigh the same."
                    )
                if weights in rows:
                    raise ValueError(f"{weights} is given twice, by keyword and with the maps in {name}.")
                arguments[weights] = entry.weights.detach().unsqueeze(0)
                entry = entry.maps
            arguments[name] = entry.detach().unsqueeze(0)
        return arguments

    def aggregate(
        self, reduction: MetricReduction | str | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """
        Reduce the values of all items met since the last ``reset``, over all processes.

        Args:
            reduction: overrides the ``reduction`` of the class.

        Returns:
            the reduced value, shaped as by :py:func:`monai.metrics.utils.do_metric_reduction`; with ``get_not_nans`` a
            pair, the second being the number of defined items.

        Raises:
            ValueError: when the metric has not been called since the last ``reset``.
        """
        values = self.get_buffer()
        if not isinstance(values, torch.Tensor):
            raise ValueError(f"there is nothing to aggregate: call {self} on at least one batch first.")
        value, not_nans = reduce_metric(values, reduction or self.reduction)
        return (value, not_nans) if self.get_not_nans else value
