# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from monai_stochseg.metrics import EntropyDecompositionMetric, compute_entropy_decomposition
from monai_stochseg.transforms import PredictiveEntropy

LOG2 = math.log(2)


def foreground(*samples: float) -> torch.Tensor:
    """Probabilities ``[1, N, 2, 1]`` of one voxel."""
    return torch.tensor([[[[1 - p], [p]] for p in samples]])


@pytest.mark.parametrize(
    ("y_pred", "options", "predictive", "expected"),
    [
        (foreground(0.5, 0.5), {}, LOG2, LOG2),
        (foreground(0.0, 1.0), {}, LOG2, 0),
        (foreground(0.0, 0.0), {}, 0, 0),
        # the mean is 3/4, the second sample is certain
        (foreground(0.5, 1.0), {}, 2 * LOG2 - 0.75 * math.log(3), LOG2 / 2),
        (foreground(0.5, 1.0), {"y_pred_weights": torch.tensor([[1.0, 0.0]])}, LOG2, LOG2),
        (torch.tensor([[[0], [1]]]), {"num_classes": 2}, LOG2, 0),
        (torch.tensor([[[0], [0]]]), {"num_classes": 3}, 0, 0),
    ],
)
def test_by_hand(y_pred: torch.Tensor, options: dict, predictive: float, expected: float) -> None:
    parts = compute_entropy_decomposition(y_pred, **options)
    for part, value in zip(parts, (predictive, expected, predictive - expected), strict=True):
        assert part.shape == (1, 1, 1)
        torch.testing.assert_close(part.item(), float(value), rtol=0, atol=1e-6)


def test_identities() -> None:
    s = (3 * torch.randn(2, 5, 4, 3, 3, 2)).softmax(2)
    parts = compute_entropy_decomposition(s)
    torch.testing.assert_close(parts.predictive, torch.stack([PredictiveEntropy()(p) for p in s.mean(1)]))
    # the mean divergence of the samples from their mean
    divergence = (s * (s / s.mean(1, keepdim=True)).log()).sum(2).mean(1, keepdim=True)
    torch.testing.assert_close(parts.mutual_information, divergence, rtol=0, atol=1e-5)
    torch.testing.assert_close(parts.predictive, parts.expected + parts.mutual_information)
    same = compute_entropy_decomposition(s[:, :1].repeat(1, 3, 1, 1, 1, 1))
    torch.testing.assert_close(same.mutual_information, torch.zeros(2, 1, 3, 3, 2), rtol=0, atol=1e-6)


def test_label_maps_are_certain_probabilities() -> None:
    s, weights = torch.randint(4, (2, 5, 3, 3)).to(torch.uint8), torch.rand(2, 5).softmax(1)
    probabilities = F.one_hot(s.long(), 4).movedim(-1, 2).float()
    for a, b in zip(
        compute_entropy_decomposition(s, num_classes=4, y_pred_weights=weights),
        compute_entropy_decomposition(probabilities, y_pred_weights=weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_groups_that_share_weights_by_hand() -> None:
    """
    Two draws of the weights, two samples with each: 0 and 1, then 1 and 1. Given the weights the foreground has 1/2 and
    1, so that log 2 / 2 is aleatoric; of all four it has 3/4, and the rest of that entropy is epistemic.
    """
    whole = 2 * LOG2 - 0.75 * math.log(3)
    soft = compute_entropy_decomposition(foreground(0.0, 1.0, 1.0, 1.0), num_groups=2)
    hard = compute_entropy_decomposition(torch.tensor([[[0], [1], [1], [1]]]), num_classes=2, num_groups=2)
    for parts in (soft, hard):
        torch.testing.assert_close(torch.cat(parts).flatten(), torch.tensor([whole, LOG2 / 2, whole - LOG2 / 2]))
    of_weights_alone = compute_entropy_decomposition(foreground(0.0, 0.0, 1.0, 1.0), num_groups=2)
    torch.testing.assert_close(torch.cat(of_weights_alone).flatten(), torch.tensor([LOG2, 0.0, LOG2]))
    of_latent_alone = compute_entropy_decomposition(foreground(0.0, 1.0, 0.0, 1.0), num_groups=2)
    torch.testing.assert_close(torch.cat(of_latent_alone).flatten(), torch.tensor([LOG2, LOG2, 0.0]))
    one = compute_entropy_decomposition(foreground(0.0, 1.0, 1.0, 1.0), num_groups=1)
    torch.testing.assert_close(torch.cat(one).flatten(), torch.tensor([whole, whole, 0.0]))


def test_groups_of_one_sample_are_the_samples() -> None:
    s, weights = (3 * torch.randn(2, 4, 3, 5)).softmax(2), torch.tensor([[1.0, 2.0, 0.0, 1.0]] * 2)
    options = {"y_pred_weights": weights}
    for a, b in zip(
        compute_entropy_decomposition(s, num_groups=4, **options), compute_entropy_decomposition(s, **options),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(a, b)


def test_weights_within_and_of_groups() -> None:
    """The second group weighs nothing; in the first the second sample weighs three times the first."""
    s = foreground(0.0, 1.0, 0.5, 0.5)
    parts = compute_entropy_decomposition(s, num_groups=2, y_pred_weights=torch.tensor([[1.0, 3.0, 0.0, 0.0]]))
    whole = 2 * LOG2 - 0.75 * math.log(3)
    torch.testing.assert_close(torch.cat(parts).flatten(), torch.tensor([whole, whole, 0.0]))
    value = EntropyDecompositionMetric(num_groups=2)(s, y_pred_weights=torch.tensor([[1.0, 3.0, 0.0, 0.0]]))
    torch.testing.assert_close(value, torch.tensor([[whole, whole, 0.0]]))


@pytest.mark.parametrize(
    ("y_pred", "options", "message"),
    [
        (foreground(0.5, 1.0, 1.0), {"num_groups": 2}, "y_pred must have a multiple of num_groups=2 samples, got 3"),
        (foreground(0.5, 1.0), {"num_groups": 0}, "num_groups must be at least 1, got 0"),
        (torch.zeros(1, 2, 3), {}, r"shape \[B, N, C, \*S\] with C of at least 2, got \(1, 2, 3\)"),
        (torch.randn(1, 2, 2, 3), {}, "y_pred must hold probabilities that sum to 1"),
        (torch.tensor([[[0, 3]]]), {"num_classes": 3}, "y_pred has label 3, outside the 3 classes"),
        (torch.tensor([[[0, 1]]]), {"num_classes": 1}, "num_classes .* at least 2, got 1"),
        (
            foreground(0.5, 1.0),
            {"y_pred_weights": torch.zeros(1, 2)},
            "y_pred_weights must be",
        ),
    ],
)
def test_rejects(y_pred: torch.Tensor, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_entropy_decomposition(y_pred, **options)


def test_metric() -> None:
    metric = EntropyDecompositionMetric(num_classes=2, get_not_nans=True)
    assert metric.names == ["predictive", "expected", "mutual_information"]
    s = torch.tensor([[[0, 0], [0, 1]]])  # the samples differ in the second voxel
    torch.testing.assert_close(metric(s, None), torch.tensor([[LOG2 / 2, 0.0, LOG2 / 2]]))
    metric([s[0], s[0]], mask=torch.tensor([[[0, 1]], [[0, 0]]]))
    values, not_nans = metric.aggregate()
    torch.testing.assert_close(values, torch.tensor([0.75 * LOG2, 0.0, 0.75 * LOG2]))
    assert not_nans.tolist() == [2, 2, 2]
    soft = EntropyDecompositionMetric()(foreground(0.5, 0.5), y_pred_weights=torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(soft, torch.tensor([[LOG2, LOG2, 0.0]]))
    with pytest.raises(ValueError, match="y must be None"):
        metric(s, s.clone())
