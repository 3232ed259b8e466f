# SPDX-License-Identifier: Apache-2.0
"""Methods and tasks with their sizes overridden to seconds."""

from __future__ import annotations

from typing import Any, NamedTuple

RUN: dict[str, Any] = {
    "max_epochs": 2,
    "val_interval": 1,
    "images_per_epoch": 2,
    "batch_size": 2,
    "device": "cpu",
}
SAMPLES = {"eval_samples": 3, "test_samples": 3}
# Of each task, by its overlay.
HALVES = {"split_fractions": [0.5, 0.25, 0.25]}
TASKS: dict[str, dict[str, Any]] = {
    "brats": {"roi_size": [24, 24, 24], "patch_size": [16, 16, 16], **HALVES},
    "brats_whole": {"roi_size": [24, 24, 24], **HALVES},
    "cityscapes": {"spatial_size": [32, 64], "crop_size": [24, 24]},
    "kits": {"roi_size": [16, 32, 32], **HALVES},
    "lidc": {},
    "lidc_3d": {},
    "prostatex": {"roi_size": [16, 32, 32], **HALVES},
}


class Method(NamedTuple):
    """The bundle that a method is of, and its ids."""

    bundle: str
    ids: dict[str, Any]
    soft: bool = False


_NET = {"channels": [2, 4]}
_SSN = {"rank": 2, "num_samples": 3, "pretrain_epochs": 1, **SAMPLES, **_NET}
_PROBUNET = {"latent_dim": 2, **SAMPLES, **_NET}
_PHISEG = {"latent_levels": 2, **SAMPLES, **_NET}
_HPROBUNET = {"latent_dims": [1], "blocks_per_level": 1, **SAMPLES, **_NET}
_SUPERVISED = {"latent_dim": 2, "num_samples": 2, **SAMPLES, **_NET}
_FLOWSSN = {"flow_channels": [4, 4], "num_steps": 2, **SAMPLES, **_NET}
_MOSE = {"num_experts": 3, "num_samples": 1, **SAMPLES, **_NET}
_CAR = {"num_samples": 2, "d_on": 1, "d_off": 1, **SAMPLES, **_NET}
_BASELINES = ("deterministic", "threshold", "independent", "tta", "dropout", "ensemble", "mheads", "image2image_vae")
_SOFT = {"channels": [2, 4], "strides": [2]}
METHODS = {
    "ssn": Method("ssn_lidc", _SSN),
    "ssn_diagonal": Method("ssn_lidc", {**_SSN, "diagonal": True}),
    "ssn_unet": Method("ssn_brats", {**_SSN, "strides": [2], "feature_channels": 4}),
    "probunet": Method("probunet_lidc", _PROBUNET),
    "probunet_fixed_prior": Method("probunet_lidc", {**_PROBUNET, "fixed_prior": True}),
    "probunet_posterior_of_label": Method("probunet_lidc", {**_PROBUNET, "posterior_image": False}),
    "probunet_latent_at_input": Method("probunet_lidc", {**_PROBUNET, "latent_at_input": True}),
    "phiseg": Method("phiseg_lidc", _PHISEG),
    "hprobunet": Method("hprobunet_lidc", _HPROBUNET),
    "flowssn": Method("flowssn_lidc", _FLOWSSN),
    "supervised_uncertainty": Method("supervised_uncertainty_lidc", _SUPERVISED),
    "mose": Method("mose_lidc", _MOSE),
    "car": Method("car_lidc", _CAR),
    **{name: Method("baselines_lidc", {"method": name, "num_hypotheses": 2, **SAMPLES, **_NET}) for name in _BASELINES},
    "onehot": Method("svls_brats", {**_SOFT, "target": "onehot"}, soft=True),
    "ls": Method("svls_brats", {**_SOFT, "target": "ls"}, soft=True),
    "svls": Method("svls_brats", {**_SOFT, "target": "svls"}, soft=True),
    "msvls": Method("msvls_lidc", {**_SOFT, "target": "msvls"}, soft=True),
}
# Each bundle at home.
HOME: dict[str, dict[str, Any]] = {
    "baselines_lidc": {"num_hypotheses": 2, **SAMPLES, **_NET},
    "car_lidc": _CAR,
    "flowssn_lidc": _FLOWSSN,
    "hprobunet_lidc": _HPROBUNET,
    "mose_cityscapes": {
        **_NET,
        **TASKS["cityscapes"],
        "num_experts": 3,
        "num_samples": 2,
        "latent_dim": 2,
        "gamma": [[1, 0.5], [2, 1.0]],
    },
    "mose_lidc": _MOSE,
    "msvls_lidc": _SOFT,
    "phiseg_lidc": _PHISEG,
    "probunet_lidc": _PROBUNET,
    "ssn_brats": {**METHODS["ssn_unet"].ids, **TASKS["brats"], "patches_per_image": 2},
    "ssn_lidc": _SSN,
    "supervised_uncertainty_lidc": _SUPERVISED,
    "svls_brats": {**_SOFT, **TASKS["brats_whole"]},
    "svls_kits": {**_SOFT, **TASKS["kits"]},
    "svls_prostatex": {**_SOFT, **TASKS["prostatex"]},
}
HOME_TASK = {
    **dict.fromkeys(
        (
            "baselines_lidc",
            "car_lidc",
            "flowssn_lidc",
            "hprobunet_lidc",
            "mose_lidc",
            "phiseg_lidc",
            "probunet_lidc",
            "ssn_lidc",
            "supervised_uncertainty_lidc",
        ),
        "lidc",
    ),
    "mose_cityscapes": "cityscapes",
    "msvls_lidc": "lidc_3d",
    "ssn_brats": "brats",
    "svls_brats": "brats_whole",
    "svls_kits": "kits",
    "svls_prostatex": "prostatex",
}
