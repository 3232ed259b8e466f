# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from monai.metrics.utils import do_metric_reduction
from monai.utils import MetricReduction

from monai_stochseg.distributions.arguments import check_arguments, check_option

__all__ = ["reduce_metric"]


@check_arguments
def reduce_metric(
    values: torch.Tensor, reduction: MetricReduction | str = MetricReduction.MEAN
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Reduce metric values over the items of a data set, leaving undefined ones (NaN) out.

    As :py:func:`monai.metrics.utils.do_metric_reduction`, except that the result is NaN and not 0 where no value is
    defined, and that ``values`` is left as it was.

    Args:
        values: ``[B, C]``, one row an item, one column a class (one column where there are no classes).
        reduction: one of :py:class:`monai.utils.enums.MetricReduction`; ``"none"`` returns ``values``.

    Returns:
        the reduced values and the number of defined values that each was made from.

    Raises:
        ValueError: when ``values`` has fewer than two axes, or ``reduction`` is unknown.

    Example::

        >>> reduce_metric(torch.tensor([[1.0], [float("nan")], [0.5]]))
        (tensor([0.7500]), tensor(2.))
    """
    if values.ndim < 2:
        raise ValueError(f"values must have an item and a class axis, [B, C], got shape {tuple(values.shape)}.")
    reduction = check_option("reduction", reduction, MetricReduction)
    reduced, not_nans = do_metric_reduction(values.clone(), reduction)
    if reduction == MetricReduction.NONE:
        return reduced, not_nans
    return torch.where(not_nans > 0, reduced, torch.nan), not_nans
