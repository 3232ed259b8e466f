# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import ImageMetaKey

from monai_stochseg.data import write_csv
from monai_stochseg.data.dealt_batches import gather, in_order

_QUANTILES = {"p5": 0.05, "median": 0.5, "p95": 0.95}


class VolumeTable:
    """
    Writes the volume of each structure in the single answer and in the samples to a CSV file: the samples' median, 5 %
    and 95 % quantiles, one row per case. The quantile ``q`` is the smallest volume whose share of samples, by their
    weights, reaches ``q``.

    Units are ml in 3D and mm^2 in 2D, by the affine of the map; where an image has no spacing, its affine is the
    identity, and the unit is the pixel.

    Args:
        filename: the CSV file.
        regions: classes by the structure's name.
        spatial_dims: 2 or 3.
    """

    def __init__(self, filename: str | os.PathLike, regions: Mapping[str, Sequence[int]], spatial_dims: int) -> None:
        self.filename = Path(filename)
        self.regions = regions
        self.spatial_dims = spatial_dims
        self._rows: list[list[tuple[str, list[float]]]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an engine whose output has ``pred``, a label map ``[1, *S]``, and perhaps ``samples``."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._measure)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self._rows = []

    def _measure(self, engine: Engine) -> None:
        batch = []
        for item in engine.state.output:
            name = Path(str(item["pred"].meta[ImageMetaKey.FILENAME_OR_OBJ])).name
            case = name.removesuffix(".gz").removesuffix(".nii").removesuffix(".png")
            batch.append((case, self._volumes(item)))
        self._rows.append(batch)

    def _volumes(self, item: Mapping[str, Any]) -> list[float]:
        affine = torch.as_tensor(item["pred"].affine).double()
        spacing = affine[: self.spatial_dims, : self.spatial_dims].norm(dim=0)
        unit = float(spacing.prod()) / (1000 if self.spatial_dims == 3 else 1)
        row = []
        answer = _sizes(item["pred"])
        samples = _sizes(item["samples"]) if "samples" in item else None
        for classes in self.regions.values():
            row.append(float(unit * answer[0, list(classes)].sum()))
            if samples is not None:
                counts = unit * samples[:, list(classes)].sum(1)
                weights = item.get("sample_weights")
                shares = None if weights is None else weights.cpu().numpy()
                row += [weighted_quantile(counts, q, shares) for q in _QUANTILES.values()]
        return row

    def _write(self, engine: Engine) -> None:
        volumes = dict(in_order(gather(self._rows)))
        if not volumes or idist.get_rank() != 0:
            return
        unit = "ml" if self.spatial_dims == 3 else "mm2"
        per_region = (len(next(iter(volumes.values()))) // len(self.regions)) > 1
        parts = ("answer", *(_QUANTILES if per_region else ()))
        columns = [f"{name}_{part}_{unit}" for name in self.regions for part in parts]
        rows = [[case, *(f"{value:.6g}" for value in values)] for case, values in volumes.items()]
        write_csv(self.filename, [["case", *columns], *rows])


def _sizes(maps: torch.Tensor) -> np.ndarray:
    """Voxels of each of the 256 labels in each map, ``[N, 256]``."""
    flat = torch.as_tensor(maps).as_subclass(torch.Tensor).flatten(1).to(torch.uint8)
    return torch.stack([row.bincount(minlength=256) for row in flat]).double().cpu().numpy()


def weighted_quantile(values: np.ndarray, q: float, weights: np.ndarray | None = None) -> float:
    """
    The smallest of the values whose share reaches ``q``.

    Args:
        values: ``[N]``.
        q: from 0 to 1.
        weights: ``[N]``. Default: all the same.
    """
    order = values.argsort()
    share = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    reached = np.cumsum(share[order]) / share.sum()
    place = min(int(np.searchsorted(reached, q - 1e-12)), len(values) - 1)
    return float(values[order][place])
