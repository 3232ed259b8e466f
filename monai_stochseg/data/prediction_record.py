# SPDX-License-Identifier: Apache-2.0
"""What the files of one case's prediction hold, written beside them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from .case import CaseError
from .new_file import new_file

__all__ = ["PREDICTION_FORMAT", "PREDICTION_SUFFIX", "PredictionRecord", "prediction_name"]

PREDICTION_FORMAT = 1
PREDICTION_SUFFIX = "_prediction.json"
_LARGEST = 2**20  # bytes of a record


@dataclass(frozen=True)
class PredictionRecord:
    """
    What the files ``<name>_*`` of one case's prediction hold.

    Args:
        name: of the case, with which the names of its files begin.
        task: name of the task.
        spatial_dims: 2 or 3.
        simulated: whether the image is simulated.
        channel_names: of the image's channels, in their order.
        class_names: of the classes, the background first.
        regions: structures: classes by the structure's name.
        indexing: ``"ij"``: the first axis of a 2D image is its rows; ``"xy"``: it runs to the right.
        ending: of the answer's, the samples' and the entropies' files, ``nii.gz``, ``nii`` or ``png``.
        nifti_ending: of the image's and the readers' files, which are NIfTI always.
        num_samples: number of samples, 0 for a network with one answer.
        stacked: whether the samples are one file.
        sample_weights: one a sample, None where they weigh the same.
        noise_seed: the seed with which the samples were drawn.
        has_image: whether the image is there, and the raters' label where the case has one.
        rater_weights: one a rater of the label; none without a label.
        rater_names: their names where they are known.
        maps: postfixes of the files of numbers, such as ``entropy``; other files are of an earlier inference.
        unit: of the spacing, ``"mm"``, or ``"px"`` where none is known.
    """

    name: str
    task: str
    spatial_dims: int
    simulated: bool
    channel_names: list[str]
    class_names: list[str]
    regions: dict[str, list[int]]
    indexing: str
    ending: str
    nifti_ending: str
    num_samples: int
    stacked: bool
    sample_weights: list[float] | None
    noise_seed: int | None
    has_image: bool
    rater_weights: list[float]
    rater_names: list[str]
    maps: list[str]
    unit: str

    def write(self, folder: str | os.PathLike) -> None:
        """Write the record into the folder of the files."""
        text = json.dumps({"format": PREDICTION_FORMAT, **asdict(self)}, indent=1)
        with new_file(Path(folder, f"{self.name}{PREDICTION_SUFFIX}")) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, file: str | os.PathLike) -> PredictionRecord:
        """
        Read a record.

        Raises:
            CaseError: when the file cannot be read, is of another format or says what cannot be.
        """
        file = Path(file)
        try:
            if file.stat().st_size > _LARGEST:
                raise ValueError("it is larger than a record can be")
            text = file.read_text(encoding="utf-8")
            content = json.loads(text)
        except (OSError, ValueError, RecursionError) as error:
            raise CaseError(f"{file.name} cannot be read ({error}).") from None
        found = content.get("format") if isinstance(content, dict) else None
        if found != PREDICTION_FORMAT:
            raise CaseError(
                f"{file.name} is of format {found!r}, and this version of monai_stochseg reads {PREDICTION_FORMAT}: "
                "run the inference again."
            )
        try:
            record: PredictionRecord = TypeAdapter(cls).validate_json(text, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            raise _damaged(file, f"{_place(first)}: {first['msg']}") from None
        if wrong := _impossible(record):
            raise _damaged(file, wrong)
        return record


def _damaged(file: Path, wrong: str) -> CaseError:
    return CaseError(f"{file.name} is damaged: {wrong}; run the inference again.")


def _place(error: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in error["loc"])


def prediction_name(filename: object) -> str:
    """
    The name of a case by the file name in an image's metadata, as MONAI's ``SaveImage`` takes it.

    Args:
        filename: such as ``folder/case_1.nii.gz``.
    """
    name = Path(str(filename)).name
    return Path(name.removesuffix(".gz")).stem


def _impossible(record: PredictionRecord) -> str | None:
    """What cannot be in a record, or None."""
    if not record.name or Path(record.name).name != record.name or "\0" in record.name:
        return f"name is {record.name!r:.60}"
    endings = ("nii.gz", "nii")
    if (
        record.spatial_dims not in (2, 3)
        or record.ending not in (*endings, "png")
        or record.nifti_ending not in endings
    ):
        return "its images are neither 2D nor 3D, NIfTI nor PNG"
    classes = len(record.class_names)
    if not 2 <= classes <= 256 or not all(0 <= c < classes for of in record.regions.values() for c in of):
        return "a structure has a class that is not there"
    if not record.regions or record.indexing not in ("ij", "xy") or record.unit not in ("mm", "px"):
        return "its structures, axes or unit are none"
    if record.ending == "png" and record.spatial_dims != 2:
        return "a volume is no PNG"
    if not all(0 <= each < math.inf for each in record.rater_weights):
        return "its raters' weights are no weights"
    weights = record.sample_weights
    if record.num_samples < 0 or (weights is not None and len(weights) != record.num_samples):
        return "its samples and their weights do not fit"
    if weights is not None and not (all(0 <= each < math.inf for each in weights) and sum(weights) > 0):
        return "its samples' weights are no weights"
    return None
