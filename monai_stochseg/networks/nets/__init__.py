# SPDX-License-Identifier: Apache-2.0
"""Networks, one a file."""

from .augmentation_sampler import TestTimeAugmentation, augmentation_transform
from .bayesian_probabilistic_unet import BayesianProbabilisticUNet
from .bilinear_unet import BilinearUNet
from .black_box import BlackBox
from .calibrated_adversarial_refinement import CalibratedAdversarialRefinement
from .calibration_network import BlackBoxCalibrationNetwork, CalibrationNetwork
from .deepmedic import DeepMedic
from .dropout_unet import DropoutUNet, MonteCarloDropout
from .ensemble import Ensemble, UNetEnsemble
from .flow_ssn import FlowSSN
from .given_probabilities import GivenProbabilities
from .hierarchical_probabilistic_unet import HierarchicalProbabilisticUNet
from .image_to_image_vae import Image2ImageVAE
from .mheads_unet import MHeads, MHeadsUNet
from .mixture_of_stochastic_experts import MixtureOfStochasticExperts, MixtureOfStochasticExpertsUNet
from .null_sampler import DeterministicSampler, IndependentSampler, ThresholdSampler
from .phiseg import PHiSeg
from .probabilistic_unet import ProbabilisticUNet
from .refinement_discriminator import RefinementDiscriminator
from .refinement_network import RefinementNetwork
from .stochastic_segmentation_network import StochasticSegmentationNetwork
from .temperature_scaled import TemperatureScaled

__all__ = [
    "BayesianProbabilisticUNet",
    "BilinearUNet",
    "BlackBox",
    "BlackBoxCalibrationNetwork",
    "CalibratedAdversarialRefinement",
    "CalibrationNetwork",
    "DeepMedic",
    "DeterministicSampler",
    "DropoutUNet",
    "Ensemble",
    "FlowSSN",
    "GivenProbabilities",
    "HierarchicalProbabilisticUNet",
    "Image2ImageVAE",
    "IndependentSampler",
    "MHeads",
    "MHeadsUNet",
    "MixtureOfStochasticExperts",
    "MixtureOfStochasticExpertsUNet",
    "MonteCarloDropout",
    "PHiSeg",
    "ProbabilisticUNet",
    "RefinementDiscriminator",
    "RefinementNetwork",
    "StochasticSegmentationNetwork",
    "TemperatureScaled",
    "TestTimeAugmentation",
    "ThresholdSampler",
    "UNetEnsemble",
    "augmentation_transform",
]
