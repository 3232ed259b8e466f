# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's active learning by how much the samples of an image differ."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from monai_stochseg.distributions.arguments import check_at_least
from monai_stochseg.distributions.base import plain
from monai_stochseg.inferers import PredictiveInferer, draw_samples
from monai_stochseg.metrics import compute_sample_diversity

__all__ = ["MostDiverse", "SampleDiversityScoring"]

_KEY = "sample_diversity"


class SampleDiversityScoring:
    """
    A scoring method of MONAI Label, by its interface and without an import of it: each image without a label gets the
    mean distance between two samples, :py:func:`monai_stochseg.metrics.compute_sample_diversity`, as the info
    ``sample_diversity``. A score is kept until the model's file changes.

    Args:
        infer_task: MONAI Label's ``BundleInferTask`` of a packed bundle whose method draws samples.
        num_samples: of each image.
        seed: of the samples.

    Raises:
        ValueError: for num_samples below 2.
    """

    description = "how much the samples of an image differ"

    def __init__(self, infer_task: Any, num_samples: int = 8, seed: int = 0) -> None:
        check_at_least(2, num_samples=num_samples)
        self.infer_task = infer_task
        self.num_samples = num_samples
        self.seed = seed

    def info(self) -> dict[str, str]:
        """What MONAI Label shows."""
        return {"description": self.description}

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, int]:
        """
        Args:
            request: may have ``device``.
            datastore: MONAI Label's.

        Returns:
            how many images were scored, and how many had a score already.
        """
        model = self.infer_task.get_path()
        stamp = int(os.stat(model).st_mtime) if model else 0
        executed = skipped = 0
        for image_id in datastore.get_unlabeled_images():
            if datastore.get_image_info(image_id).get(f"{_KEY}_ts") == stamp:
                skipped += 1
                continue
            score = self.score(datastore.get_image_uri(image_id), request.get("device", "cpu"))
            datastore.update_image_info(image_id, {_KEY: score, f"{_KEY}_ts": stamp})
            executed += 1
        return {"executed": executed, "skipped": skipped}

    @torch.no_grad()
    def score(self, image: str, device: str = "cpu") -> float:
        """
        The diversity of the samples of one image.

        Args:
            image: its file.
            device: where the network runs.
        """
        data = {"image": image, "device": device}
        for transform in self.infer_task.pre_transforms(data):
            data = transform(data)
        network = self.infer_task._get_network(device, None)
        inferer = PredictiveInferer(self.infer_task.inferer(data))
        mask = data.get("mask")
        distribution = inferer(
            torch.as_tensor(data["image"])[None].to(device),
            getattr(network, "network", network),
            mask=None if mask is None else torch.as_tensor(mask)[None],
        )
        drawn = draw_samples(distribution, self.num_samples, torch.Generator().manual_seed(self.seed))
        samples, classes = plain(drawn.labels), drawn.probabilities.shape[1]
        return float(compute_sample_diversity(samples, classes, self_pairs=False, y_pred_weights=drawn.weights))


class MostDiverse:
    """
    A strategy of MONAI Label, by its interface and without an import of it: the image without a label whose samples
    differ most is next, by the scores of :py:class:`SampleDiversityScoring`. One without a score comes last.
    """

    description = "the image whose samples differ most"

    def info(self) -> dict[str, str]:
        """What MONAI Label shows."""
        return {"description": self.description}

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, Any] | None:
        """
        Args:
            request: may have ``label_tag`` and ``labels``, which say what counts as a label.
            datastore: MONAI Label's.

        Returns:
            ``id`` of the image and its score; None when all have labels.
        """
        images = datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels"))
        scores = {image: datastore.get_image_info(image).get(_KEY, -1.0) for image in sorted(images)}
        if not scores:
            return None
        chosen = max(scores, key=lambda image: scores[image])
        return {"id": chosen, _KEY: scores[chosen]}
