# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    Invertd,
    InvertibleTransform,
    MapTransform,
    SaveImaged,
    SplitDimd,
)
from monai.utils import ImageMetaKey

from monai_stochseg.bundle.nifti_writer import NiftiWriter
from monai_stochseg.bundle.paths import check_path
from monai_stochseg.data.raster import is_raster
from monai_stochseg.distributions.base import plain
from monai_stochseg.distributions.label_maps import most_probable_class
from monai_stochseg.tasks import Task
from monai_stochseg.transforms import MutualInformationd, PredictiveEntropyd, RegionProbabilityd, SaveRasterd


def save_predictions(
    output_dir: str,
    transform: Callable | None,
    task: Task,
    samples: bool = True,
    answer_entropy: bool = False,
    probabilities: bool = True,
    stack_samples: bool = True,
    mutual_information: bool = False,
    compress: bool = True,
) -> Compose:
    """
    Post-processing that saves the single answer, the samples, the predictive entropy and the structures' probabilities
    in the grid of the input: as PNG where the image is one, see :py:class:`monai_stochseg.transforms.SaveRasterd`,
    else as NIfTI. A file appears whole or not at all; one that cannot be written ends the run with an error.

    Args:
        output_dir: where; made when absent.
        transform: the pre-processing, which is inverted; None, or one that changes no grid: nothing is to be inverted.
        task: its regions have a probability each. Of 2D images NIfTI files have the axes ``[H, W, 1, N]``, N being 1
            but for the samples.
        samples: whether there are any.
        answer_entropy: whether to save the entropy of the single answer too, as ``answer_entropy``: the uncertainty
            without a sample, where the answer is a calibration output.
        probabilities: whether to save ``probability_<structure>`` of each structure.
        stack_samples: whether the samples are one NIfTI file, with a 4th axis. False: a file each,
            ``samples_0`` and so on, for viewers of segmentations that take no 4th axis.
        mutual_information: whether to save the mutual information of label and sample, which needs an evaluator with
            ``expected_entropy=True``.
        compress: whether NIfTI files are ``.nii.gz``; ``.nii`` need no compression, and are large.
    """
    output_dir = check_path("output_dir", output_dir)
    entropies = {"probabilities": "entropy", **({"pred": "answer_entropy"} if answer_entropy else {})}
    regions = [f"probability_{name}" for name in task.regions] if probabilities else []
    information = ["mutual_information"] if mutual_information else []
    dtypes = {
        "pred": np.uint8,
        **({"samples": np.uint8} if samples else {}),
        **dict.fromkeys((*entropies.values(), *information, *regions), np.float32),
    }
    inverse: list[Callable] = []
    if transform is not None and is_invertible(transform):
        nearest = [key == "samples" for key in dtypes]
        inverse = [Invertd(list(dtypes), transform, orig_keys="image", nearest_interp=nearest, to_tensor=True)]
    postfixes = ["mode" if key == "pred" else key for key in dtypes]
    in_nats = (*entropies.values(), *information)
    largest = dict.fromkeys(in_nats, math.log(task.num_classes)) | dict.fromkeys(regions, 1.0)
    return Compose(
        [
            PredictiveEntropyd(keys=list(entropies), names=list(entropies.values())),
            *([MutualInformationd("entropy", "expected_entropy", "mutual_information")] if mutual_information else []),
            *([RegionProbabilityd("probabilities", task.regions)] if probabilities else []),
            *inverse,
            answer_of,
            ByFormat(
                raster=SaveRasterd(list(dtypes), output_dir, postfixes, [largest.get(key) for key in dtypes]),
                other=SaveNifti(
                    output_dir, dict(zip(postfixes, dtypes.items(), strict=True)), task, stack_samples, compress
                ),
            ),
        ]
    )


def answer_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """``pred``, probabilities ``[C, *S]``, becomes the most probable class ``[1, *S]``: faster than an argmax."""
    pred = data["pred"]
    labels = most_probable_class(plain(pred)[None])
    return {**data, "pred": MetaTensor(labels, meta=pred.meta, applied_operations=pred.applied_operations)}


class ByFormat:
    """
    Apply one of two transforms, by the file name of the image.

    Args:
        raster: for PNG, JPEG and TIFF.
        other: for all else.
    """

    def __init__(self, raster: Callable, other: Callable) -> None:
        self.raster = raster
        self.other = other

    def __call__(self, data: Mapping[str, Any]) -> Any:
        """Apply it to one item."""
        file = str(data["image"].meta.get(ImageMetaKey.FILENAME_OR_OBJ, ""))
        return (self.raster if is_raster(file) else self.other)(data)


class SaveNifti(MapTransform):
    """
    Save entries of an item as NIfTI by MONAI's ``SaveImaged``.

    Args:
        output_dir: where.
        entries: by the postfix of the file, key and type of an entry.
        task: has the number of dimensions.
        stack_samples: see :py:func:`save_predictions`.
        compress: see :py:func:`save_predictions`.
    """

    def __init__(
        self,
        output_dir: str,
        entries: Mapping[str, tuple[str, Any]],
        task: Task,
        stack_samples: bool,
        compress: bool = True,
    ) -> None:
        super().__init__([key for key, _ in entries.values()])
        self.output_dir = output_dir
        self.entries = entries
        self.spatial_dims = task.spatial_dims
        self.stack_samples = stack_samples
        self.ending = ".nii.gz" if compress else ".nii"

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Save one item."""
        d = dict(data)
        files: list[tuple[Mapping[Any, Any], str, str, Any]] = []
        for postfix, (key, dtype) in self.entries.items():
            if key == "samples" and not self.stack_samples:
                names = [str(number) for number in range(len(d[key]))]
                parts = SplitDimd(key, output_postfixes=names, dim=0, keepdim=True)({key: d[key]})
                files += [(parts, f"{key}_{name}", f"{postfix}_{name}", dtype) for name in names]
            else:
                files.append((d, key, postfix, dtype))
        # zlib lets other threads run
        with ThreadPoolExecutor(min(torch.get_num_threads(), len(files))) as pool:
            list(pool.map(lambda file: self._save(*file), files))
        return d

    def _save(self, data: Mapping[Any, Any], key: str, postfix: str, dtype: Any) -> None:
        SaveImaged(
            keys=key,
            output_dir=self.output_dir,
            writer=NiftiWriter,  # one by name: MONAI would try another after an error
            output_postfix=postfix,
            output_ext=self.ending,
            output_dtype=dtype,
            resample=True,  # MONAI tells its writer the shape only then, and the grid is the input's already
            separate_folder=False,
            squeeze_end_dims=self.spatial_dims == 3,  # MONAI's writer fails on [H, W]
        )({key: data[key]})


def is_invertible(transform: Callable) -> bool:
    """Whether any step can be inverted; MONAI's ``Invertd`` refuses a transform without such a step."""
    steps = transform.flatten().transforms if isinstance(transform, Compose) else [transform]
    return any(isinstance(step, InvertibleTransform) for step in steps)
