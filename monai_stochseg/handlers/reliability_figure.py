# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from monai_stochseg.handlers.metric_figure import MetricFigure
from monai_stochseg.metrics import ExpectedCalibrationErrorMetric
from monai_stochseg.visualize.reliability import plot_reliability

#: Of the file beside the figure: a row a bin, its number of voxels and the sums of their confidence and accuracy.
RELIABILITY_HEADING = ("bin", "count", "confidence", "accuracy")


class ReliabilityFigure(MetricFigure):
    """
    Draws an evaluator's reliability diagram and histogram of the confidence at the end of its run, and writes the bins
    beside it as ``.csv``. Its title says where the metric counts the voxels alone that a rater labels as foreground.

    Args:
        filename: the figure, in any format of matplotlib.
        metric: the calibration error that the evaluator updates.
        name: of the model, in the legend.
        confidence_label: label of the horizontal axis, see :py:func:`monai_stochseg.visualize.plot_reliability`.
    """

    def __init__(
        self,
        filename: str,
        metric: ExpectedCalibrationErrorMetric,
        name: str = "model",
        confidence_label: str = "confidence",
    ) -> None:
        title = "voxels that a rater labels as foreground" if metric.foreground_only else "all voxels"
        super().__init__(
            filename,
            lambda: plot_reliability({name: metric.bins()}, confidence_label, title),
            lambda: [RELIABILITY_HEADING, *([i, *row] for i, row in enumerate(metric.bins().tolist()))],
        )
