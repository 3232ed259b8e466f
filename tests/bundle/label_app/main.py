# SPDX-License-Identifier: Apache-2.0
"""An app of MONAI Label with one packed bundle, and the next image by the diversity of its samples."""

from __future__ import annotations

from typing import Any

from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.train.bundle import BundleTrainTask

from monai_stochseg.bundle.active_learning import MostDiverse, SampleDiversityScoring


class TrainTask(BundleTrainTask):
    """The bundle's own training, on a folder of patients: it reads no list of files."""

    def _update_overrides(self, overrides: dict[str, Any]) -> dict[str, Any]:
        for key in ("train#dataset#data", "validate#dataset#data", "bundle_root"):
            overrides.pop(key, None)
        overrides["dataset_dir"] = self.conf["dataset_dir"]
        return overrides


class MyApp(MONAILabelApp):
    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.bundle = conf["bundle"]
        self.infer_task = BundleInferTask(self.bundle, conf)
        super().__init__(app_dir, studies, conf, name="tumours", description="a packed bundle", version="1")

    def init_infers(self) -> dict[str, Any]:
        return {"tumours": self.infer_task}

    def init_trainers(self) -> dict[str, Any]:
        return {"tumours": TrainTask(self.bundle, self.conf)}

    def init_strategies(self) -> dict[str, Any]:
        return {"most_diverse": MostDiverse()}

    def init_scoring_methods(self) -> dict[str, Any]:
        return {"sample_diversity": SampleDiversityScoring(self.infer_task, num_samples=2)}
