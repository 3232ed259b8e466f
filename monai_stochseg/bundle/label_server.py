# SPDX-License-Identifier: Apache-2.0
"""What a packed bundle gives MONAI Label, whose server knows one file an image and logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Invertd

from monai_stochseg.bundle.saving import is_invertible
from monai_stochseg.data import CaseError
from monai_stochseg.distributions.masked import background_outside
from monai_stochseg.tasks import Task
from monai_stochseg.tasks.volumes import VolumeTask

__all__ = ["ServerAnswer", "ServerCase"]


class ServerCase:
    """
    The pre-processing of an image of MONAI Label: one file with all channels, in their order, becomes ``image`` and, of
    a brain, ``mask``. What else the request holds is kept.

    Args:
        task: of volumes: its cases are lists of files.
        preprocessing: from a case to ``image``.

    Raises:
        CaseError: when called, for a task whose cases are no volumes.
    """

    def __init__(self, task: Task, preprocessing: Callable) -> None:
        self.task = task
        self.preprocessing = preprocessing

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """
        Args:
            data: the request, with the path ``image``.
        """
        if not isinstance(self.task, VolumeTask):
            raise CaseError(f"MONAI Label gives one file an image, but task {self.task.name} reads other files.")
        return {**data, **self.preprocessing(self.task.image_case([str(data["image"])]))}


class ServerAnswer:
    """
    The post-processing of logits for MONAI Label: ``pred`` ``[C, *S]`` becomes the label map ``[1, *S]``, uint8, on the
    image's grid, background outside the ``mask``, as the bundle's own inference gives it.

    Args:
        preprocessing: what is inverted.
    """

    def __init__(self, preprocessing: Callable) -> None:
        invertible = is_invertible(preprocessing)
        self.invert = Invertd("pred", preprocessing, "image", nearest_interp=False) if invertible else None

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """
        Args:
            data: has ``image`` and ``pred``, and may have ``mask``.
        """
        d = dict(data)
        logits = torch.as_tensor(d["pred"]).float()[None]
        if d.get("mask") is not None:
            logits = background_outside(logits, torch.as_tensor(d["mask"])[None].to(logits.device) > 0)
        image = d["image"]
        pred = MetaTensor(logits.softmax(1)[0], meta=image.meta, applied_operations=image.applied_operations)
        if self.invert is not None:
            pred = self.invert({"image": image, "pred": pred})["pred"]
        d["pred"] = pred.argmax(0, keepdim=True).to(torch.uint8)
        return d
