# SPDX-License-Identifier: Apache-2.0
"""What the page needs to know of a case at once: samples with their volumes, orders, clusters and histograms."""

from __future__ import annotations

import colorsys
from typing import Any, NamedTuple

import numpy as np

from monai_stochseg.explore.clusters import Cluster, cluster_samples, describe
from monai_stochseg.explore.opened_case import OpenedCase
from monai_stochseg.explore.orders import distances, log_likelihoods
from monai_stochseg.explore.served import drawn_shape, served_focus
from monai_stochseg.explore.volumes import Histogram, histogram, structure_volumes
from monai_stochseg.transforms.save_raster import PALETTE

__all__ = ["Summary", "class_colours", "describe_case", "summarise"]


class Summary(NamedTuple):
    """
    What is computed of a case's N samples: volumes of the T structures in each answer, reader and sample; the samples'
    log-likelihoods and distances from the single answer; clusters, and the histogram of each structure's volume.
    """

    answer_volumes: np.ndarray
    reader_volumes: np.ndarray
    sample_volumes: np.ndarray
    log_likelihood: np.ndarray
    distance: np.ndarray
    clusters: list[Cluster]
    cluster_texts: list[str]
    histograms: list[Histogram]


def summarise(case: OpenedCase) -> Summary:
    """
    Compute the summary of a case.

    Args:
        case: that is open.
    """
    structures = case.record.regions
    answer, readers, samples = (case.rows(kind) for kind in ("answer", "reader", "sample"))
    answer_volumes, reader_volumes, sample_volumes = (_volumes(case, rows) for rows in (answer, readers, samples))
    number, num_classes = len(samples), len(case.record.class_names)
    if not number:
        empty = np.zeros(0)
        return Summary(answer_volumes, reader_volumes, sample_volumes, empty, empty, [], [], [])
    every = distances(_disputed(np.concatenate([answer, samples])), num_classes)
    between = every[-number:, -number:]
    middle = int((between @ case.weights).argmin())  # the medoid, where there is no single answer
    from_answer = every[0, -number:] if len(answer) else between[middle]
    clusters = cluster_samples(between, case.weights)
    return Summary(
        answer_volumes,
        reader_volumes,
        sample_volumes,
        log_likelihoods(_disputed(samples), case.weights, num_classes),
        from_answer,
        clusters,
        describe(clusters, sample_volumes, case.weights, list(structures)),
        [histogram(column, case.weights) for column in sample_volumes.T],
    )


def _volumes(case: OpenedCase, labels: np.ndarray) -> np.ndarray:
    """``[N, T]``."""
    columns = [structure_volumes(labels, classes, case.voxel_volume) for classes in case.record.regions.values()]
    return np.stack(columns, axis=1)


def _disputed(labels: np.ndarray) -> np.ndarray:
    """
    The voxels that matter to distances and likelihoods: those that are not background in every map. They are few where
    readers alone, or void voxels, made others be kept.
    """
    return np.ascontiguousarray(labels[:, (labels > 0).any(0)])


def describe_case(case: OpenedCase, summary: Summary) -> dict[str, Any]:
    """The summary as JSON for the page; docs/explore.md has the entries."""
    record = case.record
    orders = _orders(summary, list(record.regions))
    cluster_of = {sample: index for index, cluster in enumerate(summary.clusters) for sample in cluster.samples}
    channels = list(record.channel_names) if record.has_image else []
    if len(channels) == 3 and record.spatial_dims == 2:
        channels.append("colour")
    return {
        "spatial_dims": record.spatial_dims,
        "shape": list(drawn_shape(case))[: record.spatial_dims],
        "unit": case.volume_unit,
        "task": record.task,
        "simulated": record.simulated,
        "class_names": record.class_names,
        "colours": class_colours(len(record.class_names)),
        "structures": [{"name": name, "classes": classes} for name, classes in record.regions.items()],
        "channels": channels,
        "focus": served_focus(case, _focus(case)),
        "answer": {"volumes": summary.answer_volumes[0].tolist()} if len(summary.answer_volumes) else None,
        "readers": [
            {"name": _reader_name(record.rater_names, index), "weight": weight, "volumes": volumes.tolist()}
            for index, (weight, volumes) in enumerate(zip(record.rater_weights, summary.reader_volumes, strict=False))
        ],
        "maps": [{"id": each.id, "name": each.name, "maximum": each.maximum} for each in case.heat_maps],
        "samples": [
            {
                "weight": float(case.weights[index]),
                "volumes": summary.sample_volumes[index].tolist(),
                "log_likelihood": float(summary.log_likelihood[index]),
                "distance": float(summary.distance[index]),
                "cluster": cluster_of[index],
            }
            for index in range(len(summary.sample_volumes))
        ],
        "orders": [{"id": key, "name": name, "samples": order} for key, name, order in orders],
        "clusters": [
            {"share": each.share, "text": text, "sample": each.samples[0], "samples": each.samples}
            for each, text in zip(summary.clusters, summary.cluster_texts, strict=True)
        ],
        "histograms": [each._asdict() for each in summary.histograms],
    }


def _orders(summary: Summary, structures: list[str]) -> list[tuple[str, str, list[int]]]:
    if not len(summary.sample_volumes):
        return []
    by_volume = [
        (f"volume-{index}", f"volume of {name}, smallest first", summary.sample_volumes[:, index])
        for index, name in enumerate(structures)
    ]
    keys = [
        ("likelihood", "likelihood, most likely first", -summary.log_likelihood),
        ("distance", "distance from the single answer, nearest first", summary.distance),
        *by_volume,
    ]
    return [(key, name, np.argsort(values, kind="stable").tolist()) for key, name, values in keys]


def _reader_name(names: list[str], index: int) -> str:
    return names[index] if index < len(names) else f"reader {index + 1}"


def _focus(case: OpenedCase) -> int:
    """A voxel in the middle of what the samples dispute, else of what they see, else of the image."""
    samples = case.rows("sample")
    rows = samples if len(samples) else case.maps.labels
    for chosen in ((rows.min(0) != rows.max(0)) if len(rows) else np.zeros(0, bool), (rows > 0).any(0)):
        if chosen.any():
            place = np.stack(np.unravel_index(case.maps.voxels[chosen], case.shape, order="F"))
            nearest = np.abs(place - np.median(place, axis=1, keepdims=True)).sum(0).argmin()
            return int(case.maps.voxels[chosen][nearest])
    middle = [size // 2 for size in case.shape]
    return int(np.ravel_multi_index(middle, case.shape, order="F"))


def class_colours(number: int) -> list[str]:
    """
    A colour for each class, ``#rrggbb``, those of the saved PNG files; further classes have the same hues, darker and
    lighter.
    """
    hues = PALETTE[1:]
    return [PALETTE[0], *(_shade(hues[i % len(hues)], i // len(hues)) for i in range(number - 1))]


def _shade(colour: str, times: int) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    lightness = (lightness, 0.55 * lightness, 0.5 + 0.5 * lightness)[times % 3]
    return "#" + "".join(f"{round(255 * each):02x}" for each in colorsys.hls_to_rgb(hue, lightness, saturation))
