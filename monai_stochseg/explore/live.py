# SPDX-License-Identifier: Apache-2.0
"""Cases that are predicted when they are opened, by a configuration and a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Invertd
from monai.utils import CommonKeys

from monai_stochseg.bundle.inference_config import inference
from monai_stochseg.bundle.root import root_folder
from monai_stochseg.bundle.runtime import start_process
from monai_stochseg.bundle.saving import is_invertible
from monai_stochseg.data import CaseError
from monai_stochseg.data.prediction_record import PREDICTION_SUFFIX, prediction_name
from monai_stochseg.explore.edits import Editor, make_editor
from monai_stochseg.explore.prediction_folder import CaseFiles, PredictionFolder
from monai_stochseg.handlers import WeightsLoader

__all__ = ["LiveEditor", "LiveFolder"]


class LiveFolder(PredictionFolder):
    """
    A folder whose cases are predicted when they are first opened, by the predictor of a configuration.

    The configuration is Python that runs, as everywhere in MONAI: take it from a source that you trust. Of the
    checkpoint the weights alone are read.

    Args:
        folder: of the predictions; made when absent. What is there already is not predicted again.
        config_file: ``inference.json``, or a ``train.json`` with its overlays.
        checkpoint: the weights. Default: the configuration's.
        image: file, or files one a channel, of one image that is predicted. Default: the configuration's cases.
        ids: further ids of the configuration, with their values.

    Raises:
        CaseError: when an id is unknown, the cases cannot be listed, the task cannot take an image by its file, or the
            checkpoint is of another network or task.
        FileNotFoundError: when there is no checkpoint.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        config_file: str | Sequence[str],
        checkpoint: str | None = None,
        image: str | Sequence[str] | None = None,
        ids: Mapping[str, Any] | None = None,
    ) -> None:
        Path(folder).expanduser().mkdir(parents=True, exist_ok=True)
        super().__init__(folder)
        config, known = _configuration(config_file)
        given: dict[str, Any] = {}
        if checkpoint is not None:
            given["checkpoint"] = str(Path(checkpoint).expanduser().absolute())
        for name, value in (ids or {}).items():
            first = name.replace("::", "#").split("#")[0]
            if first not in known:
                raise CaseError(f"ids: the configuration has no id {name!r}.")
            if first in config:  # those of a training alone change no prediction
                given[name] = value
        parser = ConfigParser({**config, "prediction_dir": str(self.path.absolute())})
        parser.update(given)
        start_process(parser.get_parsed_content("device"))
        self.task = parser.get_parsed_content("task")
        cases = self._cases(parser, image)
        self.cases = {prediction_name(f"{self.task.case_name(case)}.nii.gz"): case for case in cases}
        self._fresh = set() if image is None else set(self.cases)  # an image's name is that of its file: many have one
        weights = str(parser.get_parsed_content("checkpoint"))
        parser["dataset"] = {**parser["dataset"], "data": [dict(cases[0])]}
        parser["evaluator"] = {**parser["evaluator"], "volumes": None}  # a table of all cases, not of one
        self._dataset: Any = parser.get_parsed_content("dataset")
        self._preprocessing: Any = parser.get_parsed_content("preprocessing")
        self._predictor: Any = parser.get_parsed_content("evaluator")
        try:  # now, and not when the first case is opened
            WeightsLoader(self._predictor.network, weights, signature=self.task.signature)(self._predictor)
            self._predictor.network.eval()  # a latent is decoded long after the predictor's own evaluation mode
        except ValueError as error:
            raise CaseError(f"checkpoint: {error}") from None

    def _cases(self, parser: ConfigParser, image: str | Sequence[str] | None) -> list[dict[str, Any]]:
        if image is None:
            part, number = (parser.get_parsed_content(name) for name in ("part", "max_cases"))
            cases: list[dict[str, Any]] = self.task.cases(part, require_label=False)
            return cases[:number]
        files = [image] if isinstance(image, str) else list(image)
        absolute = [str(Path(file).expanduser().absolute()) for file in files]
        if missing := [file for file in absolute if not Path(file).is_file()]:
            raise CaseError(f"image: there is no file {missing[0]}.")
        return [self.task.image_case(absolute)]

    @property
    def title(self) -> str:
        """The task."""
        return f"{self.task.name}, predicted when opened"

    def names(self) -> list[str]:
        """The names of the configuration's cases, in their order."""
        return list(self.cases)

    def message(self) -> str | None:
        """None: a configuration without a case is refused when it is read."""
        return None

    def files(self, name: str) -> CaseFiles:
        """The files of a case, which is predicted where it was not yet."""
        record = self.path / f"{name}{PREDICTION_SUFFIX}"
        if name in self.cases and (name in self._fresh or not record.is_file()):
            record.unlink(missing_ok=True)
            self._choose(name)
            self._predictor.run()
            if not record.is_file():  # ignite ends a run that raised before it begins the next
                self._predictor.run()
            self._fresh.discard(name)
        return super().files(name)

    def editor(self, files: CaseFiles) -> LiveEditor:
        """
        The choices that a user has of a case's distribution.

        Args:
            files: of the case.

        Raises:
            CaseError: when there are none.
        """
        if files.name not in self.cases:
            raise CaseError(f"There are no controls: the configuration has no case {files.name}.")
        if files.record.noise_seed is None:
            raise CaseError("There are no controls: this network has one answer.")
        self._choose(files.name)
        return LiveEditor(self._predictor, self._dataset[0], self._preprocessing, files)

    def _choose(self, name: str) -> None:
        """Make one case the predictor's whole data set."""
        self._dataset.set_data([dict(self.cases[name])])


class LiveEditor:
    """
    The choices of one case's distribution, each a label map on the grid of its files.

    Args:
        predictor: with its weights loaded.
        item: the case, pre-processed.
        preprocessing: what is inverted.
        files: of the case.

    Raises:
        CaseError: when its distribution has no choices.
    """

    def __init__(self, predictor: Any, item: Mapping[str, Any], preprocessing: Any, files: CaseFiles) -> None:
        self.image: MetaTensor = item[CommonKeys.IMAGE]
        device = predictor.state.device
        mask = {} if predictor.mask_key is None else {"mask": item[predictor.mask_key][None].to(device)}
        with torch.no_grad(), predictor.mode(predictor.network):
            distribution = predictor.inferer(self.image[None].to(device), predictor.network, **mask)
        seed = files.record.noise_seed or 0
        self.editor: Editor = make_editor(distribution, seed, list(files.record.class_names))
        self._invert: Invertd | None = None
        if is_invertible(preprocessing):
            self._invert = Invertd("pred", preprocessing, "image", nearest_interp=True)

    def description(self) -> dict[str, Any]:
        """What the page needs to offer the choice."""
        return self.editor.description()

    def label_map(self, settings: str) -> Any:
        """The label map of a choice, uint8 ``[V]``, the first axis fastest."""
        labels = self.editor.label_map(settings).cpu()
        meta = MetaTensor(labels, meta=self.image.meta, applied_operations=self.image.applied_operations)
        if self._invert is not None:
            meta = self._invert({"image": self.image, "pred": meta})["pred"]
        return meta.as_tensor()[0].to(torch.uint8).numpy().ravel(order="F")


def _configuration(config_file: str | Sequence[str]) -> tuple[dict[str, Any], set[str]]:
    """Of inference, which is made of one of training, with the first file's root; and all ids of the files."""
    files = [config_file] if isinstance(config_file, str) else list(config_file)
    if missing := [file for file in files if not Path(file).is_file()]:
        raise CaseError(f"config_file: there is no file {missing[0]}.")
    loaded: dict[str, Any] = ConfigParser.load_config_files(files)
    config = loaded if "postprocessing" in loaded else inference(loaded)
    return {**config, "bundle_root": str(root_folder(Path(files[0]).parent))}, {*config, *loaded}
