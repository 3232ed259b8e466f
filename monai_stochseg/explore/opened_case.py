# SPDX-License-Identifier: Apache-2.0
"""One case that is open: its label maps in memory, and all else read when it is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from monai_stochseg.data import CaseError
from monai_stochseg.explore.label_maps import SparseMaps
from monai_stochseg.explore.prediction_folder import CaseFiles, Maps

__all__ = ["HeatMap", "OpenedCase"]


@dataclass(frozen=True)
class HeatMap:
    """A map of numbers: its ``id``, the ``postfix`` of its file, its ``name`` and the largest value it can have."""

    id: str
    postfix: str
    name: str
    maximum: float


class OpenedCase:
    """
    A case of a prediction folder.

    Args:
        files: of the case.

    Raises:
        CaseError: when a file cannot be read, or files differ in shape.
    """

    def __init__(self, files: CaseFiles) -> None:
        self.files = files
        self.record = record = files.record
        found = self._label_maps()
        if not found:
            raise CaseError(f"case {record.name} has neither a single answer nor samples: run the inference again.")
        self.shape = found[0][1].shape
        self.layers: list[str] = []
        maps: list[np.ndarray] = []
        for layer, read in found:
            self._check_shape(layer, read.shape)
            self.layers += [layer] if layer == "answer" else [f"{layer}-{index}" for index in range(len(read.values))]
            maps += [self._labels(layer, each) for each in read.values]
        self.maps = SparseMaps.of(maps, math.prod(self.shape))

    def _labels(self, layer: str, values: np.ndarray) -> np.ndarray:
        """uint8; CaseError where that would be other labels."""
        labels = values.astype(np.uint8, copy=False)
        if values.dtype != np.uint8 and not np.array_equal(labels, values):
            raise CaseError(f"case {self.record.name}: {layer} holds values that are no labels from 0 to 255.")
        return labels

    def _label_maps(self) -> list[tuple[str, Maps]]:
        record, files = self.record, self.files
        found = [("answer", files.maps("mode"))] if files.has("mode") else []
        if record.has_image and record.rater_weights:
            found.append(("reader", files.maps("readers", len(record.rater_weights), record.nifti_ending)))
        if record.num_samples and record.stacked and record.ending != "png":
            found.append(("sample", files.maps("samples", record.num_samples)))
        elif record.num_samples:
            parts = [files.maps(self._sample_postfix(index)) for index in range(record.num_samples)]
            if len({part.shape for part in parts}) > 1:
                raise CaseError(f"case {record.name}: its samples differ in shape.")
            found.append(("sample", Maps(np.concatenate([part.values for part in parts]), parts[0].shape)))
        return found

    def _sample_postfix(self, index: int) -> str:
        if self.record.ending != "png":
            return f"samples_{index}"
        return f"samples_{index:02d}" if self.record.num_samples > 1 else "samples"

    @cached_property
    def heat_maps(self) -> list[HeatMap]:
        """The maps of numbers that the folder has of this case."""
        in_nats = math.log(len(self.record.class_names))
        probabilities = [
            HeatMap(f"probability-{index}", f"probability_{region}", f"probability of {region}", 1.0)
            for index, region in enumerate(self.record.regions)
        ]
        entropies = [
            HeatMap("entropy", "entropy", "predictive entropy", in_nats),
            HeatMap("mutual_information", "mutual_information", "mutual information of the samples", in_nats),
            HeatMap("answer_entropy", "answer_entropy", "entropy of the single answer", in_nats),
        ]
        return [each for each in (*probabilities, *entropies) if each.postfix in self.record.maps]

    @cached_property
    def weights(self) -> np.ndarray:
        """Of the samples, ``[N]``, summing to 1."""
        number = self.record.num_samples
        given = np.ones(number) if self.record.sample_weights is None else np.asarray(self.record.sample_weights)
        return given / given.sum() if number else given

    @cached_property
    def voxel_size(self) -> np.ndarray:
        """In mm, ``[spatial dimensions]``; ones where the record says pixels."""
        dims = self.record.spatial_dims
        if self.record.ending == "png" or self.record.unit == "px":
            return np.ones(dims)
        sizes: np.ndarray = np.linalg.norm(self.affine[:3, :3], axis=0)[:dims]
        return sizes

    @cached_property
    def affine(self) -> np.ndarray:
        """Of the files, 4 x 4; the identity where they are PNG."""
        if self.record.ending == "png":
            return np.eye(4)
        affine = np.asarray(self.files.header().affine)
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise CaseError(f"case {self.record.name}: the affine of its files is singular or not finite.")
        return affine

    @property
    def volume_unit(self) -> str:
        """``ml``, ``mm2`` or ``px``."""
        if self.record.unit == "px":
            return "px"
        return "ml" if self.record.spatial_dims == 3 else "mm2"

    @property
    def voxel_volume(self) -> float:
        """In ``volume_unit``."""
        return float(self.voxel_size.prod()) / (1000 if self.volume_unit == "ml" else 1)

    def rows(self, kind: str) -> np.ndarray:
        """The labels of the ``answer``, each ``reader`` or each ``sample``, uint8 ``[N, K]``, see SparseMaps."""
        chosen = [index for index, layer in enumerate(self.layers) if layer.split("-")[0] == kind]
        return self.maps.labels[chosen]

    def label_map(self, layer: str) -> np.ndarray:
        """The label map of a layer, uint8 ``[V]``; CaseError where there is none."""
        if layer not in self.layers:
            raise CaseError(f"there is no label map {layer!r:.40} of this case.")
        return self.maps.map(self.layers.index(layer))

    def maximum(self, layer: str) -> float | None:
        """The largest value that a map of numbers can have; None of a label map."""
        return next((each.maximum for each in self.heat_maps if each.id == layer), None)

    def heat_map(self, layer: str) -> np.ndarray:
        """The values of a map of numbers, float32 ``[V]``; CaseError where there is none."""
        found = next((each for each in self.heat_maps if each.id == layer), None)
        if found is None:
            raise CaseError(f"there is no map {layer!r:.40} of this case.")
        read = self.files.maps(found.postfix)
        self._check_shape(found.postfix, read.shape)
        values = read.values[0]
        if self.record.ending == "png":  # 16 bits, of which all are the maximum
            return (values.astype(np.float32) / 65535 * found.maximum).astype(np.float32)
        return values.astype(np.float32, copy=False)

    def channel(self, index: int) -> np.ndarray:
        """A channel of the image, ``[V]``; CaseError where there is none."""
        number = len(self.record.channel_names)
        if not self.record.has_image or not 0 <= index < number:
            raise CaseError(f"there is no channel {index} of this case's image.")
        found = self.files.channel("image", index, number)
        self._check_shape("image", found.shape)
        return found.values[0]

    def _check_shape(self, what: str, shape: tuple[int, ...]) -> None:
        if shape != self.shape:
            raise CaseError(f"case {self.record.name}: {what} has the shape {shape}, not {self.shape}.")
