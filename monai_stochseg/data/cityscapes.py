# SPDX-License-Identifier: Apache-2.0
"""Find the scenes of a Cityscapes folder, and the switches that make it the multimodal task of Kohl et al. 2018."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .case import CaseError

# The classes that are evaluated, by their train id.
CITYSCAPES_CLASSES = MappingProxyType(
    {
        "road": 0,
        "sidewalk": 1,
        "building": 2,
        "wall": 3,
        "fence": 4,
        "pole": 5,
        "traffic light": 6,
        "traffic sign": 7,
        "vegetation": 8,
        "terrain": 9,
        "sky": 10,
        "person": 11,
        "rider": 12,
        "car": 13,
        "truck": 14,
        "bus": 15,
        "train": 16,
        "motorcycle": 17,
        "bicycle": 18,
    }
)

# Source to (target, probability), Kohl et al. 2018 (https://arxiv.org/abs/1806.05034, section 4.2).
CITYSCAPES_SWITCHES = MappingProxyType(
    {
        CITYSCAPES_CLASSES[name]: (len(CITYSCAPES_CLASSES) + i, share / 17)
        for i, (name, share) in enumerate({"sidewalk": 8, "person": 7, "car": 6, "vegetation": 5, "road": 4}.items())
    }
)

# The 24 classes of the multimodal task.
CITYSCAPES_SWITCHED_CLASSES = MappingProxyType(
    {
        **CITYSCAPES_CLASSES,
        **{f"{list(CITYSCAPES_CLASSES)[source]} 2": target for source, (target, _) in CITYSCAPES_SWITCHES.items()},
    }
)

CITYSCAPES_VOID = 255

# Of the training cities, those that are held out for validation; and the one of simulated scenes.
CITYSCAPES_VALIDATION_CITIES = ("darmstadt", "monchengladbach", "ulm", "simulated-validation")

# Value in the file to train id, for each kind of label in the order of preference.
_LABEL_IDS = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)  # of the 19 classes
LABEL_MAPS = MappingProxyType(
    {
        "labelTrainIds": {**{value: value for value in range(19)}, CITYSCAPES_VOID: CITYSCAPES_VOID},
        "labelIds": {
            **dict.fromkeys(range(34), CITYSCAPES_VOID),
            **{value: train_id for train_id, value in enumerate(_LABEL_IDS)},
        },
    }
)


def cityscapes_datalist(
    dataset_dir: str | os.PathLike,
    predictions_dir: str | os.PathLike | None = None,
    require_label: bool = True,
    validation_cities: Sequence[str] = CITYSCAPES_VALIDATION_CITIES,
) -> list[dict[str, Any]]:
    """
    List the scenes of a Cityscapes folder (Cordts et al. 2016, https://arxiv.org/abs/1604.01685) as it is delivered.

    A scene is ``leftImg8bit/{train,val}/CITY/CITY_000000_000019_leftImg8bit.png`` with its label
    ``gtFine/{train,val}/CITY/CITY_000000_000019_gtFine_labelTrainIds.png``, or ``..._labelIds.png`` where that is
    absent. The organisers' test scenes have no label and are not listed; their validation scenes are the test here,
    and some of the training cities are the validation, as in Kohl et al. 2018.

    Args:
        dataset_dir: the folder that holds ``leftImg8bit`` and ``gtFine``.
        predictions_dir: folder of another model's predictions, ``CITY_000000_000019.npy`` each, of probabilities
            or one label map, see
            :py:class:`monai_stochseg.transforms.LoadCityscapesd`.
        require_label: whether a scene without label is an error; for inference it need not have one.
        validation_cities: training cities of the part validation, in lower case.

    Returns:
        One dictionary per scene, in the order of their names: ``patient`` (``CITY_000000_000019``; here the
        name of the scene), ``city``, ``split`` (``"train"``, ``"validation"`` or ``"test"``), ``image``
        (path), and where they exist ``label`` (path) with ``label_map`` (value in the file to train id, 255 for void)
        and ``prediction`` (path).

    Raises:
        CaseError: when no scene is found, or an image, a label or a prediction is missing.
    """
    root = Path(dataset_dir).expanduser().absolute()
    predictions = None if predictions_dir is None else Path(predictions_dir).expanduser().absolute()
    cases = [case for part in ("train", "val") for case in _cases(root, part, require_label, validation_cities)]
    if not cases:
        raise CaseError(
            f"dataset_dir: no scene found under {root}, which should hold "
            "leftImg8bit/{train,val}/CITY/CITY_000000_000019_leftImg8bit.png."
        )
    if predictions is not None:
        for case in cases:
            case["prediction"] = str(predictions / f"{case['patient']}.npy")
            if not Path(case["prediction"]).is_file():
                raise CaseError(f"scene {case['patient']}: its prediction {case['prediction']} is missing.")
    return sorted(cases, key=lambda case: case["patient"])


def _cases(root: Path, part: str, require_label: bool, validation_cities: Sequence[str]) -> list[dict[str, Any]]:
    """The scenes of one of the organisers' parts."""
    images = _scenes(root / "leftImg8bit" / part, "_leftImg8bit.png")
    labels = {kind: _scenes(root / "gtFine" / part, f"_gtFine_{kind}.png") for kind in LABEL_MAPS}
    for found in labels.values():
        if alone := sorted(set(found) - set(images)):
            image = root / "leftImg8bit" / part / f"{alone[0]}_leftImg8bit.png"
            raise CaseError(f"scene {Path(alone[0]).name}: its image {image} is missing, but its label exists.")
    cases = []
    for scene, image in images.items():
        city, name = scene.split("/")
        split = "test" if part == "val" else "validation" if city in validation_cities else "train"
        case: dict[str, Any] = {"patient": name, "city": city, "split": split, "image": str(image)}
        kind = next((kind for kind, found in labels.items() if scene in found), None)
        if kind is not None:
            case |= {"label": str(labels[kind][scene]), "label_map": dict(LABEL_MAPS[kind])}
        elif require_label:
            label = root / "gtFine" / part / f"{scene}_gtFine_labelTrainIds.png"
            raise CaseError(
                f"scene {name}: its label {label} (or ..._labelIds.png) is missing; "
                "add it, or pass require_label=False for inference."
            )
        cases.append(case)
    return cases


def _scenes(folder: Path, ending: str) -> dict[str, Path]:
    """The files of each scene ``CITY/CITY_000000_000019``."""
    files = sorted(file for file in folder.glob(f"*/*{ending}") if not file.name.startswith("."))
    return {f"{file.parent.name}/{file.name.removesuffix(ending)}": file for file in files}
