# SPDX-License-Identifier: Apache-2.0
"""How each delivery of BraTS names its files and numbers its classes."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

BRATS_MODALITIES = ("flair", "t1", "t1c", "t2")
BRATS_CLASSES = MappingProxyType({"background": 0, "NET": 1, "OD": 2, "ET": 3})


@dataclass(frozen=True)
class Layout:
    """
    The files of one patient, as patterns of the end of a path.

    In a pattern ``{case}`` is the name of the patient, ``{rater}`` the name of a rater, ``*`` any characters and
    ``?`` one character of one path component.

    Args:
        name: name of the layout.
        modalities: per modality its pattern.
        label: pattern of the label map; where it contains ``{rater}``, there may be several.
        label_map: class in the file to canonical class: 0 background, 1 necrosis and non-enhancing core (NET),
            2 oedema (OD), 3 enhancing tumour (ET).
        mask: pattern of the brain mask, which then every patient must have. None: the background is zero, and the
            brain is where any modality differs from it.
        channel_order: where one 4D file holds all the modalities, their order in it. Otherwise one file is one channel.
        raters_in_file: whether a NIfTI label file holds the maps of several raters, along its 4th axis. Otherwise one
            file is one rater.
        unlabelled: pattern of images that are delivered without label; they are skipped when labels are needed.
        timepoint: regular expression of the end of ``{case}`` that distinguishes the scans of one person.
    """

    name: str
    modalities: dict[str, str]
    label: str
    label_map: dict[int, int]
    mask: str | None = None
    channel_order: tuple[str, ...] = ()
    raters_in_file: bool = False
    unlabelled: str | None = None
    timepoint: str | None = None


BRATS_LAYOUTS = (
    # As preprocessed for DeepMedic and for the SSN paper: zero mean and unit variance within the brain, so that the
    # background is not zero and the mask is needed.
    Layout(
        name="brats2015_normalised",
        modalities={
            "flair": "{case}/Flair_subtrMeanDivStd.nii*",
            "t1": "{case}/T1_subtrMeanDivStd.nii*",
            "t1c": "{case}/T1c_subtrMeanDivStd.nii*",
            "t2": "{case}/T2_subtrMeanDivStd.nii*",
        },
        label="{case}/OTMultiClass.nii*",
        label_map={0: 0, 1: 1, 2: 2, 3: 1, 4: 3},
        mask="{case}/brainmask.nii*",
        timepoint=r"_\d+",
    ),
    Layout(
        name="brats2015",
        modalities={
            "flair": "{case}/*/VSD.Brain*.MR_Flair.*.mha",
            "t1": "{case}/*/VSD.Brain*.MR_T1.*.mha",
            "t1c": "{case}/*/VSD.Brain*.MR_T1c.*.mha",
            "t2": "{case}/*/VSD.Brain*.MR_T2.*.mha",
        },
        label="{case}/*/VSD.Brain*.OT.*.mha",
        label_map={0: 0, 1: 1, 2: 2, 3: 1, 4: 3},
        timepoint=r"_\d+",
    ),
    Layout(
        name="brats2017_2021",
        modalities={
            "flair": "{case}_flair.nii*",
            "t1": "{case}_t1.nii*",
            "t1c": "{case}_t1ce.nii*",
            "t2": "{case}_t2.nii*",
        },
        label="{case}_seg.nii*",
        label_map={0: 0, 1: 1, 2: 2, 4: 3},
    ),
    Layout(
        name="brats2023",
        modalities={
            "flair": "{case}-t2f.nii*",
            "t1": "{case}-t1n.nii*",
            "t1c": "{case}-t1c.nii*",
            "t2": "{case}-t2w.nii*",
        },
        label="{case}-seg.nii*",
        label_map={0: 0, 1: 1, 2: 2, 3: 3},
        timepoint=r"-\d{3}",
    ),
    # Medical Segmentation Decathlon, Task01_BrainTumour: four channels in one file, and the classes in another order.
    Layout(
        name="decathlon",
        modalities=dict.fromkeys(BRATS_MODALITIES, "images??/{case}.nii*"),
        label="labels??/{case}.nii*",
        label_map={0: 0, 1: 2, 2: 1, 3: 3},
        channel_order=("flair", "t1", "t1c", "t2"),
        unlabelled="imagesTs/{case}.nii*",
    ),
    Layout(
        name="simulated_brain",
        modalities={modality: f"{{case}}/{modality}.nii*" for modality in BRATS_MODALITIES},
        label="{case}/rater{rater}.nii*",
        label_map={0: 0, 1: 1, 2: 2, 3: 3},
    ),
)
