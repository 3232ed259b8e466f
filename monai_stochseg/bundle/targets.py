# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from monai.transforms import Compose, Lambdad

from monai_stochseg.bundle.checks import check_raters
from monai_stochseg.tasks import Task
from monai_stochseg.tasks.answer_metrics import drop_empty_raters
from monai_stochseg.transforms import LabelSmoothingd, RandRaterd, SVLSd

_OF_SEVERAL = ("all", "moh", "msvls")


def label_target(
    task: Task,
    target: str,
    alpha: float = 0.1,
    sigma: float = 1.0,
    kernel_size: int = 3,
    spacing: Any = None,
) -> Compose:
    """
    The transform that makes the raters' ``label`` ``[R, *S]`` the soft target ``[C, *S]`` of a training (Islam and
    Glocker 2021, https://arxiv.org/abs/2104.05788).

    Args:
        task: what is asked; it says how many classes there are, and whether a rater who drew nothing is missing.
        target: of one rater ``onehot``, ``ls`` (label smoothing) or ``svls``; of several ``one`` (the first rater's
            one-hot), ``all`` (that of a rater drawn anew each time), ``moh`` (the mean of the one-hots) or ``msvls``.
        alpha: of label smoothing.
        sigma: of SVLS.
        kernel_size: of SVLS.
        spacing: of SVLS, see :py:class:`monai_stochseg.transforms.SVLS`.

    Raises:
        ValueError: for another target, or a target of several raters where the task has one.
    """
    num_classes = task.num_classes
    one_hot = SVLSd("label", num_classes, smooth=False)
    svls = SVLSd("label", num_classes, sigma, kernel_size, spacing)
    targets: Mapping[str, list[Callable]] = {
        "onehot": [one_hot],
        "ls": [LabelSmoothingd("label", num_classes, alpha)],
        "svls": [svls],
        "one": [_first_rater, one_hot],
        "all": [RandRaterd("label"), one_hot],
        "moh": [one_hot],
        "msvls": [svls],
    }
    if target not in targets:
        raise ValueError(f"target must be one of {', '.join(targets)}, got {target!r}.")
    if target in _OF_SEVERAL:
        check_raters(task, f"target {target!r}")
    present = [Lambdad("label", drop_empty_raters)] if task.nonempty_raters else []
    return Compose([*present, *targets[target]])


def _first_rater(data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """The ``label`` of the first rater who is there."""
    d = dict(data)
    weights = d.pop("rater_weights", None)
    first = 0 if weights is None else int(weights.gt(0).int().argmax())
    d["label"] = d["label"][first : first + 1]
    return d
