# SPDX-License-Identifier: Apache-2.0
"""The configuration of inference that follows from one of training."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["dumps", "inference", "packed_inference"]

# What inference needs of a training: all else that these refer to is added.
KEPT = ("imports", "bundle_root", "task", "output_dir", "device", "seed", "network_def")


def inference(train: dict[str, Any]) -> dict[str, Any]:
    """The configuration of inference that goes with one of training."""
    own = {key: train[key] for key in KEPT}
    sampled = train["validate"]["evaluator"]["_target_"].endswith("make_evaluator")
    given: dict[str, Any] = {
        "checkpoint": "$@output_dir + '/model_best.pt'",
        "prediction_dir": "$@output_dir + '/predictions'",
        "part": "all",
        "max_cases": None,
        "resume": "$@output_dir + '/model_last.pt'",  # a part is that of the training's split
    }
    if sampled:
        given |= {"eval_samples": 8, "stack_samples": True, "answer_entropy": "discriminator" in train}
        given["mutual_information"] = True
    given["save_probabilities"] = "$@task.num_classes <= 8"  # of each structure a file
    given |= {"overlap": 0.25, "compress": True}
    given["save_image"] = True  # and the readers' label, so that the folder can be explored by itself
    ids = _with_references(own, train, given)
    of_samples = "stack_samples=@stack_samples, answer_entropy=@answer_entropy, mutual_information=@mutual_information"
    saved = of_samples if sampled else "samples=False"
    inferer = "monai_stochseg.inferers.PredictiveInferer(@task.inferer(@overlap))"
    if not sampled:
        inferer = "@task.inferer(@overlap) or monai.inferers.SimpleInferer()"
        ids["imports"] = ["$import monai", *ids["imports"]]
    return {
        **ids,
        "options": {
            "_target_": "monai_stochseg.bundle.Options",
            "output_dir": "@output_dir",
            "device": "@device",
        },
        "network": "$monai_stochseg.bundle.prepare_network(@network_def, @device)",
        "preprocessing": "$@task.evaluation(with_label=False)",
        "dataset": {
            "_target_": "monai_stochseg.data.CaseDataset",
            "data": "$@task.cases(@part, require_label=False)[:@max_cases]",
            "transform": "@preprocessing",
            "cache_rate": 0.0,
            "progress": False,
        },
        "inferer": f"${inferer}",
        "postprocessing": "$monai_stochseg.bundle.save_predictions"
        f"(@prediction_dir, @preprocessing, @task, probabilities=@save_probabilities, "
        f"compress=@compress, {saved})",
        "recorder": {
            "_target_": "monai_stochseg.bundle.PredictionRecorder",
            "prediction_dir": "@prediction_dir",
            "task": "@task",
            "dataset": "@dataset",
            "save_image": "@save_image",
            "compress": "@compress",
            **({"stacked": "@stack_samples"} if sampled else {}),
        },
        "evaluator": {
            "_target_": f"monai_stochseg.bundle.{'make_predictor' if sampled else 'make_answer_predictor'}",
            "task": "@task",
            "network": "@network",
            "options": "@options",
            "dataset": "@dataset",
            "checkpoint": "@checkpoint",
            "postprocessing": "@postprocessing",
            "inferer": "@inferer",
            **({"num_samples": "@eval_samples", "expected_entropy": "@mutual_information"} if sampled else {}),
            "volumes": "$@prediction_dir + '/volumes.csv'",
            "recorder": "@recorder",
        },
        # the second, so that MONAI's workflow knows its root before others ask for what lies in it
        "initialize": ["$monai_stochseg.bundle.start_run(@device, @seed)", "$@bundle_root"],
        "run": "$@evaluator.run()",
        "finalize": "$monai_stochseg.bundle.end_run()",
    }


def packed_inference(train: dict[str, Any], checkpoint: str) -> dict[str, Any]:
    """
    The configuration of inference of a packed bundle, whose ids give what MONAI's tools take them for: ``network_def``
    maps an image to the logits of the single answer, and ``inferer`` a network and an image to logits.
    """
    config = {**inference(train), "checkpoint": checkpoint}
    # MONAI Label prefers these names to preprocessing and postprocessing
    config["pre_transforms"] = ["$monai_stochseg.bundle.ServerCase(@task, @preprocessing)"]
    config["post_transforms"] = ["$monai_stochseg.bundle.ServerAnswer(@preprocessing)"]
    if "eval_samples" not in config:
        return config
    config["imports"] = ["$import monai", *config["imports"]]
    config["network_def"] = {
        "_target_": "monai_stochseg.networks.export.SingleAnswer",
        "network": config["network_def"],
    }
    config["network"] = "$monai_stochseg.bundle.prepare_network(@network_def.network, @device)"
    config["inferer"] = "$@task.inferer(@overlap) or monai.inferers.SimpleInferer()"
    config["evaluator"] = {
        **config["evaluator"],
        "inferer": "$monai_stochseg.inferers.PredictiveInferer(@inferer)",
    }
    return config


def _with_references(own: dict[str, Any], train: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The ids in the order of the training's file, with all that they refer to."""
    ids = dict(own)
    missing: set[str] = {""}
    while missing:
        found = set(re.findall(r"[@%]([A-Za-z_]\w*)", json.dumps({**ids, **given})))
        missing = {key for key in found if key in train and key not in ids and key not in given}
        ids |= {key: train[key] for key in missing}
    return {**{key: ids[key] for key in train if key in ids}, **given}


def dumps(config: dict[str, Any], width: int = 120) -> str:
    """JSON with an object or a list on one line where it fits; nobody edits these files, so that lines may be long."""
    return _dumps(config, 0, width, 0) + "\n"


def _dumps(value: Any, indent: int, width: int, used: int) -> str:
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or (indent and used + len(line) < width):
        return line
    inner = " " * (indent + 4)
    if isinstance(value, dict):
        keys = {key: f"{inner}{json.dumps(key, ensure_ascii=False)}: " for key in value}
        rows = [text + _dumps(value[key], indent + 4, width, len(text)) for key, text in keys.items()]
        return "{\n" + ",\n".join(rows) + "\n" + " " * indent + "}"
    rows = [inner + _dumps(entry, indent + 4, width, len(inner)) for entry in value]
    return "[\n" + ",\n".join(rows) + "\n" + " " * indent + "]"
