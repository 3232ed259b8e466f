# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from abc import abstractmethod

import torch

from .metric import ItemMetric

__all__ = ["PooledMetric"]


class PooledMetric(ItemMetric):
    """
    Base of the metrics whose value is made from all items at once, and not a mean of the items' own values.

    A subclass implements ``_compute_tensor``, which returns the statistics of each item ``[B, K]``, and ``_pool``. The
    statistics are gathered over processes, so that the value does not depend on how the items were spread over them.
    """

    def __init__(self) -> None:
        super().__init__()

    def aggregate(self) -> torch.Tensor:  # type: ignore[override]  # there is no reduction to choose
        """
        The value over all items met since the last ``reset``, over all processes.

        Returns:
            a scalar.

        Raises:
            ValueError: when the metric has not been called since the last ``reset``.
        """
        return self._pool(self._rows())

    def _rows(self) -> torch.Tensor:
        """The statistics ``[items, K]`` of all items, over all processes."""
        rows = self.get_buffer()
        if not isinstance(rows, torch.Tensor):
            raise ValueError(f"there is nothing to aggregate: call {self} on at least one batch first.")
        return rows

    @abstractmethod
    def _pool(self, rows: torch.Tensor) -> torch.Tensor:
        """The scalar value made from the statistics ``[items, K]`` of all items."""
