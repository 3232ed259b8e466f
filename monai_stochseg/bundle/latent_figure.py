# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Sequence

from monai.utils import CommonKeys

from monai_stochseg.bundle.figure_case import case_of_trained
from monai_stochseg.bundle.options import Options
from monai_stochseg.data import new_file
from monai_stochseg.engines import StochasticEvaluator
from monai_stochseg.networks.nets import ProbabilisticUNet
from monai_stochseg.tasks import Task
from monai_stochseg.visualize import plot_latent_modes, plot_latent_plane


def save_latent_plane(
    evaluator: StochasticEvaluator,
    task: Task,
    options: Options,
    part: str,
    checkpoint: str | None,
    dims: Sequence[int] = (0, 1),
    grid: int = 15,
    case: int = 0,
) -> None:
    """
    Save ``latent_<part>.png`` in the output folder: what a plane of a Probabilistic U-Net's latent space decodes to for
    one case. Where all modes of the truth are known, it shows which mode is where, see
    :py:func:`monai_stochseg.visualize.plot_latent_modes`; else where the raters lie, see
    :py:func:`monai_stochseg.visualize.plot_latent_plane`.

    Args:
        evaluator: its network, a Probabilistic U-Net, and its cases are taken.
        task: what is asked.
        options: where and how to run.
        part: whose cases the evaluator has; names the file.
        checkpoint: the weights.
        dims: the two dimensions of the latent; the others stay at the prior's mean.
        grid: number of latents along each dimension.
        case: index of the case.

    Raises:
        TypeError: when the network is another one.
        ValueError: without a checkpoint, or when there is no such case.
    """
    network = evaluator.network
    if not isinstance(network, ProbabilisticUNet):
        raise TypeError(f"network must be a ProbabilisticUNet, got a {type(network).__name__}.")
    item = case_of_trained(evaluator, task, checkpoint, case)
    image, label = (item[key].to(options.device) for key in (CommonKeys.IMAGE, CommonKeys.LABEL))
    drawing = {key: task.figure[key] for key in ("indexing", "colours") if key in task.figure}
    if "mode_frequency" in task.metric_names:  # the label is all modes
        figure = plot_latent_modes(
            network, image, label, task.distance, dims, grid, title=task.figure.get("title"), **drawing
        )
    else:
        figure = plot_latent_plane(network, image, label, dims, grid, **drawing)
    with new_file(os.path.join(options.output_dir, f"latent_{part}.png")) as temporary:
        figure.savefig(temporary, dpi=130)
