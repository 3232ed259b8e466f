# SPDX-License-Identifier: Apache-2.0
"""The samples of a case in a notebook, by ipyniivue."""

from __future__ import annotations

import gzip
import itertools
import os
from collections.abc import Mapping
from typing import Any

import nibabel as nib
import numpy as np
from monai.utils import optional_import

from monai_stochseg.data import CaseError
from monai_stochseg.explore.opened_case import OpenedCase
from monai_stochseg.explore.prediction_folder import PredictionFolder
from monai_stochseg.explore.served import drawn_affine, drawn_grid, served_nifti
from monai_stochseg.explore.summary import describe_case, summarise
from monai_stochseg.explore.volumes import structure_volumes

__all__ = ["show_samples"]

_HEIGHT = 400  # pixels


def show_samples(prediction_dir: str | os.PathLike, case: str | int = 0) -> Any:
    """
    Show the samples of a case in a notebook: the image, an overlay, and a slider in the order that is chosen.

    Args:
        prediction_dir: folder that an inference wrote.
        case: name or number of the case.

    Returns:
        A widget, which a notebook shows as the last line of a cell.

    Raises:
        CaseError: when there is no such case, or it cannot be read.
        ImportError: when ipyniivue is missing.
    """
    ipyniivue, has_ipyniivue = optional_import("ipyniivue")
    widgets, has_widgets = optional_import("ipywidgets")
    if not has_ipyniivue or not has_widgets:
        raise ImportError("show_samples needs ipyniivue: pip install 'monai_stochseg[explore]'.")
    opened = _open(PredictionFolder(prediction_dir), case)
    described = describe_case(opened, summarise(opened))
    volumes = [{"name": "overlay.nii.gz", "data": _frames(opened), "opacity": 0.5}]
    if described["channels"]:
        image = gzip.compress(served_nifti(opened, opened.channel(0)), 1)
        volumes.insert(0, {"name": "image.nii.gz", "data": image, "colormap": "gray"})
    radiological = opened.record.spatial_dims == 3  # the patient's right is on the left, as on the page
    viewer = ipyniivue.NiiVue(height=_HEIGHT, is_radiological_convention=radiological, crosshair_width=0.3)
    viewer.load_volumes(volumes)
    overlay = viewer.volumes[-1]
    overlay.set_colormap_label(_colour_table(described))

    names = _names(opened, described)
    first_sample = len(opened.layers) - len(described["samples"])
    orders = {order["name"]: order["samples"] for order in described["orders"]}
    choice = widgets.Dropdown(options=[*names[:first_sample], *(["samples"] if orders else [])], description="overlay")
    order = widgets.Dropdown(options=list(orders), description="order")
    place = widgets.IntSlider(min=1, max=max(len(described["samples"]), 1), description="place")
    line = widgets.Label()

    def show(_: object = None) -> None:
        frame = first_sample + orders[order.value][place.value - 1] if choice.value == "samples" else choice.index
        overlay.frame_4d = frame
        line.value = f"{names[frame]}: {_volumes(opened, described, frame)}"

    for widget in (choice, order, place):
        widget.observe(show, "value")
    show()
    controls = [choice, order, place] if orders else [choice]
    return widgets.VBox([widgets.HBox(controls), viewer, line])


def _frames(case: OpenedCase) -> bytes:
    """All label maps as the frames of one NIfTI file, compressed: they are long runs of one value."""
    frames = np.stack([drawn_grid(case, case.maps.map(index)) for index in range(len(case.layers))], axis=-1)
    return gzip.compress(nib.Nifti1Image(frames, drawn_affine(case)).to_bytes(), 1)


def _colour_table(described: Mapping[str, Any]) -> dict[str, list[int]]:
    """NiiVue's table of the classes' colours, the background transparent."""
    rgb = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in described["colours"]]
    red, green, blue = (list(channel) for channel in zip(*rgb, strict=True))
    return {"R": red, "G": green, "B": blue, "A": [0] + [255] * (len(rgb) - 1), "labels": described["class_names"]}


def _names(case: OpenedCase, described: Mapping[str, Any]) -> list[str]:
    """What the page calls each label map."""
    readers = iter(reader["name"] for reader in described["readers"])
    named = {"answer": lambda layer: "single answer", "reader": lambda layer: next(readers)}
    number = itertools.count(1)  # as the page counts
    return [named.get(layer.split("-")[0], lambda layer: f"sample {next(number)}")(layer) for layer in case.layers]


def _volumes(case: OpenedCase, described: Mapping[str, Any], frame: int) -> str:
    labels = case.maps.labels[frame][None]
    parts = [
        f"{each['name']} {structure_volumes(labels, each['classes'], case.voxel_volume)[0]:.4g} {described['unit']}"
        for each in described["structures"]
    ]
    return ", ".join(parts)


def _open(folder: PredictionFolder, case: str | int) -> OpenedCase:
    names = folder.names()
    if isinstance(case, int) and 0 <= case < len(names):
        case = names[case]
    if case not in names:
        raise CaseError(folder.message() or f"there is no case {case!r}; there are {', '.join(names[:5])}.")
    return OpenedCase(folder.files(str(case)))
