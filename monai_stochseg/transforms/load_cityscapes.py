# SPDX-License-Identifier: Apache-2.0
"""Load image, label and black-box prediction of one street scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Resize, Transform
from monai.utils import ImageMetaKey
from PIL import Image

from monai_stochseg.distributions.arguments import check_arguments

from ..data.case import CaseError
from ..data.cityscapes import CITYSCAPES_CLASSES, CITYSCAPES_VOID
from ..data.png import check_png


class LoadCityscapesd(Transform):
    """
    Load one scene that :py:func:`monai_stochseg.data.cityscapes_datalist` lists, at a smaller size.

    * ``image``: ``[3, H, W]``, float32, RGB from 0 to 1. MONAI's reader of PNG files would give ``[3, W, H]``. A
      ``prediction`` follows as further channels, ``[3 + K, H, W]``: a ``.npy`` file of ``[K, h, w]``, float16, float32
      or float64 as it is, or uint8 probabilities of 0 to 255, which become 0 to 1; or one of ``[h, w]``, a label map of
      train ids in any integer type, which becomes the 19 one-hot channels of the classes, all 0 where it has 255.
    * ``label``: ``[1, H, W]``, uint8, train ids by the scene's ``label_map``, 255 for void.

    Image and prediction are interpolated linearly, the image with the mean over what a pixel covers; of the label the
    nearest pixel is taken. There is no array version: what is checked is that the parts of a scene fit each other.

    Args:
        spatial_size: H and W; Kohl et al. 2018 have 256 x 512, of 1024 x 2048 in the files.
        with_label: whether to load the label, which must then be there. Without it, a label's path is dropped.

    Raises:
        ValueError: when ``spatial_size`` is not two positive numbers.
        CaseError: when a file cannot be read, image and label differ in shape, the label is missing or holds a value
            that ``label_map`` does not know, or a prediction is of another shape or type, not finite, or a label map
            with other values than train ids.
    """

    @check_arguments
    def __init__(self, spatial_size: Sequence[int] = (256, 512), with_label: bool = True) -> None:
        if len(spatial_size) != 2 or min(spatial_size) < 1:
            raise ValueError(f"spatial_size must be (H, W), at least 1 each, got {list(spatial_size)}.")
        height, width = spatial_size
        self.size = (width, height)  # in the order of PIL
        self.with_label = with_label
        self.resize = Resize(spatial_size, mode="bilinear")

    @check_arguments
    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Load one scene; other entries of ``data`` are kept."""
        d = dict(data)
        scene = d["patient"]
        label_file, label_map, prediction = d.pop("label", None), d.pop("label_map", {}), d.pop("prediction", None)
        if self.with_label and label_file is None:
            raise CaseError(f"scene {scene}: there is no label to load; for inference pass with_label=False.")
        picture = _read(scene, d["image"])
        small = np.asarray(picture.convert("RGB").resize(self.size, Image.Resampling.BILINEAR))
        image = torch.from_numpy(small.transpose(2, 0, 1) / np.float32(255))
        if prediction is not None:
            image = torch.cat([image, self.resize(_prediction(scene, prediction)).as_tensor()])
        arrays = {"image": image}
        if self.with_label:
            labels = _read(scene, label_file)
            if labels.size != picture.size:
                raise CaseError(
                    f"scene {scene}: {label_file} has {labels.size} pixels, but {d['image']} has {picture.size}."
                )
            train_ids = _train_ids(scene, label_file, np.asarray(labels), label_map)
            nearest = Image.fromarray(train_ids).resize(self.size, Image.Resampling.NEAREST)
            arrays["label"] = torch.from_numpy(np.array(nearest))[None]
        meta = {ImageMetaKey.FILENAME_OR_OBJ: f"{scene}.png"}
        return d | {key: MetaTensor(array, meta=dict(meta)) for key, array in arrays.items()}


def _read(scene: str, file: str) -> Image.Image:
    try:
        check_png(file)
        with Image.open(file) as image:
            image.load()
            return image
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError is PIL's for a broken chunk
        raise CaseError(f"scene {scene}: {file} cannot be read ({error}).") from None


def _train_ids(scene: str, file: str, values: np.ndarray, label_map: Mapping[int, int]) -> np.ndarray:
    """``[h, w]`` uint8."""
    if values.ndim != 2 or values.dtype != np.uint8:
        raise CaseError(f"scene {scene}: {file} has the shape {values.shape} and type {values.dtype}, not 8 bit grey.")
    classes = {int(value): int(to) for value, to in label_map.items()}  # the keys of a JSON object are strings
    found = np.flatnonzero(np.bincount(values.flat, minlength=256))
    if unknown := sorted(set(found.tolist()) - set(classes)):
        raise CaseError(f"scene {scene}: {file} has the label {unknown[0]}, which is not one of {sorted(classes)}.")
    table = np.zeros(256, np.uint8)
    table[list(classes)] = list(classes.values())
    return table[values]


def _prediction(scene: str, file: str) -> torch.Tensor:
    """``[K, h, w]`` float32."""
    try:
        values = np.load(Path(file))
    except (OSError, EOFError, ValueError) as error:
        raise CaseError(f"scene {scene}: {file} cannot be read ({error}).") from None
    if values.ndim == 2 and values.dtype.kind in "iu":
        return _one_hot(scene, file, values)
    if values.ndim != 3 or not (values.dtype == np.uint8 or values.dtype.kind == "f"):
        raise CaseError(
            f"scene {scene}: {file} must be [K, h, w] of floats or uint8, or [h, w] of integer train ids, got "
            f"{values.shape} of {values.dtype}."
        )
    if not np.isfinite(values).all():
        raise CaseError(f"scene {scene}: {file} has values that are NaN or infinite.")
    return torch.from_numpy(values.astype(np.float32) / (255 if values.dtype == np.uint8 else 1))


def _one_hot(scene: str, file: str, train_ids: np.ndarray) -> torch.Tensor:
    """``[19, h, w]`` float32 of a label map."""
    classes = np.array(list(CITYSCAPES_CLASSES.values()))
    known = {*classes.tolist(), CITYSCAPES_VOID}
    if unknown := sorted(set(np.unique(train_ids).tolist()) - known):
        raise CaseError(
            f"scene {scene}: {file} has the label {unknown[0]}, but a label map holds train ids, 0 to {classes.max()}, "
            f"or {CITYSCAPES_VOID}."
        )
    return torch.from_numpy((train_ids == classes[:, None, None]).astype(np.float32))
