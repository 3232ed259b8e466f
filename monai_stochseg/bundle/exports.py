# SPDX-License-Identifier: Apache-2.0
"""A trained network as TorchScript, ONNX and a program of ``torch.export``, in the folder of a packed bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_stochseg.bundle.metadata import size_divisor
from monai_stochseg.networks.export import SampleExport, exportable
from monai_stochseg.networks.export.formats import (
    ExportError,
    check_onnx,
    export_program,
    write_onnx,
    write_program,
    write_torchscript,
)
from monai_stochseg.tasks import Task

__all__ = ["check_formats", "example_size", "write_exports"]

_FORMATS = ("ts", "onnx", "pt2")
_SAMPLES = 3
# Of the example, in 2D and 3D: so large that no level of a network has an axis of one voxel, a constant to exporters.
_SIZES = {2: 128, 3: 32}


def check_formats(formats: Sequence[str]) -> None:
    """
    Args:
        formats: what is asked for.

    Raises:
        ExportError: when one is unknown.
        ImportError: when one needs a package that is not installed.
    """
    unknown = [each for each in ([formats] if isinstance(formats, str) else formats) if each not in _FORMATS]
    if isinstance(formats, str) or unknown:
        raise ExportError(f"formats must be a list of {list(_FORMATS)}, such as \"['ts','onnx']\", got {formats!r}.")
    if "onnx" in formats:
        check_onnx()


def write_exports(
    network: nn.Module, task: Task, metadata: Mapping[str, Any], folder: Path, formats: Sequence[str]
) -> dict[str, Any]:
    """
    Write ``model.ts``, ``model.onnx`` and ``model.pt2``, those that are asked for.

    Args:
        network: the trained network.
        task: the channels and the axes.
        metadata: kept in each file.
        folder: where.
        formats: see :py:func:`check_formats`.

    Returns:
        ``sampler_data_format``, what the files take and give, for the metadata.

    Raises:
        ExportError: when the network cannot be written in a format.
    """
    try:
        module = exportable(network)
    except ValueError as error:
        raise ExportError(str(error)) from error
    divisor = size_divisor(module.network, task.in_channels, task.spatial_dims)
    image = torch.zeros(2, task.in_channels, *example_size(divisor, task.spatial_dims))
    noise = module.draw_noise(image, _SAMPLES)
    formatted = {"sampler_data_format": _sampler_format(module, task, metadata)}
    metadata = {**metadata, **formatted}
    if "ts" in formats:
        write_torchscript(module, folder / "model.ts", image, noise, metadata)
    if "onnx" in formats or "pt2" in formats:
        program = export_program(module, image, noise)
        if "pt2" in formats:
            write_program(program, folder / "model.pt2", metadata)
        if "onnx" in formats:
            write_onnx(program, folder / "model.onnx", metadata)
    return formatted


def example_size(divisor: int, spatial_dims: int) -> list[int]:
    """
    A size for exporters, another along each axis: equal ones would be taken for one.

    Args:
        divisor: of the sizes that the network takes, see :py:func:`monai_stochseg.bundle.metadata.size_divisor`.
        spatial_dims: 2 or 3.
    """
    least, step = _SIZES[spatial_dims], max(divisor, 16)
    return [-(-least // step) * step + axis * step for axis in range(spatial_dims)]


def _sampler_format(module: SampleExport, task: Task, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs and outputs of an exported file; the noise is ``[B, N, K]``, and N any number of samples."""
    network_format = metadata["network_data_format"]
    pred = network_format["outputs"]["pred"]
    return {
        "inputs": {
            "image": network_format["inputs"]["image"],
            "noise": {
                "type": "noise",
                "format": "standard normal, [B, N, K]: K numbers for each of N samples",
                "num_channels": _SAMPLES,
                "spatial_shape": [module.noise_formula],
                "dtype": "float32",
                "value_range": [],
            },
        },
        "outputs": {
            "probabilities": {**pred, "type": "probabilities", "value_range": [0, 1]},
            "samples": {
                **{key: pred[key] for key in ("type", "format", "spatial_shape")},
                "num_channels": _SAMPLES,
                "dtype": "uint8",
                "value_range": [0, task.num_classes - 1],
            },
            "entropy": {
                "type": "image",
                "format": "entropy in nats",
                "num_channels": 1,
                "spatial_shape": pred["spatial_shape"],
                "dtype": "float32",
                "value_range": [],
            },
        },
    }
