# SPDX-License-Identifier: Apache-2.0
"""One right call of each public name: what its arguments look like where they are right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, RandFlip
from monai.utils import LossReduction
from torch import nn

from monai_stochseg.data import RaterLayout
from monai_stochseg.distributions import (
    BayesianOutput,
    DeterministicDistribution,
    ExpertSamples,
    FlowOutput,
    Gaussian,
    LatentLevel,
    LatentOutput,
    RefinementOutput,
)
from monai_stochseg.metrics import LabelMapDistance
from monai_stochseg.networks.nets import (
    BilinearUNet,
    CalibratedAdversarialRefinement,
    DeterministicSampler,
    FlowSSN,
    IndependentSampler,
    MHeadsUNet,
    MixtureOfStochasticExpertsUNet,
    PHiSeg,
    ProbabilisticUNet,
    RefinementNetwork,
    StochasticSegmentationNetwork,
    ThresholdSampler,
)

B, R, N, C, RANK, LATENT, EXPERTS = 2, 2, 4, 3, 2, 2, 2
SIZE = (8, 9)


@dataclass
class Good:
    """
    Arguments of a constructor, None for a function, and of the methods that are called, by their names.

    Where a parameter is not given here, its default is the right value.
    """

    init: Mapping[str, Any] | None
    calls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def function(**arguments: Any) -> Good:
    return Good(None, {"__call__": arguments})


def called(init: Mapping[str, Any], **arguments: Any) -> Good:
    return Good(init, {"__call__": arguments})


def _labels(*shape: int, classes: int = C) -> torch.Tensor:
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(sum(shape)))


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _uniform(*shape: int) -> torch.Tensor:
    return torch.full(shape, 1 / shape[-1])


def _discriminator(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (y.square() + x.repeat(len(y) // len(x), 1, 1, 1).square()).flatten(1).sum(1, keepdim=True)


def _decoder(z: torch.Tensor) -> torch.Tensor:
    return torch.ones(1, C, *SIZE) * z.sum(1).reshape(-1, 1, 1, 1)


def _answer(x: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    return x[:, :1].expand(-1, C, *x.shape[2:])


def _categorical(y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return (y * t.reshape(-1, *[1] * (y.ndim - 1))).softmax(1)


def _distance(self_pairs: bool = False) -> dict[str, Any]:
    options = {"distance": LabelMapDistance(C)}
    return options | {"self_pairs": True} if self_pairs else options


class _TwoMaps(nn.Module):
    """A backbone that gives global and dense features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.conv(x)
        return features, features


class _Field(nn.Module):
    """A flow."""

    def forward(self, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return _categorical(y, t)


@cache
def good_calls(folder: Path) -> dict[str, Good]:
    """
    The table, by public name.

    Args:
        folder: to write the few files that loading transforms read.
    """
    networks = {**_networks(), **_exports()}
    return {**_distributions(), **_losses(), **_metrics(), **_transforms(folder), **networks, **_inferers()}


def _distributions() -> dict[str, Good]:
    logits, mask = _normal(B, C, *SIZE), torch.ones(B, 1, *SIZE)
    draws = {"sample_logits": {"n": 2, "generator": _generator()}, "mode_logits": {}}
    conv = nn.Sequential(nn.Conv2d(1, C, 1), nn.Dropout())
    vector = torch.zeros(B, LATENT)
    inferer = SlidingWindowInferer((8, 9), sw_batch_size=1)
    factor = _normal(B, RANK, C, *SIZE)
    return {
        "AncestralDistribution": Good({"decoder": lambda choose: choose(0, Gaussian(logits, logits))}, draws),
        "AugmentedDistribution": Good(
            {"answer": _answer, "x": _normal(B, 1, *SIZE), "transform": Compose([RandFlip(prob=1.0)])}, draws
        ),
        "BayesianLatentDistribution": Good(
            {"mean": vector, "log_std": vector, "draw_decoder": lambda generator: _decoder, "mean_decoder": _decoder},
            {**draws, "given_weights": {"generator": _generator()}, "given_latent": {"generator": _generator()}},
        ),
        "DeterministicDistribution": Good({"logits": logits}, draws),
        "IndependentDistribution": Good({"logits": logits}, draws),
        "ScaledDistribution": Good(
            {"distribution": DeterministicDistribution(logits), "scale": torch.ones(C), "bias": torch.zeros(C)}, draws
        ),
        "ThresholdDistribution": Good({"logits": logits, "order": [0, 1, 2]}, draws),
        "DropoutDistribution": Good({"network": conv, "x": _normal(B, 1, *SIZE)}, draws),
        "ExpertMixtureDistribution": Good(
            {
                "gate": _uniform(B, EXPERTS),
                "mean": torch.zeros(EXPERTS, LATENT),
                "log_std": torch.zeros(EXPERTS),
                "decoder": _decoder,
                "num_samples": 2,
            },
            {"sample_logits": {"n": 4, "generator": _generator()}, "mode_logits": {}},
        ),
        "FlowDistribution": Good(
            {"mean": logits, "categorical": _categorical, "num_steps": 2},
            {**draws, "decode": {"noise": _normal(B, 2, C, *SIZE)}, "ends": {"noise": _normal(B, 2, C, *SIZE)}},
        ),
        "integrate_flow": function(categorical=_categorical, start=logits, num_steps=2),
        "HypothesesDistribution": Good({"logits": _normal(B, N, C, *SIZE), "weights": _uniform(B, N)}, draws),
        "LatentDistribution": Good(
            {"mean": vector, "log_std": vector, "decoder": _decoder},
            {
                **draws,
                "sample_latents": {"n": 2, "generator": _generator()},
                "decode": {"latents": torch.zeros(B, 2, LATENT)},
            },
        ),
        "LowRankNormal": Good(
            {"mean": logits, "cov_factor": factor, "log_diag": logits, "mask": mask, "eps": 1e-5},
            {
                **draws,
                "from_parameters": {
                    "parameters": _normal(B, C * (2 + RANK), *SIZE),
                    "out_channels": C,
                    "rank": RANK,
                    "mask": mask,
                    "eps": 1e-5,
                },
                "rsample": {"n": 2, "antithetic": True, "generator": _generator()},
                "scaled": {"temperature": 1.0, "class_scale": [1.0] * C, "rank_scale": [1.0] * RANK},
            },
        ),
        "MaskedDistribution": Good({"distribution": DeterministicDistribution(logits), "mask": mask}, draws),
        "RefinedDistribution": Good(
            {"mean": vector, "log_std": vector, "decoder": _decoder, "calibration_logits": logits}, draws
        ),
        "WindowedDistribution": Good(
            {"image": _normal(B, 1, *SIZE), "predictive": _predictive, "inferer": inferer}, draws
        ),
        "autocast_mode": function(device=torch.device("cpu")),
        "check_labels": function(
            maps=_labels(B, R, *SIZE), num_classes=C, ignore_index=255, name="maps", weights=_uniform(B, R)
        ),
        "check_weights": function(weights=_uniform(B, R), maps=_labels(B, R, *SIZE), name="weights"),
        "draw_latent": function(mean=vector, log_std=vector, generator=_generator()),
        "draw_map": function(weights=_uniform(B, R), generator=_generator()),
        "draw_noise": function(seed=1, n=2, rank=2, like=logits),
        "draw_seeds": function(n=2, generator=_generator()),
        "full_precision": function(x=logits),
        "split_parameters": function(parameters=_normal(B, C * (2 + RANK), *SIZE), out_channels=C, rank=RANK),
        "weights_of": function(maps=_labels(B, R, *SIZE)),
        "with_weights": function(maps=_labels(B, R, *SIZE), weights=_uniform(B, R)),
    }


def _predictive(window: torch.Tensor) -> DeterministicDistribution:
    return DeterministicDistribution(window.repeat(1, C, 1, 1))


def _losses() -> dict[str, Good]:
    logits, target, weights = _normal(B, C, *SIZE), _labels(B, R, *SIZE), _uniform(B, R)
    rated = {"target": target, "rater_weights": weights}
    vector = torch.zeros(B, LATENT)
    soft = logits.softmax(1)
    samples = _normal(B, N, C, *SIZE)
    level = LatentLevel(Gaussian(vector, vector), Gaussian(vector, vector))
    calibrated = RefinementOutput(samples, soft, vector, vector)
    void = {"ignore_index": 255}
    costs = {"logits": samples, "labels": target, "valid": torch.ones_like(target, dtype=torch.bool)}
    pair = {"x": logits, "real": soft, "fake": soft}
    return {
        "CalibrationLoss": called({}, input=samples.softmax(2), target=soft, mask=torch.ones(B, 1, *SIZE)),
        "ConsistencyLoss": called(void, input=calibrated, **rated),
        "DiscriminatorLoss": called({}, discriminator=_discriminator, **pair),
        "ELBOLoss": called(
            {**void, "target_reconstruction": 1.0, "level_weights": [2.0], "top_k": 0.5},
            input=LatentOutput(logits, (level,), torch.zeros(B, dtype=torch.long), (logits,)),
            generator=_generator(),
            **rated,
        ),
        "FlowMatchingLoss": called(void, input=FlowOutput(logits, torch.zeros(B, dtype=torch.long)), **rated),
        "LogitAdversarialLoss": called({}, input=_normal(B, 1), target_is_real=True, for_discriminator=True),
        "MultipleHypothesesLoss": called(void, input=samples, **rated),
        "OptimalTransportLoss": called(
            {**void, "share_threshold": 0.5}, input=ExpertSamples(samples, _uniform(B, N), EXPERTS), **rated
        ),
        "RaterCrossEntropyLoss": called(void, input=logits, **rated),
        "SSNLoss": called(
            {"out_channels": C, "rank": RANK, "num_samples": 4, **void, "reduction": LossReduction.MEAN},
            input=_normal(B, C * (2 + RANK), *SIZE),
            mask=torch.ones(B, 1, *SIZE),
            generator=_generator(),
            **rated,
        ),
        "SoftDiceCELoss": called({"dice_weight": [1.0] * C}, input=logits, target=soft, rater_weights=weights),
        "SupervisedUncertaintyLoss": called(
            {"num_images": 4, **void},
            input=BayesianOutput(
                LatentOutput(logits, (level,), torch.zeros(B, dtype=torch.long)), samples, (Gaussian(vector, vector),)
            ),
            **rated,
        ),
        "log_uniform_kl": function(mean=vector + 1, log_std=vector),
        "cross_entropy_cost": function(**costs),
        "iou_cost": function(**costs),
        "fit_temperature": function(logits=logits, **rated, ignore_index=255),
        "gaussian_kl": function(
            posterior_mean=vector, posterior_log_std=vector, prior_mean=vector, prior_log_std=vector
        ),
        "r1_penalty": function(discriminator=_discriminator, inputs=(logits, soft)),
        "rater_cross_entropy": function(logits=samples, **rated, **void),
        "solve_coupling": function(cost=_normal(B, N, R).abs(), v=_uniform(B, R), gamma=0.5),
    }


def _metrics() -> dict[str, Good]:
    y_pred, y = _labels(B, N, *SIZE), _labels(B, R, *SIZE)
    maps = {"y_pred": y_pred, "y": y}
    weighted = {**maps, "y_pred_weights": _uniform(B, N), "y_weights": _uniform(B, R)}
    soft, mask = _normal(B, C, *SIZE).softmax(1), torch.ones(B, 1, *SIZE)
    rated = {"y": y, "y_weights": _uniform(B, R), "mask": mask}
    regions, classes = {"one": (1,), "all": (1, 2)}, {"classes": [1, 2]}
    spacing2, spacing3 = {"spacing": torch.ones(B, 2)}, {"spacing": torch.ones(B, 3)}
    options, top = {"num_bins": 4}, {"classes": [1, 2], "ignore_index": 255}
    one = {"y_pred": y_pred, "y_pred_weights": _uniform(B, N)}
    switches = {"switches": {1: (2, 0.5)}}
    uncertain = {**weighted, "mask": mask}
    return {
        "AdaptiveCalibrationErrorMetric": called({**options, **classes}, y_pred=soft, **rated),
        "AmbiguityAccuracyMetric": called({"ignore_index": 255}, **weighted),
        "BrierScoreMetric": called({}, y_pred=soft, **rated),
        "CaseDiceMetric": called({"regions": regions}, **maps, y_pred_weights=_uniform(B, N)),
        "DiversityCorrelationMetric": called(_distance(True), **weighted),
        "EmptyFractionCorrelationMetric": called({"ignore_index": 255}, **weighted),
        "EnergyDistanceCurveMetric": called({"num_samples": [1, 2], **_distance()}, **maps, y_weights=_uniform(B, R)),
        "EntropyDecompositionMetric": called({"num_classes": C, "num_groups": 2}, **one, y=None, mask=mask),
        "ExpectedCalibrationErrorMetric": called({**options, **top}, y_pred=soft, **rated),
        "GeneralizedEnergyDistanceMetric": called(_distance(True), **weighted),
        "HungarianMatchedIoUMetric": called(_distance(), **weighted),
        "ItemCalibrationErrorMetric": called({**options, **top}, y_pred=soft, **rated),
        "LabelMapDistance": called({"num_classes": C, "ignore_index": 255, "classes": [1, 2]}, maps={"y": y[0]}),
        "MaximumDiceMatchMetric": called(_distance(), **weighted),
        "ModeFrequencyMetric": called({"num_modes": R, **_distance()}, **weighted),
        "PixelFlipRatioMetric": called(switches, **weighted),
        "PredictiveEntropyMetric": called({}, y_pred=soft, y=None, mask=mask),
        "RaterDiceMetric": called({**_distance(), "rater": 0}, **weighted),
        "RegionDiceMetric": called({"regions": regions, "rater": 0}, **maps),
        "RegionSurfaceDiceMetric": called({"regions": regions, "rater": 0}, **maps, **spacing2),
        "SampleDiceMetric": called({"regions": regions}, **maps),
        "SampleDiversityMetric": called(_distance(True), **one, y=None),
        "UncertaintyCorrelationMetric": called({"num_classes": C}, **uncertain),
        "VolumeCRPSMetric": called({"regions": regions}, **weighted, **spacing3),
        "WeightEntropyMetric": called({}, **one, y=None),
        "compute_adaptive_calibration_error": function(y_pred=soft, **rated, **options, **classes),
        "compute_ambiguity": function(**weighted, ignore_index=255),
        "compute_brier_score": function(y_pred=soft, **rated),
        "compute_calibration_bins": function(y_pred=soft, **rated, **options, **top),
        "compute_case_dice": function(regions=regions, **maps, y_pred_weights=_uniform(B, N)),
        "compute_energy_distance_curve": function(**maps, num_samples=[1, 2], **_distance(), y_weights=_uniform(B, R)),
        "compute_entropy_decomposition": function(num_classes=C, num_groups=2, **one),
        "compute_generalized_energy_distance": function(**weighted, **_distance(True)),
        "compute_hungarian_matched_iou": function(**weighted, **_distance()),
        "compute_maximum_dice_match": function(**weighted, **_distance()),
        "compute_mode_frequency": function(**weighted, **_distance()),
        "compute_pairwise_distance": function(x=y_pred, y=y, **_distance()),
        "compute_pixel_flip_ratio": function(**weighted, switches={1: 2}),
        "compute_rank_correlation": function(pairs=_normal(4, 2)),
        "compute_rater_dice": function(**weighted, rater=0, **_distance()),
        "compute_region_dice": function(**maps, regions=regions),
        "compute_region_surface_dice": function(**maps, regions=regions, **spacing2),
        "compute_sample_dice": function(**maps, regions=regions),
        "compute_sample_diversity": function(**one, **_distance(True)),
        "compute_uncertainty_correlation": function(num_classes=C, **uncertain),
        "compute_volume_crps": function(**weighted, regions=regions, **spacing3),
        "expected_calibration_error": function(bins=torch.ones(4, 3), voxels=4),
        "fit_ambiguity_threshold": function(shares=torch.tensor([[0.25, 0.0], [0.5, 0.5]])),
        "reduce_metric": function(values=torch.ones(B, C)),
    }


def _transforms(folder: Path) -> dict[str, Good]:
    label, weights, soft = _labels(R, *SIZE), _uniform(R), _normal(C, *SIZE).softmax(0)
    case = {"label": label, "rater_weights": weights}
    key = {"keys": "label"}
    classes, switches = {"num_classes": C}, {"switches": {1: (2, 0.5)}, "num_classes": C}
    rated = {"label": label, "rater_weights": weights}
    keyed = {**key, "rater_weights_key": "rater_weights"}
    region = torch.ones(1, *SIZE)
    smoothing = {"num_classes": C, "spacing": [1.0, 1.0]}
    return {
        "CheckMinSize": called({"min_size": [4, 4]}, img=soft, name="image"),
        "CheckMinSized": called({"keys": "image", "min_size": [4, 4]}, data={"image": soft}),
        "ClassSwitchModesd": called({**key, **switches}, data={"label": label[:1]}),
        "ClassSwitchProbabilitiesd": called(
            {**key, **switches, "names": "truth", "ignore_index": 255}, data={"label": label[:1]}
        ),
        "FixRater": called({"seed": 0}, name="p", **rated),
        "FixRaterd": called(
            {**keyed, "seed": 0}, data={**case, "image": MetaTensor(soft, meta={"filename_or_obj": "p"})}
        ),
        "LabelSmoothing": called(classes, **rated),
        "LabelSmoothingd": called({**keyed, **classes}, data=case),
        "LoadCased": Good({}),
        "LoadCityscapesd": Good({"spatial_size": [4, 8]}),
        "LoadCropd": Good({"window": [-1000.0, 400.0]}),
        "LoadRaterCased": Good(
            {
                "layout": RaterLayout(),
                "spatial_dims": 2,
                "in_channels": 1,
                "num_classes": C,
                "num_raters": R,
                "rater_names": ["a", "b"],
            }
        ),
        "MajorityVote": called(classes, **rated),
        "MajorityVoted": called({**keyed, **classes}, data=case),
        "MaskLabel": called({}, label=label, mask=region),
        "MaskLabeld": called(key, data={"label": label, "mask": region}),
        "MergeLabelPartsd": called(
            {}, data={"label": MetaTensor(torch.eye(R).reshape(R, 1, R)), "label_classes": [1, 2], "patient": "p"}
        ),
        "NormalizeAboveMean": called({}, img=_normal(2, *SIZE), mask=region),
        "MutualInformationd": called(
            {"keys": "entropy", "expected_keys": "expected", "names": "information"},
            data={"entropy": soft[:1], "expected": 0.5 * soft[:1]},
        ),
        "NormalizeAboveMeand": called({"keys": "img"}, data={"img": _normal(2, *SIZE), "mask": region}),
        "PadRatersd": called({**keyed, "num_raters": 3}, data=case),
        "PredictiveEntropy": called({}, img=soft),
        "PredictiveEntropyd": called({"keys": "img", "names": "entropy"}, data={"img": soft}),
        "RegionProbability": called({"classes": [1]}, img=soft),
        "RegionProbabilityd": called({"keys": "img", "regions": {"a": [1]}}, data={"img": soft}),
        "SaveRasterd": called(
            {"keys": "share", "output_dir": str(folder), "postfixes": "share", "maximum": 1.0},
            data={"share": MetaTensor(soft[:1], meta={"filename_or_obj": "p.png"})},
        ),
        "RandClassSwitch": called(switches, label=label),
        "RandClassSwitchd": called({**key, **switches}, data={"label": label}),
        "RandRater": called({}, **rated),
        "RandRaterd": called(keyed, data=case),
        "STAPLE": called(classes, label=label, rater_mask=torch.ones(R)),
        "STAPLEd": called({**key, **classes, "rater_mask_key": "rater_weights"}, data=case),
        "SVLS": called(smoothing, **rated),
        "SVLSd": called({**keyed, **smoothing}, data=case),
        "StackRatersd": called(
            {"keys": ["a", "b"], "rater_weights_key": "rater_weights"}, data={"a": label[:1], "b": label[1:]}
        ),
        "class_switch_modes": function(label=label[:1], **switches),
        "class_switch_probabilities": function(label=label[:1], **switches, ignore_index=255),
        "spatially_varying_label_smoothing": function(**rated, **smoothing),
    }


def _networks() -> dict[str, Good]:
    image, target = _normal(B, 1, *SIZE), _labels(B, R, *SIZE)
    channels = [4, 6]
    sizes = {"spatial_dims": 2, "in_channels": 1, "out_channels": C}
    unet = {**sizes, "channels": channels, "norm": "BATCH"}
    backbone = {"backbone": nn.Conv2d(1, 4, 1), "feature_channels": 4, "out_channels": C, "spatial_dims": 2}
    given = {"core": nn.Conv2d(1, 4, 1), "feature_channels": 4}
    answer = nn.Conv2d(1, C, 1)
    dropout = nn.Sequential(nn.Conv2d(1, C, 1), nn.Dropout())
    forward = {"forward": {"x": image}}
    both = {**forward, "predictive": {"x": image}}
    rated = {
        "forward": {"x": image, "y": target, "rater_weights": _uniform(B, R), "generator": _generator()},
        "prior": {"x": image},
        "posterior": {"x": image, "y": target[:, :1]},
        "predictive": {"x": image},
    }
    hierarchy = {
        "forward": rated["forward"],
        "reconstruct": {"x": image, "y": target[:, :1]},
        "predictive": {"x": image},
    }
    logits = _normal(B, C, *SIZE)
    masked = {**both, "distribution": {"logits": logits, "mask": torch.ones(B, 1, *SIZE)}}
    refined = {"num_samples": 2, "generator": _generator()}
    experts = {
        **both,
        "forward": {"x": image, "generator": _generator()},
        "gate": {"x": image},
        "predictive": {"x": image, "gate": _uniform(B, EXPERTS)},
    }
    mixture = {"num_experts": EXPERTS, "num_samples": 2}
    soft = logits.softmax(1)
    return {
        "BayesianProbabilisticUNet": Good({**unet, "latent_dim": 2, "num_samples": 2, **given}, rated),
        "BilinearUNet": Good(unet, forward),
        "BlackBox": Good({"network": answer}, forward),
        "BlackBoxCalibrationNetwork": Good({**sizes, "channels": 4}, forward),
        "CalibratedAdversarialRefinement": Good(
            {"calibration": answer, "refinement": RefinementNetwork(2, 1, C, 2, (4, 6))},
            {"forward": {"x": image, **refined}, "calibration_logits": {"x": image}, "predictive": {"x": image}},
        ),
        "CalibrationNetwork": Good({**sizes, "channels": [4], "num_convs": [1]}, forward),
        "DeepMedic": Good(
            {**sizes, "scales": [1], "channels": [4], "fully_connected": [4], "dropout": [0.0, 0.0]},
            {**forward, "output_size": {"input_size": [8, 6]}, "input_size": {"output_size": [6, 4]}},
        ),
        "DeterministicSampler": Good({"network": answer}, masked),
        "FlowSSN": Good(
            {
                "base": answer,
                "out_channels": C,
                "flow": _Field(),
                "flow_channels": channels,
                "num_steps": 2,
                "spatial_dims": 2,
            },
            {"forward": rated["forward"], "mean": {"x": image}, "predictive": {"x": image}},
        ),
        "GivenProbabilities": Good({"out_channels": C}, {"forward": {"x": soft}}),
        "IndependentSampler": Good({"network": answer}, masked),
        "ThresholdSampler": Good({"network": answer, "order": [0, 1, 2]}, masked),
        "TemperatureScaled": Good({"network": answer, "scale": [1.0] * C, "bias": [0.5] * C}, both),
        "TestTimeAugmentation": Good(
            {"network": answer, "transform": Compose([RandFlip(prob=1.0)]), "spatial_dims": 2}, both
        ),
        "augmentation_transform": function(spatial_dims=2),
        "DropoutUNet": Good(unet, both),
        "MonteCarloDropout": Good({"network": dropout}, both),
        "Ensemble": Good({"members": [answer, nn.Conv2d(1, C, 1)]}, both),
        "UNetEnsemble": Good({**unet, "num_members": 2}, both),
        "Image2ImageVAE": Good({**unet, "latent_dim": 2, "core": nn.Conv2d(3, 4, 1), "feature_channels": 4}, rated),
        "MHeads": Good({**backbone, "num_heads": 2}, both),
        "MHeadsUNet": Good({**unet, "num_heads": 2}, both),
        "MixtureOfStochasticExperts": Good(
            {
                **backbone,
                **mixture,
                "backbone": _TwoMaps(),
                "global_channels": 4,
                "head": nn.Conv2d(4, C, 1),
            },
            experts,
        ),
        "MixtureOfStochasticExpertsUNet": Good({**unet, **mixture}, experts),
        "HierarchicalProbabilisticUNet": Good(
            {**sizes, "channels": channels, "latent_dims": [1], "blocks_per_level": 1}, hierarchy
        ),
        "PHiSeg": Good({**unet, "latent_levels": 2}, {**hierarchy, "level_weights": {}}),
        "ProbabilisticUNet": Good({**unet, "latent_dim": 2, **given}, rated),
        "RefinementDiscriminator": Good(
            {"spatial_dims": 2, "in_channels": 1, "num_classes": C, "channels": channels},
            {"forward": {"x": image, "segmentation": soft}},
        ),
        "RefinementNetwork": Good(
            {**sizes, "latent_dim": 2, "channels": channels},
            {"forward": {"x": image, "calibration": soft, **refined}},
        ),
        "StochasticSegmentationNetwork": Good(
            {**backbone, "rank": RANK, "temperature": 2.0, "class_scale": [1.0] * C, "rank_scale": [1.0] * RANK},
            {
                **both,
                "predictive": {"x": image, "mask": torch.ones(B, 1, *SIZE)},
                "distribution": {
                    "parameters": _normal(B, C * (2 + RANK), *SIZE),
                    "mask": torch.ones(B, 1, *SIZE),
                },
            },
        ),
        "LayerFeatures": Good(
            {"network": nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU()), "global_layer": "0", "final_layer": "1"}, forward
        ),
        "NoiseInjection": Good(
            {"feature_channels": 4, "latent_dim": 2},
            {"forward": {"features": _normal(B, 4, *SIZE), "noise": _normal(B, 3, 2)}},
        ),
        "VariationalConv": Good(
            {"spatial_dims": 2, "in_channels": 4, "out_channels": 3},
            {
                "forward": {"x": _normal(B, 4, *SIZE), "generator": _generator()},
                "draw": {"generator": _generator()},
                "given": {"x": _normal(B, 4, *SIZE), "weight": _normal(3, 4, 3, 3)},
            },
        ),
        "pointwise_head": function(spatial_dims=2, in_channels=4, out_channels=C),
        "gives_parameters": function(network=answer),
        "is_predictive": function(network=answer),
    }


def _exports() -> dict[str, Good]:
    image, unet = _normal(B, 1, *SIZE), (2, 1, C, (4, 6))
    backbone, answer = nn.Conv2d(1, 4, 1), nn.Conv2d(1, C, 1)
    car = CalibratedAdversarialRefinement(answer, RefinementNetwork(2, 1, C, 2, (4, 6)))
    methods = {
        "DeterministicExport": (answer, 1),
        "ExpertMixtureExport": (MixtureOfStochasticExpertsUNet(*unet, num_experts=EXPERTS, latent_dim=2), 3),
        "FlowExport": (FlowSSN(answer, C, flow_channels=(4,), num_steps=2), C * math.prod(SIZE)),
        "HierarchyExport": (PHiSeg(*unet, latent_levels=2), 4 * math.prod(SIZE)),
        "HypothesesExport": (MHeadsUNet(*unet, num_heads=2), 2),
        "IndependentExport": (IndependentSampler(answer), math.prod(SIZE)),
        "LatentExport": (ProbabilisticUNet(*unet, latent_dim=2), 2),
        "LowRankNormalExport": (StochasticSegmentationNetwork(backbone, 4, C, RANK), RANK + C * math.prod(SIZE)),
        "RefinementExport": (car, 2),
        "ThresholdExport": (ThresholdSampler(answer), 1),
    }
    return {
        "SingleAnswer": Good(
            {"network": DeterministicSampler(answer), "input_shape": [1, 1, *SIZE]},
            {"forward": {"x": image}, "predictive": {"x": image}},
        ),
        "exportable": function(network=answer),
        **{
            name: Good(
                {"network": network},
                {
                    "forward": {"image": image, "noise": _normal(B, N, size)},
                    "draw_noise": {"image": image, "num_samples": 2, "generator": _generator()},
                    "noise_size": {"spatial_size": SIZE},
                },
            )
            for name, (network, size) in methods.items()
        },
    }


def _inferers() -> dict[str, Good]:
    image, network = _normal(B, 1, *SIZE), BilinearUNet(2, 1, C, (4,))
    sampler = _Sampler(network)
    return {
        "PredictiveInferer": called(
            {"inferer": SlidingWindowInferer((8, 9))}, inputs=image, network=sampler, mask=torch.ones(B, 1, *SIZE)
        ),
        "RaterInferer": called(
            {"num_classes": C, "ignore_index": 255},
            inputs=image,
            network=network,
            label=_labels(B, R, *SIZE),
            rater_weights=_uniform(B, R),
        ),
        "ValidConvolutionInferer": called(
            {"roi_size": [4, 4], "margin": 0, "device": "cpu", "cval": 0.0}, inputs=image, network=network
        ),
        "draw_samples": function(
            distribution=DeterministicDistribution(_normal(B, C, *SIZE)), num_samples=2, generator=_generator()
        ),
    }


class _Sampler(nn.Module):
    """A network that gives a distribution's parameters."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)

    def distribution(self, parameters: torch.Tensor, mask: torch.Tensor | None = None) -> DeterministicDistribution:
        return DeterministicDistribution(parameters)
