# SPDX-License-Identifier: Apache-2.0
"""The ``metadata.json`` of a packed bundle: what its own file says of the method, and what follows from all else."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from monai_stochseg.tasks import Task

__all__ = ["bundle_metadata", "size_divisor"]

_PACKAGES = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
_REQUIRED = ("monai_stochseg", "pytorch-ignite", "nibabel", "mlflow", "POT")
_DIVISORS = (1, 2, 4, 8, 16, 32, 64)


def bundle_metadata(
    own: Mapping[str, Any],
    task: Task,
    network: nn.Module,
    checkpoint: Mapping[str, Any],
    versions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """
    The metadata by MONAI's specification.

    Args:
        own: what all bundles share and what is the method's own: ``schema``, ``version``, ``name``, ``task``,
            ``description``, ``references``, ...
        task: the classes, the channels and what the data are.
        network: maps images ``[B, C_in, *S]`` to the logits of the single answer, ``[B, C, *S]``; it is run on small
            images, to find the sizes that it takes.
        checkpoint: epoch, metric and value of the training's best.
        versions: of ``monai``, ``torch`` and ``numpy`` that trained it. Default, also of each: that installed.

    Raises:
        ValueError: when the network takes no image of the sizes that are tried.
    """
    data = task.described
    trained = versions or {}
    classes = ", ".join(f"{index} {name}" for index, name in enumerate(task.class_names))
    return {
        **own,
        **{key: trained.get(package) or version(package).split("+")[0] for package, key in _PACKAGES.items()},
        "required_packages_version": {name: version(name) for name in _REQUIRED},
        "changelog": {own["version"]: f"trained, epoch {checkpoint['epoch']}"},
        "eval_metrics": {checkpoint["metric"]: checkpoint["value"]},
        "data_source": data.source,
        "data_type": data.data_type,
        "image_classes": f"{', '.join(task.channel_names)}: {data.image}",
        "label_classes": classes,
        "pred_classes": f"logits of the classes {classes}, of the single answer",
        "references": [*own["references"], *data.references],
        "network_data_format": _network_format(task, network),
    }


def _network_format(task: Task, network: nn.Module) -> dict[str, Any]:
    divisor = size_divisor(network, task.in_channels, task.spatial_dims)
    shared = {
        "spatial_shape": ["n" if divisor == 1 else f"{divisor}*n"] * task.spatial_dims,
        "dtype": "float32",
        "is_patch_data": task.inferer() is not None,
    }
    image = {
        "type": "image",
        "format": task.described.format,
        "modality": task.described.modality,
        "num_channels": task.in_channels,
        **shared,
        "value_range": list(task.described.value_range),
        "channel_def": {str(index): name for index, name in enumerate(task.channel_names)},
    }
    pred = {
        "type": "image",
        "format": "segmentation",
        "num_channels": task.num_classes,
        **shared,
        "value_range": [],
        "channel_def": {str(index): name for index, name in enumerate(task.class_names)},
    }
    return {"inputs": {"image": image}, "outputs": {"pred": pred}}


@torch.no_grad()
def size_divisor(network: nn.Module, in_channels: int, spatial_dims: int) -> int:
    """
    The least power of two of which a network in evaluation mode takes an image of once, twice and three times the size.

    Args:
        network: maps images ``[1, C_in, *S]`` to one tensor.
        in_channels: C_in.
        spatial_dims: number of axes of S.

    Raises:
        ValueError: when there is none up to 64; names the network's last error.

    Example::

        >>> import monai
        >>> unet = monai.networks.nets.UNet(2, 1, 2, channels=(2, 4, 8), strides=(2, 2)).eval()
        >>> size_divisor(unet, 1, 2)
        8
    """
    error: Exception | None = None
    for divisor in _DIVISORS:
        try:
            for size in (divisor, 2 * divisor, 3 * divisor):
                network(torch.zeros(1, in_channels, *[size] * spatial_dims))
        except (RuntimeError, ValueError) as failed:
            error = failed
        else:
            return divisor
    raise ValueError(
        f"{type(network).__name__} takes no image of {_DIVISORS[-1]} voxels along each axis: {error}"
    ) from error
