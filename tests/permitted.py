# SPDX-License-Identifier: Apache-2.0
"""Values that look wrong and are right where they stand, each with the reason."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple


class Permit(NamedTuple):
    """
    Calls that may pass.

    Args:
        place: pattern of ``room/Name.method``; several are separated by a space.
        argument: pattern of the argument; several are separated by a space.
        wrong: what is wrong about the value, separated by a comma; or a pattern.
        reason: why it is right here.
    """

    place: str
    argument: str
    wrong: str
    reason: str

    def covers(self, room: str, place: str, argument: str, wrong: str) -> bool:
        """Whether a call is one of these."""
        return (
            any(fnmatchcase(f"{room}/{place}", pattern) for pattern in self.place.split())
            and any(fnmatchcase(argument, pattern) for pattern in self.argument.split())
            and any(fnmatchcase(wrong, pattern) for pattern in self.wrong.split(", "))
        )


PERMITTED = [
    Permit(
        "distributions/* networks/* export/* inferers/*",
        "*",
        "NaN, inf",
        "Values of images, logits and parameters are not looked at in a forward pass or a draw: that would wait for "
        "the device. The losses look at them.",
    ),
    Permit("*", "*weights gate v rater_mask", "half", "Weights may be of any type."),
    Permit("*", "*weights", "None", "No weights are uniform ones."),
    Permit("*", "ignore_index", "negative, zero", "Any integer may be the void label."),
    Permit("*", "seed", "negative, zero", "Any integer is a seed."),
    Permit("distributions/*", "name maps_name", "misspelt, empty", "The name stands in messages alone."),
    Permit(
        "distributions/*",
        "logits like x",
        "one axis more",
        "With one more axis it is a volume: distributions are of images of any rank.",
    ),
    Permit("*", "temperature class_scale rank_scale", "negative, zero", "The paper scales from -3 to 3."),
    Permit(
        "distributions/full_precision distributions/weights_of distributions/with_weights",
        "x maps",
        "*",
        "What is done does not depend on shape or values.",
    ),
    Permit("distributions/check_weights", "maps", "*", "Their shape is looked at alone."),
    Permit("distributions/check_labels", "weights", "zeros, negative", "They are such as check_weights returns."),
    Permit("distributions/with_weights", "weights", "*", "They are checked where they are used."),
    Permit(
        "distributions/ExpertMixtureDistribution distributions/HypothesesDistribution "
        "distributions/RefinedDistribution distributions/check_labels",
        "gate mean logits calibration_logits maps",
        "larger batch, smaller size, one axis less",
        "No other argument fixes this size: there is a batch, a latent and an image of any size.",
    ),
    Permit(
        "distributions/draw_noise distributions/split_parameters",
        "like parameters",
        "one axis less, empty batch",
        "Voxels may be flattened, and a draw of nothing is nothing.",
    ),
    Permit(
        "losses/*",
        "beta weight_beta uncertainty_weight eps r1_weight lambda_dice lambda_ce smooth_nr smooth_dr momentum "
        "rater_weighting",
        "zero",
        "0 leaves the term out.",
    ),
    Permit(
        "losses/iou_cost losses/cross_entropy_cost losses/rater_cross_entropy losses/gaussian_kl losses/r1_penalty "
        "losses/log_uniform_kl "
        "losses/DiscriminatorLoss* losses/LogitAdversarialLoss*",
        "logits input x real fake posterior_* prior_* mean log_std",
        "NaN, inf",
        "They are terms of a loss. Who sums them looks at the sum: the loss, or the trainer.",
    ),
    Permit("losses/ELBOLoss*", "input.partial", "empty", "Without deep supervision there are none."),
    Permit("losses/ConsistencyLoss*", "input.mean input.log_std", "NaN, inf", "kind='calibration' does not use them."),
    Permit("losses/SoftDiceCELoss*", "rater_weights", "*", "A soft target has merged its raters: nothing is read."),
    Permit("losses/SoftDiceCELoss* losses/CalibrationLoss*", "target", "not whole", "Probabilities are not whole."),
    Permit("losses/LogitAdversarialLoss*", "input", "one axis *", "Logits of patches have the axes of the patches."),
    Permit("losses/DiscriminatorLoss*", "fake", "larger batch", "There may be several samples of each image."),
    Permit(
        "distributions/draw_*",
        "weights log_std mean",
        "larger size, one axis *, smaller size",
        "It has any number of axes.",
    ),
    Permit("metrics/*", "threshold class_index rater tolerance quantile", "zero", "0 is in range."),
    Permit(
        "metrics/AmbiguityAccuracyMetric* metrics/EmptyFractionCorrelationMetric* metrics/compute_ambiguity "
        "metrics/*Region* metrics/*region* metrics/*ample*ice* metrics/*ase*ice* metrics/VolumeCRPSMetric* "
        "metrics/compute_volume_crps metrics/*ixel*lip*",
        "y_pred y",
        "beyond the classes",
        "How many classes there are is not known: a label outside the structure is another class.",
    ),
    Permit(
        "metrics/*Region* metrics/*region* metrics/*ample*ice* metrics/*ase*ice* metrics/VolumeCRPSMetric* "
        "metrics/compute_volume_crps metrics/*ixel*lip*",
        "y_pred y",
        "negative",
        "A void voxel, which may have a negative label, belongs to no structure.",
    ),
    Permit("metrics/*", "y_pred", "one-hot", "Samples may be any maps: a few of them may be disjoint."),
    Permit("metrics/compute_pairwise_distance", "x y", "one-hot", "Either set may be samples."),
    Permit(
        "metrics/WeightEntropyMetric*",
        "y_pred",
        "one axis less, smaller size, not whole, negative, beyond the classes, NaN, inf",
        "Of the maps only the number counts: their weights are judged.",
    ),
    Permit("metrics/*", "spacing", "one axis less", "One size for each axis, for all items."),
    Permit(
        "metrics/*iversity* metrics/compute_entropy_decomposition",
        "y_pred",
        "one axis less, smaller size",
        "No other argument fixes the size.",
    ),
    Permit("metrics/compute_rank_correlation", "pairs", "NaN, inf, empty batch", "An undefined item is left out."),
    Permit("metrics/fit_ambiguity_threshold", "shares", "NaN", "An undefined item is left out."),
    Permit(
        "metrics/reduce_metric",
        "values",
        "NaN, inf, empty batch, nothing *, one axis more",
        "An undefined value is left out, and MONAI's reduction takes any axes behind the first two.",
    ),
    Permit("transforms/*", "name names rater_weights_key data.patient", "*", "It is written or said, not read."),
    Permit("transforms/*", "alpha", "zero", "0 leaves the target."),
    Permit("transforms/FixRaterd*", "data.image", "*", "Its file name is read alone."),
    Permit("transforms/CheckMinSize*", "img data.image", "NaN, inf", "The size is looked at alone."),
    Permit(
        "transforms/RandClassSwitch* transforms/MaskLabel* transforms/RandRater* transforms/FixRater* "
        "transforms/PadRatersd* transforms/StackRatersd* transforms/class_switch_modes transforms/ClassSwitchModesd*",
        "label data.label data.a data.b",
        "negative, beyond the classes, one-hot",
        "No number of classes is known, or other values, such as void, stay as they are.",
    ),
    Permit(
        "transforms/*", "label data.label data.a data.b", "smaller size, larger batch", "Nothing else fixes the size."
    ),
    Permit("transforms/NormalizeAboveMean*", "img data.img", "larger batch", "Channels are of any number."),
    Permit("transforms/*witch*", "*label", "one axis more", "It is a volume of one rater."),
    Permit(
        "transforms/PredictiveEntropy* transforms/RegionProbability*",
        "*img",
        "one axis less",
        "Voxels may be flattened.",
    ),
    Permit("transforms/RegionProbability", "classes", "longer", "A structure may have several classes."),
    Permit("transforms/SaveRasterd", "output_dir postfixes", "misspelt", "Any text is a name."),
    Permit("transforms/*", "kernel_size", "list", "One size for each axis."),
    Permit("transforms/MergeLabelPartsd*", "data", "empty", "A case without label stays as it is."),
    Permit("transforms/MergeLabelPartsd*", "data.label_classes", "None", "A case without classes stays as it is."),
    Permit("transforms/MergeLabelPartsd*", "data.label", "*", "What LoadCased gives: masks of any size."),
    Permit(
        "networks/ProbabilisticUNet* networks/Image2ImageVAE* networks/PHiSeg* networks/Hierarchical* "
        "networks/FlowSSN* networks/BayesianProbabilisticUNet*",
        "y",
        "not whole, negative, beyond the classes",
        "The loss checks the same labels: to look at them in the forward pass would wait for the device once more.",
    ),
    Permit(
        "networks/RefinementNetwork*",
        "calibration",
        "negative, not normalised",
        "They are a softmax. To look at them would wait for the device at each step.",
    ),
    Permit(
        "networks/MonteCarloDropout.predictive networks/DropoutUNet.predictive "
        "networks/TestTimeAugmentation.predictive",
        "x",
        "one axis more",
        "The network runs when samples are drawn.",
    ),
    Permit("networks/*", "channels scales flow_channels", "longer", "Any number of levels."),
    Permit("networks/*", "dropout gating_level", "zero", "No dropout, and the first level."),
    Permit("networks/TemperatureScaled", "bias", "negative, empty", "Any bias, or none."),
    Permit("networks/augmentation_transform", "rotation scale intensity", "zero", "Such a change is left out."),
    Permit("networks/*", "prior_std", "zero", "Experts are deterministic."),
    Permit("networks/*", "log_std", "negative, zero", "It is the logarithm of a deviation."),
    Permit("networks/VariationalConv*", "x", "larger batch, smaller size", "No other argument fixes these sizes."),
    Permit("networks/*", "gating_level injection_level", "negative, zero", "Levels count from the end as well."),
    Permit("networks/Mixture*", "x", "smaller size", "The gate has no size."),
    Permit("networks/NoiseInjection*", "features", "one axis less, smaller size", "Features have any axes behind F."),
    Permit("networks/gives_parameters networks/is_predictive", "network", "*", "They answer for any object."),
    Permit("export/*", "image", "smaller size", "Where K is the same for any size, nothing else fixes the image's."),
    Permit("inferers/PredictiveInferer*", "inputs mask", "smaller size", "Who reads the mask looks at its size."),
    Permit("inferers/RaterInferer*", "inputs", "*", "Its device is looked at alone."),
    Permit("inferers/RaterInferer*", "label", "smaller size", "Nothing else fixes the size."),
    Permit("inferers/ValidConvolutionInferer*", "roi_size", "negative", "It stands for the whole axis, as in MONAI."),
    Permit("inferers/ValidConvolutionInferer*", "margin cval", "zero, negative", "No margin, and any value to pad."),
    Permit(
        "distributions/integrate_flow", "start", "one axis less, one axis more", "It has any number of axes behind C."
    ),
    Permit("distributions/WindowedDistribution", "noise_channels", "zero", "There is no such noise."),
    Permit(
        "distributions/DeterministicDistribution distributions/*tDistribution distributions/ThresholdDistribution",
        "logits",
        "one axis less",
        "Voxels may be flattened.",
    ),
]
