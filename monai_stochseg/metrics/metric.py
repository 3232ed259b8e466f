# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from monai.metrics import CumulativeIterationMetric
from monai.utils import MetricReduction

from monai_stochseg.distributions import weights_of
from monai_stochseg.distributions.arguments import check_arguments, check_option

from .reduction import reduce_metric

__all__ = ["ItemMetric"]

# Weights that differ less, as a part of the greatest, are uniform up to rounding.
_ROUNDING = 1e-5

Maps = torch.Tensor | Sequence[torch.Tensor]


class ItemMetric(CumulativeIterationMetric):
    """
    Base of the metrics that give each item a value, or one per class, which may be undefined (NaN).

    A subclass implements ``_compute_tensor``, which returns ``[B, C]`` (C = 1 without classes). Accumulation and the
    gathering over processes are MONAI's, see :py:class:`monai.metrics.metric.CumulativeIterationMetric`. All arguments
    of a call, keyword arguments included, have one row per item or are None; in a list the items may differ in shape.

    The maps of ``y_pred`` or ``y`` may carry their weights, see :py:func:`monai_stochseg.distributions.with_weights`,
    so that MONAI's ``IgniteMetricHandler``, which passes no keyword, gives the weighted value. A metric that knows no
    weights of these maps raises an error unless they are uniform.

    Args:
        reduction: how to reduce the items, one of :py:class:`monai.utils.enums.MetricReduction`. Undefined items are
            left out; where all are, the result is NaN.
        get_not_nans: whether ``aggregate`` returns ``(value, not_nans)``, the latter being the number of defined items.

    Raises:
        ValueError: when ``reduction`` is unknown.
    """

    # The arguments whose maps may have weights: _compute_tensor takes ``<name>_weights``.
    weighted: ClassVar[tuple[str, ...]] = ()

    # Whether the metric judges one set of maps, y_pred, and takes no y.
    one_set: ClassVar[bool] = False

    @check_arguments
    def __init__(self, reduction: MetricReduction | str = MetricReduction.MEAN, get_not_nans: bool = False) -> None:
        super().__init__()
        self.reduction = check_option("reduction", reduction, MetricReduction)
        self.get_not_nans = get_not_nans

    @check_arguments
    def __call__(self, y_pred: Maps, y: Maps | None = None, **kwargs: Any) -> torch.Tensor:
        """
        Compute the value of each item and add it to the buffer.

        Args:
            y_pred: ``[B, ...]``, or a list of B items without the first axis.
            y: likewise; None for a metric of one set.
            kwargs: further arguments of the metric, such as ``y_pred_weights`` and ``y_weights``.

        Returns:
            ``[B, C]``.

        Raises:
            ValueError: when maps carry weights that the metric does not know or that are given by keyword as well, or
                ``y`` is given to a metric of one set.
        """
        if self.one_set:
            self._refuse_second(y_pred, y)
            y = None
        given = {"y_pred": y_pred, "y": y}
        for name, maps in given.items():
            kwargs = self._with_carried_weights(name, maps, kwargs)
        return super().__call__(**given, **kwargs)

    def _refuse_second(self, y_pred: Maps, y: Maps | None) -> None:
        """Of one set ``y`` is None or, because MONAI's handler always passes a pair, the same maps again."""
        if y is not None and (len(y) != len(y_pred) or not all(map(_share_memory, y_pred, y))):
            raise ValueError(
                f"y must be None, for {type(self).__name__} judges one set of maps: call it with y_pred alone; "
                "in an IgniteMetricHandler let output_transform name its key twice, such as "
                'from_engine(["samples", "samples"]), or return (maps, None).'
            )

    def _with_carried_weights(self, name: str, maps: Maps | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The keyword arguments of a call and the weights that the maps of one argument carry."""
        if isinstance(maps, torch.Tensor):
            carried = weights_of(maps)
            weights = carried if carried is None else torch.atleast_2d(torch.as_tensor(carried))
            found = [] if weights is None else [weights]
        else:
            weights = [weights_of(item) for item in maps or ()]
            found = [torch.as_tensor(row) for row in weights if row is not None]
        if not found:
            return kwargs
        argument = f"{name}_weights"
        if name not in self.weighted:
            if not all(map(_are_uniform, found)):
                raise ValueError(
                    f"{type(self).__name__} knows no weights of the maps in {name}, and they carry weights that are "
                    "not uniform: draw maps that weigh the same, or drop the weights of 0 with their maps."
                )
            return kwargs
        if kwargs.get(argument) is not None:
            raise ValueError(f"{argument} is given twice, by keyword and with the maps in {name}: drop one of them.")
        return {**kwargs, argument: weights}

    def _compute_list(self, y_pred: Maps, y: Maps | None = None, **kwargs: Any) -> torch.Tensor:
        """As MONAI's, which hands every item the whole batch's ``kwargs`` and stops at the end of the shorter list."""
        given = {"y_pred": y_pred, "y": y, **kwargs}
        rows = {name: value for name, value in given.items() if value is not None}
        lengths = {name: len(value) for name, value in rows.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"all arguments must have one entry per item, got lengths {lengths}.")
        values = []
        for item in range(len(y_pred)):
            entries = {name: value[item] for name, value in rows.items() if value[item] is not None}
            one = {name: torch.as_tensor(entry).detach().unsqueeze(0) for name, entry in entries.items()}
            values.append(self._compute_tensor(**one))
        return torch.cat(values)

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


def _are_uniform(weights: torch.Tensor) -> bool:
    """Whether the weights ``[..., K]`` are equal within each row."""
    weights = weights.double()
    return bool((weights.amax(-1) - weights.amin(-1) <= _ROUNDING * weights.amax(-1)).all())


def _share_memory(x: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether two tensors are views of the same values: the handler makes a view of each item."""
    return (x.data_ptr(), x.shape, x.stride()) == (y.data_ptr(), y.shape, y.stride())
